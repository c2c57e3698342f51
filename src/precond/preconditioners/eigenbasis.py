"""A slowly turning orthogonal basis: the eigenvectors of the Kronecker factors of the second moment."""

from __future__ import annotations

import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Role, need, rests_as
from precond.math.factors.eigen import all_eigenvectors
from precond.math.factors.first_bases import first_bases
from precond.math.factors.turns import off_diagonal_mass, power_qr
from precond.math.machine.products import fast_products
from precond.math.tensors.modes import add_gram, by_block, complete
from precond.preconditioners.turning_basis import TurningBasis, whole_order


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
class Eigenbasis(TurningBasis):
    """The eigenbasis of Shampoo's factors: found once, then turned by one step of orthogonal iteration per refresh.

    Vectors and scalars keep their own basis unless told otherwise. Not a preconditioner: `Rotate` uses it to run one in
    this basis.

    Sources: SOAP (arXiv 2409.11321), Algorithms 3 and 4; ``tolerance``: Eschenhagen et al. (arXiv 2506.03595).

    Attributes:
        beta: Decay of the averages of the factors, which start at zero.
        max_dim: Modes longer than this keep their own basis.
        vectors: Whether tensors with one axis get a basis.
        one_sided: Only the shortest mode turns, the last of them where there are several.
        tolerance: A basis ``Q`` is not turned while the off-diagonal part of ``Q^T A Q`` is at most this fraction of
            the whole, in Frobenius norms; 0 turns always.
        block: Longest side of a block; see `TurningBasis`.
        half: Keep the bases in bfloat16; see `TurningBasis`. Statistics and turns stay in single precision.
    """

    def init(self, like: Tensor) -> EigenbasisState:
        """Start with zero factors and the identity as basis."""
        _, factors, bases = self.begin(like)
        found = torch.zeros(like.shape[0], dtype=torch.bool, device=like.device)
        return EigenbasisState(factors, bases, found, tuple(like.shape[1:]))

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
