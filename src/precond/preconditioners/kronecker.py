"""Kronecker factors of the second moment: one matrix per mode, applied as inverse roots."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    HEALTHY,
    BadInputError,
    Evidence,
    Health,
    Need,
    Preconditioner,
    Role,
    Scope,
    Traits,
    need,
    rests_as,
)
from precond.math.modes import add_gram, by_block, complete, mode_products
from precond.math.root_methods import Eigen, InverseRoot
from precond.math.shapes import block_lengths, factor_shapes
from precond.math.tiles import overhang, trim
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.shifts import refuse_shift


@dataclasses.dataclass
class KroneckerState:
    """State of `Kronecker`; a mode without a factor has ``None``.

    Attributes:
        factors: Second moments of the modes, each ``[batch, n, n]``; of modes in blocks only their diagonal blocks,
            ``[batch, blocks, side, side]``.
        roots: Their inverse roots as of the last refresh, shaped like the factors.
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
        block: The factors of longer modes are taken to be block diagonal, with blocks no longer than this; ``None``
            leaves them whole, and so are those of vectors.
        one_sided: Only the shortest mode has a factor, the first of several.
        half: Keep the roots of single-precision tensors in bfloat16, and multiply by them in bfloat16 where the device
            does so natively.
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
    block: int | None = None
    one_sided: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        """Check the length of a block."""
        if self.block is not None and self.block < 1:
            raise BadInputError(f"the side of a block must be at least 1, not {self.block}")

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, and constant between refreshes."""
        return Traits()

    @property
    def elementwise(self) -> Diagonal:
        """AdaGrad, or RMSProp where the factors are averaged: the diagonal of the factor of a vector."""
        return Diagonal(self.beta, self.eps, debias=False)

    def init(self, like: Tensor) -> KroneckerState:
        """Start every factor at ``eps`` times the identity, and its root with it."""
        dims = like.shape[1:] or (1,)
        dtype = torch.promote_types(like.dtype, torch.float32)
        resting = torch.bfloat16 if self.half and dtype == torch.float32 else dtype
        shapes = factor_shapes(dims, max_dim=self.max_dim, block=self.block, one_sided=self.one_sided)
        kept = [None if len(dims) == 1 and not self.vectors else shape for shape in shapes]
        modes = sum(shape is not None for shape in kept)

        def root(shape: tuple[int, ...]) -> float:
            trace = self.eps * math.prod(shape[:-1]) if self.trace_scale and modes > 1 else 1.0
            return (self.eps / trace ** (1.0 - 1.0 / modes)) ** self._exponent(modes) if self.eps > 0 else 1.0

        def scaled_identity(shape: tuple[int, ...], scale: float, dtype: torch.dtype) -> Tensor:
            identity = torch.eye(shape[-1], dtype=dtype, device=like.device)
            return (scale * identity).expand(like.shape[0], *shape).clone()

        factors = [None if shape is None else scaled_identity(shape, self.eps, dtype) for shape in kept]
        roots = [None if shape is None else scaled_identity(shape, root(shape), resting) for shape in kept]
        return KroneckerState(factors, roots)

    def observe(self, state: KroneckerState, evidence: Evidence) -> None:
        """Add the Gram matrix of every unfolding."""
        gradient = self._whole_blocks(_with_modes(need(evidence.gradient, "gradient")))
        for mode, factor in enumerate(state.factors):
            if factor is not None:
                new = 1.0 if self.beta == 1.0 else 1.0 - self.beta
                add_gram(factor, gradient, mode, beta=self.beta, alpha=new, members=evidence.counted)

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
            new, failed = take(by_block(factor), -1.0 / exponent)
            new = new.view(factor.shape)
            if self.trace_scale and modes > 1:
                new = new * _trace(factor).pow(-exponent * (1.0 - 1.0 / modes))
            root.copy_(torch.where(failed.view(*factor.shape[:-2], 1, 1), root, new))
            failures = int(failed.sum())
            if failures:
                health += Health(failures, f"no inverse root of the factor of mode {mode}")
        return health

    def apply(self, state: KroneckerState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply every mode by its root."""
        refuse_shift(self, shift)
        modes = _with_modes(v)
        return trim(mode_products(self._whole_blocks(modes), state.roots), modes.shape[1:]).reshape(v.shape)

    def _whole_blocks(self, v: Tensor) -> Tensor:
        """Return ``v`` with the zeros behind modes that blocks do not fit."""
        return overhang(v, block_lengths(v.shape[1:], self.block))

    def _exponent(self, modes: int) -> float:
        return self.exponent if self.exponent is not None else -1.0 / (2 * max(1, modes))


def _trace(factor: Tensor) -> Tensor:
    """Return the traces, ``[batch, 1, ..., 1]`` to multiply the factors by, one where there is none to divide by."""
    trace = factor.diagonal(dim1=-2, dim2=-1).flatten(1).sum(-1)
    return torch.where(trace.isfinite() & (trace > 0), trace, 1.0).view(-1, *(1,) * (factor.ndim - 1))


def _with_modes(v: Tensor) -> Tensor:
    """Return ``v`` with at least one axis beside the batch."""
    return v if v.ndim > 1 else v.unsqueeze(-1)
