"""Kronecker factors fitted by gradient descent on a Lie group, so that they whiten the gradient."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, BadInputError, Evidence, Health, Need, Preconditioner, Scope, Traits, need
from precond.math.modes import mode_products
from precond.math.norms import largest_eigenvalue, largest_singular_value
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class KronWhiteningState:
    """State of `KronWhitening`; the modes are the axes longer than one.

    Attributes:
        factors: One ``Q_i`` per mode, ``[batch, n, n]``, or ``[batch, n]`` where it is diagonal.
        bounds: Running bounds on the curvature of the fit, one ``[batch]`` per mode.
        steps: Gradients absorbed, ``[batch]``.
    """

    factors: list[Tensor]
    bounds: list[Tensor]
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class KronWhitening(Preconditioner[KronWhiteningState]):
    """``P = Q^T Q`` with ``Q = Q_1 x ... x Q_k``, fitted online until ``P g`` is white: towards ``E[gg^T]^(-1/2)``.

    Each gradient takes one step of relative gradient descent on ``E[g^T P g + v^T P^-1 v]`` with ``v`` normal, in
    coordinates in which neither inverses nor triangular solves occur; a small rotation then keeps ``Q_i`` nearly
    symmetric. No decompositions, and ``P`` is positive definite whatever happens.

    Sources: Pooladzandi and Li (arXiv 2402.04553); the coordinates ``dQ = Q^(1/2) E Q^(3/2)`` are those of the
    published code.

    Attributes:
        lr: Relative step size of the fit, in ``(0, 1)``.
        beta: Decay of the running bounds.
        damping: Standard deviation of the noise that is thought added to each gradient, beside its rounding.
        max_size: Longer axes get a diagonal factor.
        max_skew: So do axes whose length squared is more than this multiple of the number of entries.
        init_scale: ``Q`` starts as this multiple of the identity; by the size of the first gradient unless given.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    lr: float = 0.1
    beta: float = 0.9
    damping: float = 1e-9
    max_size: int = 8192
    max_skew: float = 1.0
    init_scale: float | None = None

    def __post_init__(self) -> None:
        """Check the step size."""
        if not 0.0 < self.lr < 1.0:
            raise BadInputError(f"the step size of the fit must be in (0, 1), not {self.lr}")

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and moving with every gradient."""
        return Traits(fixed=False)

    @property
    def elementwise(self) -> KronWhitening:
        """The same fit with diagonal factors."""
        return dataclasses.replace(self, max_size=0)

    def init(self, like: Tensor) -> KronWhiteningState:
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
        return KronWhiteningState(factors, bounds, torch.zeros(batch, dtype=torch.int64, device=like.device))

    def observe(self, state: KronWhiteningState, evidence: Evidence) -> None:
        """Take one step of the fit; a gradient that would break a factor is left out."""
        gradient = need(evidence.gradient, "gradient")
        h = gradient.reshape(gradient.shape[0], *_modes(gradient)).to(state.factors[0].dtype)
        if self.init_scale is None:
            self._start(state, h)
        state.steps.add_(1)
        white = _apply(state.factors, h)
        noise = self.damping + torch.finfo(h.dtype).eps * h.flatten(1).square().mean(1).sqrt()
        squares = [_square(factor) for factor in state.factors]  # Q_i^T Q_i
        sizes = [square.flatten(1).square().sum(1) for square in squares]
        for mode, (q, bound) in enumerate(zip(state.factors, state.bounds, strict=True)):
            others = noise.square()
            for other, size in enumerate(sizes):
                others = others * size if other != mode else others
            term, target = _gram(white, q, mode), h[0].numel() / h.shape[mode + 1]
            if q.ndim == 2:
                term = term + others[:, None] * squares[mode].square()
                size = term.amax(-1) + target
            else:
                term = term.baddbmm_(others[:, None, None] * squares[mode], squares[mode])
                size = largest_eigenvalue(term) + target
            new_bound = torch.maximum(torch.lerp(size, bound, self.beta), size)
            rate = (self.lr / new_bound).view(-1, *(1,) * (q.ndim - 1))
            moved = q - rate * ((term * q if q.ndim == 2 else torch.bmm(term, q)) - target * q)
            moved = moved if q.ndim == 2 else _towards_symmetric(moved)
            good = moved.flatten(1).isfinite().all(1) & new_bound.isfinite()
            q.copy_(torch.where(good.view(-1, *(1,) * (q.ndim - 1)), moved, q))
            bound.copy_(torch.where(good, new_bound, bound))

    def refresh(self, state: KronWhiteningState) -> Health:
        """Give all factors the same largest entry, which leaves their product as it is."""
        largest = torch.stack([q.flatten(1).abs().amax(1) for q in state.factors])
        mean = largest.log().mean(0).exp()
        for q, own in zip(state.factors, largest, strict=True):
            ratio = mean / own
            ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
            q.mul_(ratio.view(-1, *(1,) * (q.ndim - 1)))
        return HEALTHY

    def apply(self, state: KronWhiteningState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``Q^T Q v``."""
        refuse_shift(self, shift)
        return _apply(state.factors, v.reshape(v.shape[0], *_modes(v))).reshape(v.shape)

    def _start(self, state: KronWhiteningState, h: Tensor) -> None:
        """Scale the factors of members that have seen nothing yet by the size of their first gradient."""
        largest = h.flatten(1).abs().amax(1)
        divisor = torch.where(largest > 0, largest, 1.0)
        size = largest * (h.flatten(1) / divisor[:, None]).pow(4).mean(1).pow(0.25)
        small, large = size.clamp(max=self.damping), size.clamp(min=self.damping)
        size = large * (1.0 + (small / large).pow(4)).pow(0.25)  # (mean h^4 + damping^4)^(1/4)
        scale = size.pow(-0.5 / len(state.factors))
        scale = torch.where((state.steps == 0) & scale.isfinite() & (scale > 0), scale, 1.0)
        for q in state.factors:
            q.mul_(scale.view(-1, *(1,) * (q.ndim - 1)))


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


def _square(q: Tensor) -> Tensor:
    return q.square() if q.ndim == 2 else torch.bmm(q.mT, q)


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
    return q + step * (rq + 0.5 * step * rrq)
