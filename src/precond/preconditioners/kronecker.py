"""Kronecker factors of the second moment: one matrix per mode, applied as inverse roots."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Need, Preconditioner, Role, Scope, Traits, need, rests_as
from precond.math.averages import debias
from precond.math.modes import add_gram, complete, mode_products
from precond.math.root_methods import Eigen, InverseRoot
from precond.math.shapes import modes_with_factor
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.shifts import refuse_shift

Exponents = Sequence[tuple[int, float]]
"""Pairs of a number of modes and the exponent of every factor of a tensor with so many."""


@dataclasses.dataclass
class KroneckerState:
    """State of `Kronecker`; a mode without a factor has ``None``.

    Attributes:
        factors: Second moments of the modes, each ``[batch, n, n]``.
        roots: Their inverse roots as of the last refresh, each ``[batch, n, n]``.
        bases: Their eigenvectors as of the last refresh, each ``[batch, n, n]``; kept only for roots that start there.
        steps: Gradients absorbed, ``[batch]``; kept only where the factors are debiased.
        failures: Refreshes that failed since the last that did not, ``[batch]``; kept only where they are limited.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    roots: list[Tensor | None] = rests_as(Role.ROOT)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    steps: Tensor | None
    failures: Tensor | None


@final
@dataclasses.dataclass(frozen=True)
class Kronecker(Preconditioner[KroneckerState]):
    """``P = H_0^(-1/2k) x ... x H_{k-1}^(-1/2k)`` with ``H_i`` the second moment of the gradient unfolded along mode i.

    A vector has one mode, so that its factor is the full matrix; a scalar is a vector of length one.

    Sources: Shampoo (arXiv 1802.09568); ``trace_scale``: Morwani et al. (arXiv 2406.17748); ``debias``, ``tolerated``:
    Distributed Shampoo (arXiv 2309.06497).

    Attributes:
        beta: Decay of the factors; 1 sums, as the paper does.
        eps: The factors start at ``eps`` times the identity.
        exponent: Exponent of every factor, negative, or pairs of a number of modes and their exponent; ``-1 / 2k`` for
            ``k`` modes with a factor unless given.
        max_dim: Modes longer than this are left as they are.
        floor: Eigenvalues are raised to this fraction of the largest before the root is taken; rounding level unless
            given.
        root: How to take the roots; by an eigendecomposition with ``floor`` unless given.
        vectors: Whether tensors with one axis get a factor.
        trace_scale: Divide the factor of each of ``k`` modes by its trace to the power ``1 - 1/k`` before the root, so
            that the Kronecker product of the factors has the size of the second moment of the whole tensor.
        debias: Divide averages by ``1 - beta^t`` before the root; a sum is never debiased.
        one_sided: Only the shortest mode (the last of them) gets a factor, so that ``k = 1``.
        tolerated: Refreshes of a member that may fail in a row; then the health is hopeless. Any number unless given.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    beta: float = 1.0
    eps: float = 1e-4
    exponent: float | Exponents | None = None
    max_dim: int = 8192
    floor: float | None = None
    root: InverseRoot | None = None
    vectors: bool = True
    trace_scale: bool = False
    debias: bool = False
    one_sided: bool = False
    tolerated: int | None = None

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and constant between refreshes."""
        return Traits()

    @property
    def elementwise(self) -> Diagonal:
        """AdaGrad, or RMSProp where the factors are averaged: the diagonal of the factor of a vector."""
        return Diagonal(self.beta, self.eps or 1e-12, debias=self.debias)

    def init(self, like: Tensor) -> KroneckerState:
        """Start every factor at ``eps`` times the identity, and its root with it."""
        dims = like.shape[1:] or (1,)
        dtype = torch.promote_types(like.dtype, torch.float32)
        kept = modes_with_factor(dims, self.max_dim, vectors=self.vectors, one_sided=self.one_sided)
        modes = sum(kept)

        def root(dim: int) -> float:
            trace = self.eps * dim if self.trace_scale and modes > 1 else 1.0
            return (self.eps / trace ** (1.0 - 1.0 / modes)) ** self._exponent(modes) if self.eps > 0 else 1.0

        def scaled_identity(dim: int, scale: float) -> Tensor:
            identity = torch.eye(dim, dtype=dtype, device=like.device)
            return (scale * identity).expand(like.shape[0], dim, dim).clone()

        def counter() -> Tensor:
            return torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)

        warm = self.root is not None and self.root.warm
        return KroneckerState(
            factors=[scaled_identity(dim, self.eps) if keep else None for dim, keep in zip(dims, kept, strict=True)],
            roots=[scaled_identity(dim, root(dim)) if keep else None for dim, keep in zip(dims, kept, strict=True)],
            bases=[scaled_identity(dim, 1.0) if keep and warm else None for dim, keep in zip(dims, kept, strict=True)],
            steps=counter() if self.debias and self.beta < 1.0 else None,
            failures=counter() if self.tolerated is not None else None,
        )

    def observe(self, state: KroneckerState, evidence: Evidence) -> None:
        """Add the Gram matrix of every unfolding."""
        gradient = _with_modes(need(evidence.gradient, "gradient"))
        if state.steps is not None:
            state.steps.add_(1)
        for mode, factor in enumerate(state.factors):
            if factor is not None:
                new = 1.0 if self.beta == 1.0 else 1.0 - self.beta
                add_gram(factor, gradient, mode, beta=self.beta, alpha=new)

    def refresh(self, state: KroneckerState) -> Health:
        """Take the roots again; members that fail keep their last."""
        health = HEALTHY
        modes = sum(factor is not None for factor in state.factors)
        exponent = self._exponent(modes)
        take = self.root or Eigen(self.floor)
        any_failed: Tensor | bool = False
        for mode, (factor, root, basis) in enumerate(zip(state.factors, state.roots, state.bases, strict=True)):
            if factor is None or root is None:
                continue
            complete(factor)
            moment = factor if state.steps is None else factor / debias(self.beta, state.steps, factor)
            new, failed = take(moment, -1.0 / exponent, basis)
            if self.trace_scale and modes > 1:
                new = new * _trace(moment).pow(-exponent * (1.0 - 1.0 / modes))
            root.copy_(torch.where(failed[:, None, None], root, new))
            any_failed = failed | any_failed
            health += Health.of(failed, f"no inverse root of the factor of mode {mode}")
        return health + self._count(state, any_failed)

    def apply(self, state: KroneckerState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply every mode by its root."""
        refuse_shift(self, shift)
        return mode_products(_with_modes(v), state.roots).reshape(v.shape)

    def _exponent(self, modes: int) -> float:
        own = -1.0 / (2 * max(1, modes))
        if self.exponent is None or isinstance(self.exponent, float):
            return own if self.exponent is None else self.exponent
        return dict(self.exponent).get(modes, own)

    def _count(self, state: KroneckerState, failed: Tensor | bool) -> Health:
        """Count failures in a row, and say when they are too many."""
        if state.failures is None or self.tolerated is None or isinstance(failed, bool):
            return HEALTHY
        state.failures.copy_(torch.where(failed, state.failures + 1, 0))
        most = int(state.failures.max())
        if most <= self.tolerated:
            return HEALTHY
        return Health(detail=f"{most} failures in a row, {self.tolerated} are tolerated", hopeless=True)


def _trace(factor: Tensor) -> Tensor:
    """Return the traces ``[batch, 1, 1]``, one where there is none to divide by."""
    trace = factor.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.where(trace.isfinite() & (trace > 0), trace, 1.0)[:, None, None]


def _with_modes(v: Tensor) -> Tensor:
    """Return ``v`` with at least one axis beside the batch."""
    return v if v.ndim > 1 else v.unsqueeze(-1)
