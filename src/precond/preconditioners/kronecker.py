"""Kronecker factors of the second moment: one matrix per mode, applied as inverse roots."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Need, Preconditioner, Role, Scope, Traits, need, rests_as
from precond.math.modes import add_gram, complete, mode_products
from precond.math.root_methods import Eigen, InverseRoot
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class KroneckerState:
    """State of `Kronecker`; a mode longer than ``max_dim`` has ``None``.

    Attributes:
        factors: Second moments of the modes, each ``[batch, n, n]``.
        roots: Their inverse roots as of the last refresh, each ``[batch, n, n]``.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    roots: list[Tensor | None] = rests_as(Role.ROOT)


@final
@dataclasses.dataclass(frozen=True)
class Kronecker(Preconditioner[KroneckerState]):
    """``P = H_0^(-1/2k) x ... x H_{k-1}^(-1/2k)`` with ``H_i`` the second moment of the gradient unfolded along mode i.

    A vector has one mode, so that its factor is the full matrix; a scalar is a vector of length one.

    Sources: Shampoo (arXiv 1802.09568); ``trace_scale``: Morwani et al. (arXiv 2406.17748).

    Attributes:
        beta: Decay of the factors; 1 sums, as the paper does.
        eps: The factors start at ``eps`` times the identity.
        exponent: Exponent of every factor, negative; ``-1 / 2k`` for ``k`` modes with a factor unless given.
        max_dim: Modes longer than this are left as they are.
        floor: Eigenvalues are raised to this fraction of the largest before the root is taken; rounding level unless
            given.
        root: How to take the roots; by an eigendecomposition with ``floor`` unless given.
        vectors: Whether tensors with one axis get a factor.
        trace_scale: Divide the factor of each of ``k`` modes by its trace to the power ``1 - 1/k`` before the root, so
            that the Kronecker product of the factors has the size of the second moment of the whole tensor.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    scope: ClassVar[Scope] = Scope.MATRIX
    beta: float = 1.0
    eps: float = 1e-4
    exponent: float | None = None
    max_dim: int = 8192
    floor: float | None = None
    root: InverseRoot | None = None
    vectors: bool = True
    trace_scale: bool = False

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and constant between refreshes."""
        return Traits()

    def init(self, like: Tensor) -> KroneckerState:
        """Start every factor at ``eps`` times the identity, and its root with it."""
        dims = like.shape[1:] or (1,)
        dtype = torch.promote_types(like.dtype, torch.float32)
        kept = [dim <= self.max_dim and (self.vectors or len(dims) > 1) for dim in dims]
        modes = sum(kept)

        def root(dim: int) -> float:
            trace = self.eps * dim if self.trace_scale and modes > 1 else 1.0
            return (self.eps / trace ** (1.0 - 1.0 / modes)) ** self._exponent(modes) if self.eps > 0 else 1.0

        def scaled_identity(dim: int, scale: float) -> Tensor:
            identity = torch.eye(dim, dtype=dtype, device=like.device)
            return (scale * identity).expand(like.shape[0], dim, dim).clone()

        factors = [scaled_identity(dim, self.eps) if keep else None for dim, keep in zip(dims, kept, strict=True)]
        roots = [scaled_identity(dim, root(dim)) if keep else None for dim, keep in zip(dims, kept, strict=True)]
        return KroneckerState(factors, roots)

    def observe(self, state: KroneckerState, evidence: Evidence) -> None:
        """Add the Gram matrix of every unfolding."""
        gradient = _with_modes(need(evidence.gradient, "gradient"))
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
        for mode, (factor, root) in enumerate(zip(state.factors, state.roots, strict=True)):
            if factor is None or root is None:
                continue
            complete(factor)
            new, failed = take(factor, -1.0 / exponent)
            if self.trace_scale and modes > 1:
                new = new * _trace(factor).pow(-exponent * (1.0 - 1.0 / modes))
            root.copy_(torch.where(failed[:, None, None], root, new))
            failures = int(failed.sum())
            if failures:
                health += Health(failures, f"no inverse root of the factor of mode {mode}")
        return health

    def apply(self, state: KroneckerState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply every mode by its root."""
        refuse_shift(self, shift)
        return mode_products(_with_modes(v), state.roots).reshape(v.shape)

    def _exponent(self, modes: int) -> float:
        return self.exponent if self.exponent is not None else -1.0 / (2 * max(1, modes))


def _trace(factor: Tensor) -> Tensor:
    """Return the traces ``[batch, 1, 1]``, one where there is none to divide by."""
    trace = factor.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.where(trace.isfinite() & (trace > 0), trace, 1.0)[:, None, None]


def _with_modes(v: Tensor) -> Tensor:
    """Return ``v`` with at least one axis beside the batch."""
    return v if v.ndim > 1 else v.unsqueeze(-1)
