"""A slowly turning orthogonal basis: the eigenvectors of the Kronecker factors of the second moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, BadInputError, Evidence, Health, Need, Role, need, rests_as
from precond.math.eigen import all_eigenvectors
from precond.math.first_bases import first_bases
from precond.math.modes import add_gram, by_block, complete, mode_products
from precond.math.products import fast_products
from precond.math.shapes import block_lengths, factor_shapes, modes_with_factor
from precond.math.tiles import overhang, trim
from precond.math.turns import off_diagonal_mass, power_qr


@dataclasses.dataclass
class EigenbasisState:
    """State of `Eigenbasis`; a mode without a basis has ``None``.

    Attributes:
        factors: Averages of the Gram matrices of the modes, each ``[batch, n, n]``; of modes in blocks only their
            diagonal blocks, ``[batch, blocks, side, side]``.
        bases: Approximate eigenvectors in columns, largest eigenvalue first, shaped like the factors.
        found: Whether a member has had its first eigendecomposition, ``[batch]``.
        dims: Axes of a tensor, the batch not counted.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    found: Tensor  # type: ignore[misc]  # rests_as gives no default
    dims: tuple[int, ...]  # type: ignore[misc]  # rests_as gives no default


@final
@dataclasses.dataclass(frozen=True)
class Eigenbasis:
    """The eigenbasis of Shampoo's factors: found once, then turned by one step of orthogonal iteration per refresh.

    Vectors and scalars keep their own basis unless told otherwise. Not a preconditioner: `Rotate` uses it to run one in
    this basis.

    Sources: SOAP (arXiv 2409.11321), Algorithms 3 and 4; ``tolerance``: Eschenhagen et al. (arXiv 2506.03595).

    Attributes:
        beta: Decay of the averages of the factors, which start at zero.
        max_dim: Modes longer than this keep their own basis.
        vectors: Whether tensors with one axis get a basis.
        one_sided: Only the shortest mode turns, the last of them where there are several.
        block: Longest side of a block: the factor of a longer mode is taken to be block diagonal, so that products with
            it, its statistics and its basis cost ``block / n`` of the whole ones; other modes do not notice. Blocks
            are equally long; where that leaves a remainder, coordinates have a few entries more, which are zero.
        half: Keep the bases of single-precision tensors in bfloat16, and multiply by them in bfloat16 where the device
            does so natively; statistics and turns stay in single precision.
        tolerance: A basis ``Q`` is not turned while the off-diagonal part of ``Q^T A Q`` is at most this fraction of
            the whole, in Frobenius norms; 0 turns always.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    beta: float = 0.95
    max_dim: int = 10000
    vectors: bool = False
    one_sided: bool = False
    tolerance: float = 0.0
    block: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        """Check the length of a block."""
        if self.block is not None and self.block < 1:
            raise BadInputError(f"the side of a block must be at least 1, not {self.block}")

    def init(self, like: Tensor) -> EigenbasisState:
        """Start with zero factors and the identity as basis."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        resting = torch.bfloat16 if self.half and dtype == torch.float32 else dtype
        batch, dims = like.shape[0], tuple(like.shape[1:])
        shapes = factor_shapes(dims, self.max_dim, block=self.block, vectors=self.vectors, one_sided=self.one_sided)

        def zeros(shape: tuple[int, ...]) -> Tensor:
            return torch.zeros(batch, *shape, dtype=dtype, device=like.device)

        def identity(shape: tuple[int, ...]) -> Tensor:
            return torch.eye(shape[-1], dtype=resting, device=like.device).expand(batch, *shape).clone()

        return EigenbasisState(
            factors=[None if shape is None else zeros(shape) for shape in shapes],
            bases=[None if shape is None else identity(shape) for shape in shapes],
            found=torch.zeros(batch, dtype=torch.bool, device=like.device),
            dims=dims,
        )

    def turns(self, dims: Sequence[int]) -> bool:
        """Whether a tensor with axes of these lengths has a basis at all: vectors may have none."""
        return any(modes_with_factor(dims, self.max_dim, vectors=self.vectors, one_sided=self.one_sided))

    def coordinates(self, like: Tensor) -> Tensor:
        """Return ``like`` with the zeros behind modes that blocks do not fit."""
        return overhang(like, block_lengths(like.shape[1:], self.block))

    def prime(self, state: EigenbasisState, evidence: Evidence) -> Health:
        """Absorb the first gradient and decompose at once; members that fail are tried again at the next refresh."""
        self.observe(state, evidence)
        return self._find(state, evidence.gradient)

    def observe(self, state: EigenbasisState, evidence: Evidence, within: Tensor | None = None) -> None:
        """Absorb the Gram matrices of a gradient, whose coordinates do not matter; the basis stays."""
        gradient = self.coordinates(need(evidence.gradient, "gradient"))
        for mode, factor in enumerate(state.factors):
            if factor is not None:
                add_gram(factor, gradient, mode, beta=self.beta, alpha=1.0 - self.beta, members=evidence.counted)

    def refresh(self, state: EigenbasisState) -> tuple[list[Tensor | None], Health]:
        """Turn the basis.

        Args:
            state: Written in place.

        Returns:
            For each mode the permutation ``[batch, n]`` of the old axes that the new ones follow, and the health.
        """
        orders: list[Tensor | None] = []
        health = HEALTHY
        for mode, (factor, basis) in enumerate(zip(state.factors, state.bases, strict=True)):
            if factor is None or basis is None:
                orders.append(None)
                continue
            complete(factor)
            blocks, bases = by_block(factor), by_block(basis).to(factor.dtype)
            turned, order, failed = power_qr(blocks, bases) if self.tolerance == 0.0 else self._turn(blocks, bases)
            if turned is not bases:  # else none was due, and a basis that rests in few bits is not rounded again
                basis.copy_(turned.reshape(basis.shape))
            orders.append(whole_order(order, basis))
            health += Health.of(failed.view(len(factor), -1).any(1), f"no new basis of mode {mode}")
        if not bool(state.found.all()):
            health += self._find(state)
        return orders, health

    def enter(self, state: EigenbasisState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the basis."""
        return mode_products(self.coordinates(v), state.bases, transpose=True)

    def leave(self, state: EigenbasisState, v: Tensor) -> Tensor:
        """Return the vector whose coordinates in the basis are ``v``."""
        return trim(mode_products(v, state.bases), state.dims)

    def _turn(self, factor: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn the bases that are no longer good enough; return all, the permutations, and who failed."""
        with fast_products(factor, factor.numel() * factor.shape[-1]):
            estimates = torch.bmm(basis.mT, torch.bmm(factor, basis))
        due = (~(off_diagonal_mass(estimates) <= self.tolerance)).nonzero()[:, 0]  # NaN is left to be reported
        order = torch.arange(basis.shape[-1], device=basis.device).expand(basis.shape[:-1]).clone()
        failed = torch.zeros(basis.shape[0], dtype=torch.bool, device=basis.device)
        if not len(due):
            return basis, order, failed
        turned, orders, failures = power_qr(factor[due], basis[due])
        return basis.index_copy(0, due, turned), order.index_copy(0, due, orders), failed.index_copy(0, due, failures)

    def _find(self, state: EigenbasisState, gradient: Tensor | None = None) -> Health:
        """Decompose the factors of members that have no basis yet; ``gradient`` is all they have seen, if given."""
        health = HEALTHY
        new = ~state.found
        solved = new.clone()
        bases = state.bases
        first: list[tuple[Tensor, Tensor] | None] = [None] * len(bases)
        if gradient is not None:
            first = first_bases(self.coordinates(gradient), bases)
        for mode, (factor, basis, of_mode) in enumerate(zip(state.factors, bases, first, strict=True)):
            if factor is None or basis is None:
                continue
            if of_mode is None:
                complete(factor)
                of_mode = all_eigenvectors(by_block(factor))
            vectors, failed = of_mode
            failed = failed.view(len(new), -1)
            taken, vectors = new[:, None] & ~failed, vectors.view(basis.shape)
            every = bool(taken.all())
            basis.copy_(vectors if every else torch.where(taken.view(*basis.shape[:-2], 1, 1), vectors, basis))
            solved &= ~failed.any(1)
            health += Health.of(new & failed.any(1), f"no eigendecomposition of the factor of mode {mode}")
        state.found |= solved
        return health


def whole_order(order: Tensor, basis: Tensor) -> Tensor:
    """Return the permutations within blocks, ``[batch * blocks, side]``, as those of the whole mode, ``[batch, n]``."""
    if basis.ndim == 3:
        return order
    batch, blocks, side = basis.shape[:3]
    starts = side * torch.arange(blocks, device=order.device)
    return (order.view(batch, blocks, side) + starts[:, None]).flatten(1)
