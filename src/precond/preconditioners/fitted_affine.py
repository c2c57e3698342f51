"""Two triangular factors fitted by gradient descent on the affine group, to gradients or to products of the Hessian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Need, Preconditioner, Scope, Traits, absorbed_before
from precond.math.machine.products import fast_products
from precond.math.norms import largest_eigenvalue
from precond.math.tensors.shapes import balanced_matrix
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
class FittedAffineState:
    """State of `FittedAffine`; tensors are seen as matrices of ``m`` rows and ``n`` columns.

    Attributes:
        left: Upper triangular factor of the rows, ``[batch, m, m]``, or ``[batch, m]`` where it is diagonal.
        right: That of the columns, ``[batch, n, n]`` or ``[batch, n]``.
        bounds: Running bounds on the curvature of the fit of the left and of the right factor, ``[batch, 2]``.
        steps: Pairs absorbed, ``[batch]``.
    """

    left: Tensor
    right: Tensor
    bounds: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class FittedAffine(Preconditioner[FittedAffineState]):
    """``P v = L^T L v R^T R`` with triangular ``L`` and ``R``, fitted online: towards ``E[gg^T]^(-1/2)`` or ``|H|^-1``.

    Each pair ``(v, h)`` takes one step of relative gradient descent on ``E[h^T P h + v^T P^-1 v]``, along ``dQ = E Q``
    with triangular ``E``, so that the diagonals stay positive. For the whitening criterion ``v`` is drawn, by a
    counter, so that a run repeats. Vectors are single rows, so that they get one dense factor; longer tensors are cut
    into the two groups of axes whose sides have the least squares.

    Sources: Li (arXiv 1809.10232); Pooladzandi and Li (arXiv 2402.04553) and their published code.

    Attributes:
        lr: Relative step size of the fit, in ``(0, 1)``.
        beta: Decay of the running bounds.
        damping: Standard deviation of the noise that is added to each ``h``, beside its rounding.
        max_size: Longer sides get a diagonal factor.
        max_skew: So do sides that are more than this multiple of the other side.
        init_scale: ``Q`` starts as this multiple of the identity; by the size of the first ``h`` unless given.
        criterion: ``"whitening"``, fed gradients, or ``"newton"``, fed probes.
    """

    scope: ClassVar[Scope] = Scope.MATRIX
    lr: float = 0.1
    beta: float = 0.9
    damping: float = 1e-9
    max_size: int = 8192
    max_skew: float = float("inf")
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

    def init(self, like: Tensor) -> FittedAffineState:
        """Start both factors at a multiple of the identity."""
        batch, (_, m, n) = like.shape[0], balanced_matrix(like.shape[1:])
        dtype = torch.promote_types(like.dtype, torch.float32)
        scale = 1.0 if self.init_scale is None else self.init_scale**0.5

        def factor(side: int, other: int) -> Tensor:
            unit = torch.full((side,), scale, dtype=dtype, device=like.device)
            dense = 1 < side <= min(self.max_size, self.max_skew * other)
            return (torch.diag(unit) if dense else unit).repeat(batch, *(1,) * (2 if dense else 1))

        return FittedAffineState(
            left=factor(m, n),
            right=factor(n, m),
            bounds=torch.zeros(batch, 2, dtype=dtype, device=like.device),
            steps=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def observe(self, state: FittedAffineState, evidence: Evidence) -> None:
        """Take one step of the fit; a pair that would break a factor is left out."""
        seen = pair(evidence, self.criterion)
        if seen is None:
            return
        v = None if seen[0] is None else _matrices(seen[0]).to(state.left.dtype)
        h = _matrices(seen[1]).to(state.left.dtype)
        told = tells(v, h)
        if self.init_scale is None and may_be_fresh(state.steps):
            fresh = state.steps == 0
            start_at_size((state.left, state.right), fresh if told is None else fresh & told, v, h, self.damping)
        v, h = drawn_pair(v, h, absorbed_before(evidence, state.steps), self.damping)
        state.steps.add_(1 if told is None else told)
        with fast_products(h, h.numel() * max(h.shape[1:])):
            self._fit(state, v, h, told)

    def _fit(self, state: FittedAffineState, v: Tensor, h: Tensor, told: Tensor | None) -> None:
        """Take one step with the pair ``(v, h)``, matrices ``[batch, m, n]``."""
        left, right = state.left, state.right
        a = _times(left, _times(right, h.mT).mT)
        b = _solve(left, _solve(right, v.mT).mT)
        terms, targets = [_gram(a.mT, left), _gram(a, right)], [_gram(b.mT, left), _gram(b, right)]
        for side, (q, term, target) in enumerate(zip((left, right), terms, targets, strict=True)):
            both = term + target
            size = both.amax(-1) if q.ndim == 2 else largest_eigenvalue(both)
            bound = state.bounds[:, side]
            new_bound = running_bound(bound, size, self.beta)
            change = (term - target) * q if q.ndim == 2 else torch.bmm(torch.triu(term - target), q)
            keep_finite(moved_by(q, change, self.lr / new_bound), q, new_bound, bound, told)

    def refresh(self, state: FittedAffineState) -> Health:
        """Give both factors the same largest entry, which leaves their product as it is."""
        level((state.left, state.right))
        return HEALTHY

    def apply(self, state: FittedAffineState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``Q^T Q v``."""
        refuse_shift(self, shift)
        u = _matrices(v).to(state.left.dtype)
        with fast_products(u, u.numel() * max(u.shape[1:])):
            u = _times(state.right, _times(state.left, u, twice=True).mT, twice=True).mT
        order, _, _ = balanced_matrix(v.shape[1:])
        u = u.reshape(v.shape[0], *(v.shape[1 + i] for i in order))
        return u.permute(0, *(1 + order.index(i) for i in range(len(order)))).contiguous()


def _matrices(v: Tensor) -> Tensor:
    order, m, n = balanced_matrix(v.shape[1:])
    return v.permute(0, *(1 + i for i in order)).reshape(v.shape[0], m, n)


def _times(q: Tensor, v: Tensor, *, twice: bool = False) -> Tensor:
    """Return ``Q v``, or ``Q^T Q v``, for matrices ``v``."""
    if q.ndim == 2:
        return (q.square() if twice else q).unsqueeze(-1) * v
    return torch.bmm(q.mT, torch.bmm(q, v)) if twice else torch.bmm(q, v)


def _solve(q: Tensor, v: Tensor) -> Tensor:
    """Return ``Q^-T v``."""
    return v / q.unsqueeze(-1) if q.ndim == 2 else torch.linalg.solve_triangular(q.mT, v, upper=False)


def _gram(x: Tensor, q: Tensor) -> Tensor:
    """Return ``X^T X``, or its diagonal where the factor ``q`` that it is for is diagonal."""
    return torch.bmm(x.mT, x) if q.ndim == 3 else x.square().sum(-2)
