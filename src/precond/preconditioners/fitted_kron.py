"""Kronecker factors fitted by gradient descent on a Lie group, to gradients or to products of the Hessian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Need, Preconditioner, Scope, Traits, absorbed_before
from precond.math.machine.products import fast_products
from precond.math.norms import largest_eigenvalue, largest_singular_value
from precond.math.tensors.modes import mode_products
from precond.preconditioners.fitting import (
    Criterion,
    check_fit,
    drawn_pair,
    fit_needs,
    keep_finite,
    level,
    may_be_fresh,
    moved_by,
    pair,
    running_bound,
    start_at_size,
    tells,
)
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class FittedKronState:
    """State of `FittedKron`; the modes are the axes longer than one.

    Attributes:
        factors: One ``Q_i`` per mode, ``[batch, n, n]``, or ``[batch, n]`` where it is diagonal.
        bounds: Running bounds on the curvature of the fit, one ``[batch]`` per mode.
        steps: Pairs absorbed, ``[batch]``.
    """

    factors: list[Tensor]
    bounds: list[Tensor]
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class FittedKron(Preconditioner[FittedKronState]):
    """``P = Q^T Q`` with ``Q = Q_1 x ... x Q_k``, fitted online: towards ``E[gg^T]^(-1/2)``, or towards ``|H|^-1``.

    Each pair ``(v, h)`` takes one step of relative gradient descent on ``E[h^T P h + v^T P^-1 v]``, where ``h`` is the
    gradient and ``v`` normal (which ``P g`` white makes least), or ``v`` is a probe and ``h = H v``; in coordinates in
    which neither inverses nor triangular solves occur. A small rotation then keeps ``Q_i`` nearly symmetric. No
    decompositions, and ``P`` is positive definite whatever happens.

    Sources: Pooladzandi and Li (arXiv 2402.04553); the coordinates ``dQ = Q^(1/2) E Q^(3/2)`` are those of the
    published code.

    Attributes:
        lr: Relative step size of the fit, in ``(0, 1)``.
        beta: Decay of the running bounds.
        damping: Standard deviation of the noise that is added to each ``h``, beside its rounding; drawn by a counter.
        max_size: Longer axes get a diagonal factor.
        max_skew: So do axes whose length squared is more than this multiple of the number of entries.
        init_scale: ``Q`` starts as this multiple of the identity; by the size of the first ``h`` unless given.
        criterion: ``"whitening"``, fed gradients, or ``"newton"``, fed probes.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    lr: float = 0.1
    beta: float = 0.9
    damping: float = 1e-9
    max_size: int = 8192
    max_skew: float = 1.0
    init_scale: float | None = None
    criterion: Criterion = "whitening"

    def __post_init__(self) -> None:
        """Check the step size and the criterion."""
        check_fit(self.lr, self.criterion, self.init_scale)

    @property
    def needs(self) -> Need:
        """Gradients or probes."""
        return fit_needs(self.criterion)

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, moving with all that is observed; fitted with random draws."""
        return Traits(fixed=False, traceable=False)

    @property
    def elementwise(self) -> FittedKron:
        """The same fit with diagonal factors."""
        return dataclasses.replace(self, max_size=0)

    def init(self, like: Tensor) -> FittedKronState:
        """Start every factor at the identity."""
        batch, modes = like.shape[0], _modes(like)
        dtype = torch.promote_types(like.dtype, torch.float32)
        entries = like[0].numel()
        scale = 1.0 if self.init_scale is None else self.init_scale ** (1.0 / len(modes))
        factors = []
        for n in modes:
            diagonal = n <= 1 or n > self.max_size or n**2 > self.max_skew * entries
            unit = torch.full((n,), scale, dtype=dtype, device=like.device)
            unit = unit if diagonal else torch.diag(unit)
            factors.append(unit.expand(batch, *unit.shape).clone())
        bounds = [torch.zeros(batch, dtype=dtype, device=like.device) for _ in modes]
        return FittedKronState(factors, bounds, torch.zeros(batch, dtype=torch.int64, device=like.device))

    def observe(self, state: FittedKronState, evidence: Evidence) -> None:
        """Take one step of the fit; a pair that would break a factor is left out."""
        seen = pair(evidence, self.criterion)
        if seen is None:
            return
        v = None if seen[0] is None else self._unrolled(state, seen[0])
        h = self._unrolled(state, seen[1])
        told = tells(v, h)
        if self.init_scale is None and may_be_fresh(state.steps):
            fresh = state.steps == 0
            start_at_size(state.factors, fresh if told is None else fresh & told, v, h, self.damping)
        _, noisy = drawn_pair(v, h, absorbed_before(evidence, state.steps), self.damping)
        state.steps.add_(1 if told is None else told)
        with fast_products(h, h.numel() * max(h.shape[1:])):
            self._fit(state, v, noisy, told)

    def _fit(self, state: FittedKronState, v: Tensor | None, h: Tensor, told: Tensor | None) -> None:
        """Take one step with ``h``, ``[batch, *modes]``, and ``v`` shaped alike, or in the mean over normal ``v``."""
        through = _apply(state.factors, h)
        for mode, (q, bound) in enumerate(zip(state.factors, state.bounds, strict=True)):
            term = _gram(through, q, mode)
            if v is None:
                target = h[0].numel() / h.shape[mode + 1]
                size = (term.amax(-1) if q.ndim == 2 else largest_eigenvalue(term)) + target
                change = (term - target) * q if q.ndim == 2 else torch.baddbmm(q, term, q, beta=-target)
            else:
                against = _gram(v, q, mode)
                size = (term + against).amax(-1) if q.ndim == 2 else largest_eigenvalue(term + against)
                change = (term - against) * q if q.ndim == 2 else torch.bmm(term - against, q)
            new_bound = running_bound(bound, size, self.beta)
            moved = moved_by(q, change, self.lr / new_bound)
            moved = moved if q.ndim == 2 else _towards_symmetric(moved)
            keep_finite(moved, q, new_bound, bound, told)

    def refresh(self, state: FittedKronState) -> Health:
        """Give all factors the same largest entry, which leaves their product as it is."""
        level(state.factors)
        return HEALTHY

    def apply(self, state: FittedKronState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``Q^T Q v``."""
        refuse_shift(self, shift)
        return _apply(state.factors, v.reshape(v.shape[0], *_modes(v))).reshape(v.shape)

    def _unrolled(self, state: FittedKronState, v: Tensor) -> Tensor:
        return v.reshape(v.shape[0], *_modes(v)).to(state.factors[0].dtype)


def _modes(v: Tensor) -> tuple[int, ...]:
    return tuple(n for n in v.shape[1:] if n != 1) or (1,)


def _apply(factors: list[Tensor], v: Tensor) -> Tensor:
    """Return ``Q^T Q v`` for ``v`` of shape ``[batch, *modes]``."""
    matrices = [q if q.ndim == 3 else None for q in factors]
    v = mode_products(mode_products(v, matrices), matrices, transpose=True)
    for mode, q in enumerate(factors):
        if q.ndim == 2:
            v = v * q.square().view(q.shape[0], *(q.shape[1] if i == mode else 1 for i in range(len(factors))))
    return v


def _gram(v: Tensor, q: Tensor, mode: int) -> Tensor:
    """Return the Gram matrix of the unfolding along one mode, or its diagonal where the factor is diagonal."""
    unfolded = v.movedim(mode + 1, 1).flatten(2) if v.ndim > 2 else v.unsqueeze(-1)
    return unfolded.square().sum(-1) if q.ndim == 2 else torch.bmm(unfolded, unfolded.mT)


def _towards_symmetric(q: Tensor, largest: float = 0.125) -> Tensor:
    """Rotate each matrix a little so that it comes nearer to a symmetric, positive definite one; ``Q^T Q`` stays."""
    r = q.mT - q
    r = r / (largest_singular_value(r) + torch.finfo(r.dtype).tiny)[:, None, None]
    rq = torch.bmm(r, q)
    rrq = torch.bmm(r, rq)
    slope, bend = (m.diagonal(dim1=-2, dim2=-1).sum(-1) for m in (rq, rrq))
    step = torch.where(bend < 0, (-slope / bend).clamp(max=largest), largest)[:, None, None]
    return torch.addcmul(q, rrq.mul_(0.5 * step).add_(rq), step)
