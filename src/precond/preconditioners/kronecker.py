"""Kronecker factors of the second moment: one matrix per mode, applied as inverse roots."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
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
from precond.math.averages import debias
from precond.math.factors.root_methods import Eigen, InverseRoot
from precond.math.factors.roots import low_rank_inverse_root
from precond.math.tensors.modes import add_gram, by_block, complete, mode_products
from precond.math.tensors.shapes import block_lengths, factor_shapes
from precond.math.tensors.tiles import overhang, trim
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.shifts import refuse_shift

Exponents = Sequence[tuple[int, float]]
"""Pairs of a number of modes and the exponent of every factor of a tensor with so many."""


@dataclasses.dataclass
class KroneckerState:
    """State of `Kronecker`; a mode without a factor has ``None``.

    Attributes:
        factors: Second moments of the modes, each ``[batch, n, n]``; of modes in blocks only their diagonal blocks,
            ``[batch, blocks, side, side]``.
        roots: Their inverse roots as of the last refresh, shaped like the factors.
        bases: Their eigenvectors as of the last refresh, shaped like the factors; kept only for roots that start there.
        steps: Gradients absorbed, ``[batch]``.
        failures: Refreshes that failed since the last that did not, ``[batch]``; kept only where they are limited.
        dims: Axes of a tensor, the batch not counted.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    roots: list[Tensor | None] = rests_as(Role.ROOT)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    steps: Tensor  # type: ignore[misc]  # rests_as gives no default
    failures: Tensor | None  # type: ignore[misc]  # rests_as gives no default
    dims: tuple[int, ...]  # type: ignore[misc]  # rests_as gives no default


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
        block: The factors of longer modes are taken to be block diagonal, with equal blocks no longer than this;
            ``None`` leaves them whole, and so are those of vectors.
        half: Keep the roots of single-precision tensors in bfloat16, and multiply by them in bfloat16 where the device
            does so natively.
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
    block: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        """Check the length of a block, the decay and what is added."""
        if not (self.eps >= 0.0 and 0.0 <= self.beta <= 1.0):
            raise BadInputError(f"eps must not be negative and beta in [0, 1], not {self.eps} and {self.beta}")
        if self.block is not None and self.block < 1:
            raise BadInputError(f"the side of a block must be at least 1, not {self.block}")

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
        resting = torch.bfloat16 if self.half and dtype == torch.float32 else dtype
        shapes = factor_shapes(dims, self.max_dim, block=self.block, vectors=self.vectors, one_sided=self.one_sided)
        modes = sum(shape is not None for shape in shapes)

        def root(shape: tuple[int, ...]) -> float:
            trace = self.eps * math.prod(shape[:-1]) if self.trace_scale and modes > 1 else 1.0
            return (self.eps / trace ** (1.0 - 1.0 / modes)) ** self._exponent(modes) if self.eps > 0 else 1.0

        def scaled_identity(shape: tuple[int, ...], scale: float, dtype: torch.dtype = dtype) -> Tensor:
            identity = torch.eye(shape[-1], dtype=dtype, device=like.device)
            return (scale * identity).expand(like.shape[0], *shape).clone()

        def counter() -> Tensor:
            return torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)

        warm = self.root is not None and self.root.warm
        return KroneckerState(
            factors=[None if shape is None else scaled_identity(shape, self.eps) for shape in shapes],
            roots=[None if shape is None else scaled_identity(shape, root(shape), resting) for shape in shapes],
            bases=[scaled_identity(shape, 1.0) if shape is not None and warm else None for shape in shapes],
            steps=counter(),
            failures=counter() if self.tolerated is not None else None,
            dims=tuple(dims),
        )

    def observe(self, state: KroneckerState, evidence: Evidence) -> None:
        """Add the Gram matrix of every unfolding."""
        gradient = self._whole_blocks(_with_modes(need(evidence.gradient, "gradient")))
        if evidence.counted is None:
            state.steps.add_(1)
        elif evidence.counted:
            state.steps[list(evidence.counted)] += 1
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
        spectral = take if isinstance(take, Eigen) and self.eps > 0 and not self.debias else None
        absorbed = 0 if spectral is None else int(state.steps.max())
        any_failed: Tensor | bool = False
        for mode, (factor, root, basis) in enumerate(zip(state.factors, state.roots, state.bases, strict=True)):
            if factor is None or root is None:
                continue
            complete(factor)
            moment = factor
            if self.debias and self.beta < 1.0:
                moment = factor / debias(self.beta, state.steps, factor)
            rank = absorbed * math.prod(state.dims) // max(1, state.dims[mode])
            few = absorbed and 2 * rank <= factor.shape[-1]
            if spectral is not None and few:  # so few gradients leave most of the identity as it was
                ridge = (self.eps * self.beta**state.steps).to(factor.dtype)
                ridges = ridge.repeat_interleave(len(by_block(factor)) // len(ridge))
                new, failed = low_rank_inverse_root(by_block(factor), -1.0 / exponent, ridges, rank, eps=spectral.floor)
            else:
                new, failed = take(by_block(moment), -1.0 / exponent, None if basis is None else by_block(basis))
            new, failed = new.view(factor.shape), failed.view(len(factor), -1)
            if self.trace_scale and modes > 1:
                new = new * _trace(moment).pow(-exponent * (1.0 - 1.0 / modes))
            root.copy_(torch.where(failed.view(*factor.shape[:-2], 1, 1), root, new))
            failed = failed.any(1)
            any_failed = failed | any_failed
            health += Health.of(failed, f"no inverse root of the factor of mode {mode}")
        return health + self._count(state, any_failed)

    def apply(self, state: KroneckerState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply every mode by its root."""
        refuse_shift(self, shift)
        modes = _with_modes(v)
        return trim(mode_products(self._whole_blocks(modes), state.roots), modes.shape[1:]).reshape(v.shape)

    def _whole_blocks(self, v: Tensor) -> Tensor:
        """Return ``v`` with the zeros behind modes that blocks do not fit."""
        return v if self.block is None else overhang(v, block_lengths(v.shape[1:], self.block))

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
    """Return the traces, ``[batch, 1, ..., 1]`` to multiply the factors by, one where there is none to divide by."""
    trace = factor.diagonal(dim1=-2, dim2=-1).flatten(1).sum(-1)
    return torch.where(trace.isfinite() & (trace > 0), trace, 1.0).view(-1, *(1,) * (factor.ndim - 1))


def _with_modes(v: Tensor) -> Tensor:
    """Return ``v`` with at least one axis beside the batch."""
    return v if v.ndim > 1 else v.unsqueeze(-1)
