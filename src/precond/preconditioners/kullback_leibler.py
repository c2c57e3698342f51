"""Kronecker factors that estimate a covariance jointly: each is weighted by the inverse of the others."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, BadInputError, Evidence, Health, Need, Role, Scope, Traits, Turned, need, rests_as
from precond.math.factors.eigen import all_eigenvectors, gram_eigenvectors
from precond.math.factors.orthogonal import orthogonal
from precond.math.machine.products import fast_products
from precond.math.tensors.modes import add_gram, complete, mode_products, unfolding
from precond.preconditioners.diagonal import Diagonal


@dataclasses.dataclass
class KLKroneckerState:
    """State of `KLKronecker`; a mode longer than ``max_dim`` has ``None``.

    Attributes:
        factors: The factors in the coordinates of their bases, ``Q_i^T S_i Q_i``, each ``[batch, n, n]``.
        bases: Orthogonal matrices ``Q_i``, each ``[batch, n, n]``.
        values: Estimates of the eigenvalues of the factors, each ``[batch, n]``.
        used: The estimates before the last gradient, by which is divided, each ``[batch, n]``.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    values: list[Tensor | None] = rests_as(Role.EXACT)
    used: list[Tensor | None] = rests_as(Role.EXACT)


@final
@dataclasses.dataclass(frozen=True)
class KLKronecker(Turned[KLKroneckerState]):
    """``P = S_0^(-1/2) x ... x S_{k-1}^(-1/2)`` with the factors ``S_i`` that come nearest to the second moment.

    Nearest in the Kullback-Leibler divergence of normal distributions, whose condition of optimality couples the
    factors: ``S_i = E[G_i (x_{j != i} S_j^-1) G_i^T] / prod_{j != i} n_j`` with the unfolding ``G_i``. Averages of both
    sides are taken along; eigenvalues are averaged within a basis that turns by one QR iteration per refresh. The
    factors are kept in the coordinates of their bases, in which the weights are diagonal.

    Source: KL-Shampoo (arXiv 2509.03378).

    Attributes:
        beta: Decay of the averages.
        eps: Added to the product of the roots of eigenvalues before dividing by it.
        max_dim: Longer modes get no factor.
        start: What eigenvalues start at.
        gain: Largest inverse root of an eigenvalue: the length of the mode, at most this (and at least 10).
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    beta: float = 0.98
    eps: float = 1e-8
    max_dim: int = 10000
    start: float = 0.1
    gain: float = 4000.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not (0.0 <= self.beta < 1.0 and self.eps >= 0 and self.start > 0 and self.gain > 0):
            raise BadInputError(
                f"beta must be in [0, 1), eps not negative, start and gain positive, not {self.beta}, {self.eps}, "
                f"{self.start} and {self.gain}"
            )

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and moving with every gradient."""
        return Traits(fixed=False, shiftable=True, turns=True)

    @property
    def elementwise(self) -> Diagonal:
        """Adam's preconditioner: the factor of a vector, entry by entry."""
        return Diagonal(self.beta, self.eps)

    def init(self, like: Tensor) -> KLKroneckerState:
        """Start with zero factors, the identity as basis, and equal eigenvalues."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        batch, dims = like.shape[0], like.shape[1:] or (1,)

        def make(dim: int, kind: str) -> Tensor | None:
            if dim > self.max_dim:
                return None
            if kind == "values":
                return torch.full((batch, dim), self.start, dtype=dtype, device=like.device)
            if kind == "factor":
                return torch.zeros(batch, dim, dim, dtype=dtype, device=like.device)
            return torch.eye(dim, dtype=dtype, device=like.device).expand(batch, dim, dim).clone()

        return KLKroneckerState(
            *([make(dim, kind) for dim in dims] for kind in ("factor", "basis", "values", "values"))
        )

    def prime(self, state: KLKroneckerState, evidence: Evidence) -> Health:
        """Absorb the first gradient without weights, and find the bases."""
        gradient, health = _with_modes(need(evidence.gradient, "gradient")), HEALTHY
        for mode, (factor, basis) in enumerate(zip(state.factors, state.bases, strict=True)):
            if factor is None or basis is None:
                continue
            add_gram(factor, gradient, mode, beta=self.beta, alpha=self._weight(gradient, mode))
            complete(factor)
            vectors, failed = _first_basis(factor, unfolding(gradient, mode))
            bad = failed[:, None, None]
            values = (vectors * torch.bmm(factor, vectors)).sum(-2)
            factor.copy_(torch.where(bad, factor, torch.diag_embed(values)))
            basis.copy_(torch.where(bad, basis, vectors))
            health += Health.of(failed, f"no eigendecomposition of the factor of mode {mode}")
        return health

    def enter(self, state: KLKroneckerState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the bases."""
        return mode_products(_with_modes(v), state.bases, transpose=True).reshape(v.shape)

    def leave(self, state: KLKroneckerState, v: Tensor) -> Tensor:
        """Return the vector whose coordinates in the bases are ``v``."""
        return mode_products(_with_modes(v), state.bases).reshape(v.shape)

    def observe_within(self, state: KLKroneckerState, within: Tensor, evidence: Evidence) -> None:
        """Average the Gram matrix of every mode, divided by the eigenvalues of the others, and its diagonal."""
        within = _with_modes(within)
        roots = [None if value is None else value.rsqrt() for value in state.values]
        for value, used in zip(state.values, state.used, strict=True):
            if value is not None and used is not None:
                used.copy_(value)
        for mode, (factor, value) in enumerate(zip(state.factors, state.values, strict=True)):
            if factor is None or value is None:
                continue
            white = within
            for other, root in enumerate(roots):
                if other != mode and root is not None:
                    white = white * along(root, other, white.ndim)
            weight = self._weight(within, mode)
            add_gram(factor, white, mode, beta=self.beta, alpha=weight)
            squares = unfolding(white, mode).square().sum(-1)
            value.mul_(self.beta).add_(squares, alpha=weight)
            value.clamp_(min=max(10.0, min(value.shape[-1], self.gain)) ** -2)

    def apply_within(self, state: KLKroneckerState, within: Tensor, *, shift: float = 0.0) -> Tensor:
        """Divide by the product of the roots of the eigenvalues."""
        shape, within = within.shape, _with_modes(within)
        root = within.new_ones(())
        for mode, value in enumerate(state.used):
            if value is not None:
                root = root * along(value.sqrt(), mode, within.ndim)
        return (within / (root + (self.eps + shift))).reshape(shape)

    def refresh(self, state: KLKroneckerState) -> Health:
        """Turn the bases by ``K = U R``, ``Q <- Q U``, ``K <- U^T K U``; members that fail keep theirs."""
        health = HEALTHY
        for mode, (factor, basis) in enumerate(zip(state.factors, state.bases, strict=True)):
            if factor is None or basis is None:
                continue
            complete(factor)
            failed = ~factor.isfinite().all(-1).all(-1)
            identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
            work = torch.where(failed[:, None, None], identity, factor)
            with fast_products(work, work.numel() * work.shape[-1]):
                turn = orthogonal(work)
                factor_new, basis_new = torch.bmm(turn.mT, torch.bmm(work, turn)), torch.bmm(basis, turn)
            failed |= ~basis_new.sum((-2, -1)).isfinite()
            factor.copy_(torch.where(failed[:, None, None], factor, 0.5 * (factor_new + factor_new.mT)))
            basis.copy_(torch.where(failed[:, None, None], basis, basis_new))
            health += Health.of(failed, f"no new basis of mode {mode}")
        return health

    def _weight(self, v: Tensor, mode: int) -> float:
        """Return the weight of a new Gram matrix: a mean over the other modes, in a moving average."""
        return (1.0 - self.beta) * v.shape[mode + 1] / math.prod(v.shape[1:])


def _first_basis(factor: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of the Gram matrices of one gradient, largest eigenvalue first, and who failed.

    Where the gradient has fewer columns than rows it is not the factor that is decomposed: rounding would choose the
    basis of its null space, and processes that add up a gradient in another order would go other ways.
    """
    if rows.shape[-1] < rows.shape[-2]:
        return gram_eigenvectors(rows.to(factor.dtype))
    return all_eigenvectors(factor)


def along(values: Tensor, mode: int, ndim: int) -> Tensor:
    """Return ``[batch, n]`` values shaped to be multiplied along one mode of a tensor with ``ndim`` axes."""
    return values.view(values.shape[0], *(values.shape[1] if axis == mode + 1 else 1 for axis in range(1, ndim)))


def _with_modes(v: Tensor) -> Tensor:
    """Return ``v`` with at least one axis beside the batch."""
    return v if v.ndim > 1 else v.unsqueeze(-1)
