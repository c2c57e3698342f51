"""A diagonal and a correction of low rank, fitted by gradient descent on a Lie group."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Scope, Traits
from precond.math.draws import normals
from precond.preconditioners.fitting import (
    Criterion,
    check_fit,
    fit_needs,
    keep_finite,
    pair,
    running_bound,
    starting_scale,
)
from precond.preconditioners.shifts import refuse_shift


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
    It costs products with ``n x r`` matrices, and systems of ``r`` unknowns.

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
        check_fit(self.lr, self.criterion)

    @property
    def needs(self) -> Need:
        """Gradients or probes."""
        return fit_needs(self.criterion)

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and moving with all that is observed."""
        return Traits(fixed=False)

    def init(self, like: Tensor) -> FittedLowRankState:
        """Start ``U`` and ``V`` at small normal numbers that are always the same."""
        batch, n = like.shape[0], like[0].numel()
        dtype, rank = torch.promote_types(like.dtype, torch.float32), min(self.rank, n - 1)

        def small(seed: int) -> Tensor:
            if like.is_meta or not rank:
                return torch.empty(batch, n, rank, dtype=dtype, device=like.device)
            draw = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed)).double()
            draw = (0.1**0.5 / torch.linalg.vector_norm(draw)) * draw
            return draw.to(like.device, dtype).repeat(batch, 1, 1)

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
        given, h = (None if x is None else x.flatten(1).to(state.d.dtype) for x in seen)
        if self.init_scale is None:
            scale = starting_scale(given, h, self.damping)
            start = (state.steps == 0) & scale.isfinite() & (scale > 0)
            state.d.mul_(torch.where(start, scale, 1.0)[:, None])
        noise = normals(state.steps, h)
        w = noise if given is None else given
        h = h + (self.damping + torch.finfo(h.dtype).eps * h.abs()) * noise
        self._fit(state, w, h)
        state.steps.add_(1)

    def apply(self, state: FittedLowRankState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``Q^T Q v``."""
        refuse_shift(self, shift)
        flat = state.d * v.flatten(1)
        flat = _plus(state.u, state.v, flat)
        return (state.d * _plus(state.v, state.u, flat)).reshape(v.shape)

    def _fit(self, state: FittedLowRankState, w: Tensor, h: Tensor) -> None:
        """Take one step with the pair ``(w, h)``."""
        low = state.u.shape[2] > 0
        if low:
            _balance(state)
        u, v, d = state.u, state.v, state.d
        a = _plus(u, v, d * h)  # Q h
        ph = d * _plus(v, u, a)
        b = w / d
        small = torch.bmm(v.mT, u)
        small.diagonal(dim1=-2, dim2=-1).add_(1.0)  # I + V^T U
        if low:
            b = b - _mv(v, _solve(small.mT, _mv(u.mT, b)))  # Q^-T w
            pw = (b - _mv(u, _solve(small, _mv(v.mT, b)))) / d
        else:
            pw = b / d

        grown, shrunk = ph * h, w * pw
        size = grown.abs().amax(1) + shrunk.abs().amax(1)
        new_bound = running_bound(state.bounds[:, 2], size, self.beta)
        moved = d - (self.lr / new_bound)[:, None] * (grown - shrunk) * d
        turn = (state.steps % 2 == 0).view(-1, 1, 1)
        if low:
            self._fit_low(state, a, b, small, turn)
        keep_finite(moved, d, new_bound, state.bounds[:, 2])

    def _fit_low(self, state: FittedLowRankState, a: Tensor, b: Tensor, small: Tensor, turn: Tensor) -> None:
        """Take one step in ``U`` for the members whose ``turn`` it is, and in ``V`` for the others."""
        u, v = state.u.clone(), state.v.clone()
        for side, mine in ((0, turn), (1, ~turn)):
            if not bool(mine.any()):
                continue
            other = v if side == 0 else u
            at, bt = _mv(other.mT, a), _mv(other.mT, b)
            size = a.norm(dim=1) * _mv(other, at).norm(dim=1) + b.norm(dim=1) * _mv(other, bt).norm(dim=1)
            bound = state.bounds[:, side]
            new_bound = running_bound(bound, size, self.beta)
            if side == 0:
                change = _outer(a, _mv(small.mT, at)) - _outer(b, _mv(small.mT, bt))
            else:
                change = _outer(a + _mv(v, at), at) - _outer(b + _mv(v, bt), bt)
            old = state.u if side == 0 else state.v
            moved = torch.where(mine, old - (self.lr / new_bound)[:, None, None] * change, old)
            keep_finite(moved, old, torch.where(mine.view(-1), new_bound, bound), bound)


def _balance(state: FittedLowRankState) -> None:
    """Bring ``U^T U`` and ``V^T V`` nearer to each other; ``U V^T`` changes by the fourth order of their difference."""
    uu, vv = torch.bmm(state.u.mT, state.u), torch.bmm(state.v.mT, state.v)
    trace_u, trace_v = (x.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] for x in (uu, vv))
    rho = (trace_u / trace_v).pow(0.25)
    rho = torch.where(rho.isfinite() & (rho > 0), rho, 1.0)
    uu, vv = uu / rho.square(), vv * rho.square()
    total = trace_u / rho.square() + trace_v * rho.square()
    e = torch.where(total > 0, 0.1 * (uu - vv) / total, 0.0)
    half = 0.5 * torch.bmm(e, e)
    state.u.div_(rho)
    state.v.mul_(rho)
    state.u.sub_(torch.bmm(state.u, e - half))
    state.v.add_(torch.bmm(state.v, e + half))


def _plus(u: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """Return ``(I + U V^T) x``."""
    return x + _mv(u, _mv(v.mT, x)) if u.shape[2] else x


def _mv(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(matrices, vectors.unsqueeze(-1)).squeeze(-1)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    return x.unsqueeze(-1) * y.unsqueeze(-2)


def _solve(small: Tensor, vectors: Tensor) -> Tensor:
    """Return ``K^-1 x``; what is singular gives what is not finite, and never raises."""
    return torch.linalg.solve_ex(small, vectors.unsqueeze(-1)).result.squeeze(-1)
