"""A diagonal and a correction of low rank, fitted by gradient descent on a Lie group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, BadInputError, Evidence, Health, Need, Preconditioner, Scope, Traits, absorbed_before
from precond.math.machine.products import fast_products
from precond.preconditioners.fitting import (
    Criterion,
    check_fit,
    drawn_pair,
    fit_needs,
    keep_finite,
    may_be_fresh,
    pair,
    running_bound,
    starting_scale,
)
from precond.preconditioners.shifts import refuse_shift

_ROWS = 2**16
"""Rows of a tall matrix that are multiplied at once: of ten columns, they fit in a cache."""


@dataclasses.dataclass
class FittedLowRankState:
    """State of `FittedLowRank`; vectors have ``n`` entries.

    Attributes:
        u: ``U``, ``[batch, n, r]``.
        v: ``V``, ``[batch, n, r]``.
        d: ``d``, ``[batch, n]``.
        bounds: Running bounds on the curvature of the fit of ``U``, ``V`` and ``d``, ``[batch, 3]``.
        steps: Pairs absorbed, ``[batch]``.
    """

    u: Tensor
    v: Tensor
    d: Tensor
    bounds: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class FittedLowRank(Preconditioner[FittedLowRankState]):
    """``P = Q^T Q`` with ``Q = (I + U V^T) diag(d)``, fitted online: towards ``E[gg^T]^(-1/2)``, or towards ``|H|^-1``.

    Each pair ``(v, h)`` takes one step of relative gradient descent on ``E[h^T P h + v^T P^-1 v]``: in ``d`` always,
    and in ``U`` and ``V`` by turns. For the whitening criterion ``v`` is drawn, by a counter, so that a run repeats.
    It costs products of ``n x r`` matrices with vectors, one with another, and systems of ``r`` unknowns.

    Source: Pooladzandi and Li (arXiv 2402.04553) and their published code.

    Attributes:
        rank: Columns ``r`` of ``U`` and ``V``; fewer than the vector has entries. 0 leaves a diagonal.
        lr: Relative step size of the fit, in ``(0, 1)``.
        beta: Decay of the running bounds.
        damping: Standard deviation of the noise that is added to each ``h``, beside its rounding.
        init_scale: ``d`` starts at this; by the size of the first ``h`` unless given.
        criterion: ``"whitening"``, fed gradients, or ``"newton"``, fed probes.
    """

    scope: ClassVar[Scope] = Scope.GLOBAL
    rank: int = 10
    lr: float = 0.1
    beta: float = 0.9
    damping: float = 1e-9
    init_scale: float | None = None
    criterion: Criterion = "whitening"

    def __post_init__(self) -> None:
        """Check rank, step size and criterion."""
        if self.rank < 0:
            raise BadInputError(f"the rank must not be negative, but is {self.rank}")
        check_fit(self.lr, self.criterion, self.init_scale)

    @property
    def needs(self) -> Need:
        """Gradients or probes."""
        return fit_needs(self.criterion)

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, moving with all that is observed; fitted with random draws."""
        return Traits(fixed=False, traceable=False)

    def init(self, like: Tensor) -> FittedLowRankState:
        """Start ``U`` and ``V`` at small normal numbers that are always the same."""
        batch, n = like.shape[0], like[0].numel()
        dtype, rank = torch.promote_types(like.dtype, torch.float32), min(self.rank, n - 1)

        def small(seed: int) -> Tensor:
            if like.is_meta or not rank:
                return torch.empty(batch, n, rank, dtype=dtype, device=like.device)
            draw = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
            draw = draw.to(dtype)
            norms = torch.stack([torch.linalg.vector_norm(rows) for rows in draw.split(_ROWS)])  # sums that round less
            draw = draw.mul_(0.1**0.5 / float(norms.double().norm())).to(like.device).unsqueeze(0)
            return draw if batch == 1 else draw.repeat(batch, 1, 1)

        return FittedLowRankState(
            u=small(0),
            v=small(1),
            d=torch.full((batch, n), self.init_scale or 1.0, dtype=dtype, device=like.device),
            bounds=torch.zeros(batch, 3, dtype=dtype, device=like.device),
            steps=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def observe(self, state: FittedLowRankState, evidence: Evidence) -> None:
        """Take one step of the fit; a pair that would break a factor is left out."""
        seen = pair(evidence, self.criterion)
        if seen is None:
            return
        given = None if seen[0] is None else seen[0].flatten(1).to(state.d.dtype)
        h = seen[1].flatten(1).to(state.d.dtype)
        if self.init_scale is None and may_be_fresh(state.steps):
            scale = starting_scale(given, h, self.damping)
            start = (state.steps == 0) & scale.isfinite() & (scale > 0)
            state.d.mul_(torch.where(start, scale, 1.0)[:, None])
        steps = absorbed_before(evidence, state.steps)
        self._fit(state, *drawn_pair(given, h, steps, self.damping), [step % 2 == 0 for step in steps])
        state.steps.add_(1)

    def apply(self, state: FittedLowRankState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``Q^T Q v``."""
        refuse_shift(self, shift)
        flat = state.d * v.flatten(1)
        flat = _plus(state.u, state.v, flat)
        return (state.d * _plus(state.v, state.u, flat)).reshape(v.shape)

    def refresh(self, state: FittedLowRankState) -> Health:
        """Bring ``U^T U`` and ``V^T V`` nearer; ``U V^T`` changes in the fourth order of their distance."""
        if not state.u.shape[2]:
            return HEALTHY
        uu, vv = _gram(state.u, state.u), _gram(state.v, state.v)
        trace_u, trace_v = (x.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] for x in (uu, vv))
        rho = (trace_u / trace_v).pow(0.25)
        rho = torch.where(rho.isfinite() & (rho > 0), rho, 1.0)
        uu, vv = uu / rho.square(), vv * rho.square()
        total = trace_u / rho.square() + trace_v * rho.square()
        e = torch.where(total > 0, 0.1 * (uu - vv) / total, 0.0)
        half = 0.5 * torch.bmm(e, e)
        eye = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
        _mix_columns(state.u, (eye - e + half) / rho)
        _mix_columns(state.v, (eye + e + half) * rho)
        return HEALTHY

    def _fit(self, state: FittedLowRankState, w: Tensor, h: Tensor, even: Sequence[bool]) -> None:
        """Take one step with the pair ``(w, h)``; of members at an even step ``U`` moves, of the others ``V``."""
        u, v, d, low = state.u, state.v, state.d, state.u.shape[2] > 0
        a = _plus(u, v, d * h)  # Q h
        ph = d * _plus(v, u, a)
        b = w / d
        if low:
            small = _gram(v, u)
            small.diagonal(dim1=-2, dim2=-1).add_(1.0)  # I + V^T U
            b = b - _mv(v, _solve(small.mT, _mv(u.mT, b)))  # Q^-T w
            pw = (b - _mv(u, _solve(small, _mv(v.mT, b)))) / d
            turn = torch.tensor(even, device=d.device)
            if any(even):
                at, bt = _mv(v.mT, a), _mv(v.mT, b)
                size = a.norm(dim=1) * _mv(v, at).norm(dim=1) + b.norm(dim=1) * _mv(v, bt).norm(dim=1)
                self._move(state, 0, turn, size, (a, b), (_mv(small.mT, at), _mv(small.mT, bt)))
            if not all(even):  # of the other members, so that the U of these is still the old one
                at, bt = _mv(u.mT, a), _mv(u.mT, b)
                size = a.norm(dim=1) * _mv(u, at).norm(dim=1) + b.norm(dim=1) * _mv(u, bt).norm(dim=1)
                self._move(state, 1, ~turn, size, (a + _mv(v, at), b + _mv(v, bt)), (at, bt))
        else:
            pw = b / d
        grown, shrunk = ph.mul_(h), pw.mul_(w)
        size = grown.abs().amax(1) + shrunk.abs().amax(1)
        new_bound = running_bound(state.bounds[:, 2], size, self.beta)
        step = grown.sub_(shrunk).mul_((self.lr / new_bound)[:, None]).mul_(d)
        moved = torch.sub(d, step, out=step)
        keep_finite(moved, d, new_bound, state.bounds[:, 2])

    def _move(
        self,
        state: FittedLowRankState,
        side: int,
        mine: Tensor,
        size: Tensor,
        columns: tuple[Tensor, Tensor],
        rows: tuple[Tensor, Tensor],
    ) -> None:
        """Subtract ``lr / bound (a x^T - b y^T)`` from ``U`` or ``V`` in place, for members that are ``mine``."""
        bound = state.bounds[:, side]
        new_bound = running_bound(bound, size, self.beta)
        left, right = torch.stack(columns, 2), torch.stack(rows, 1)
        rate = self.lr / new_bound
        finite, every = _finite(left)
        good = mine & (size > 0) & rate.isfinite() & right.flatten(1).isfinite().all(1) & finite
        if not every:  # else rows of zeros are enough
            left = torch.where(good[:, None, None], left, 0.0)
        sign = torch.tensor([-1.0, 1.0], dtype=rate.dtype, device=rate.device)
        right = torch.where(good[:, None, None], right * (rate[:, None] * sign).unsqueeze(-1), 0.0)
        (state.u if side == 0 else state.v).baddbmm_(left, right)
        bound.copy_(torch.where(good, new_bound, bound))


def _finite(x: Tensor) -> tuple[Tensor, bool]:
    """Return which members hold finite entries alone, ``[batch]``, and whether all do, which one sum shows."""
    if x.device.type != "cpu":  # to know of all would be to wait
        return x.flatten(1).isfinite().all(1), False
    sums = x.flatten(1).sum(1).isfinite()
    every = bool(sums.all())
    return (sums if every else x.flatten(1).isfinite().all(1)), every


def _plus(u: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """Return ``(I + U V^T) x``."""
    return x + _mv(u, _mv(v.mT, x)) if u.shape[2] else x


def _gram(u: Tensor, v: Tensor) -> Tensor:
    """Return ``U^T V``."""
    with fast_products(u, u.numel() * v.shape[2]):
        return torch.bmm(u.mT, v)


def _mix_columns(u: Tensor, small: Tensor) -> None:
    """Replace ``U`` by ``U K`` in place, some rows at a time, so that nothing as large as ``U`` is allocated."""
    with fast_products(u, u[:, :_ROWS].numel() * u.shape[2]):
        for rows in u.split(_ROWS, dim=1):
            rows.copy_(torch.bmm(rows, small))


def _mv(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(matrices, vectors.unsqueeze(-1)).squeeze(-1)


def _solve(small: Tensor, vectors: Tensor) -> Tensor:
    """Return ``K^-1 x``; what is singular gives what is not finite, and never raises."""
    return torch.linalg.solve_ex(small, vectors.unsqueeze(-1)).result.squeeze(-1)
