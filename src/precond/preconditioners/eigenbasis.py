"""A slowly turning orthogonal basis: the eigenvectors of the Kronecker factors of the second moment."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import HEALTHY, Evidence, Health, Need, Role, need, rests_as
from precond.math.eigen import gram_eigenvectors, off_diagonal_mass, power_qr, safe_eigh
from precond.math.modes import add_gram, complete, mode_products, unfolding
from precond.math.products import fast_products
from precond.math.shapes import modes_with_factor


@dataclasses.dataclass
class EigenbasisState:
    """State of `Eigenbasis`; a mode longer than ``max_dim`` has ``None``, and vectors have no modes.

    Attributes:
        factors: Averages of the Gram matrices of the modes, each ``[batch, n, n]``.
        bases: Approximate eigenvectors in columns, largest eigenvalue first, each ``[batch, n, n]``.
        found: Whether a member has had its first eigendecomposition, ``[batch]``.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    found: Tensor


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
        tolerance: A basis ``Q`` is not turned while the off-diagonal part of ``Q^T A Q`` is at most this fraction of
            the whole, in Frobenius norms; 0 turns always.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    beta: float = 0.95
    max_dim: int = 10000
    vectors: bool = False
    one_sided: bool = False
    tolerance: float = 0.0

    def init(self, like: Tensor) -> EigenbasisState:
        """Start with zero factors and the identity as basis."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        batch, dims = like.shape[0], like.shape[1:]
        kept = modes_with_factor(dims, self.max_dim, vectors=self.vectors, one_sided=self.one_sided)

        def identity(dim: int) -> Tensor:
            return torch.eye(dim, dtype=dtype, device=like.device).expand(batch, dim, dim).clone()

        return EigenbasisState(
            factors=[
                torch.zeros(batch, dim, dim, dtype=dtype, device=like.device) if keep else None
                for dim, keep in zip(dims, kept, strict=True)
            ],
            bases=[identity(dim) if keep else None for dim, keep in zip(dims, kept, strict=True)],
            found=torch.zeros(batch, dtype=torch.bool, device=like.device),
        )

    def prime(self, state: EigenbasisState, evidence: Evidence) -> Health:
        """Absorb the first gradient and decompose at once; members that fail are tried again at the next refresh."""
        self.observe(state, evidence)
        return self._find(state, evidence.gradient)

    def observe(self, state: EigenbasisState, evidence: Evidence) -> None:
        """Absorb the Gram matrices of a gradient; the basis stays."""
        gradient = need(evidence.gradient, "gradient")
        for mode, factor in enumerate(state.factors):
            if factor is not None:
                add_gram(factor, gradient, mode, beta=self.beta, alpha=1.0 - self.beta)

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
            turned, order, failed = power_qr(factor, basis) if self.tolerance == 0.0 else self._turn(factor, basis)
            basis.copy_(turned)
            orders.append(order)
            health += Health.of(failed, f"no new basis of mode {mode}")
        if not bool(state.found.all()):
            health += self._find(state)
        return orders, health

    def enter(self, state: EigenbasisState, v: Tensor) -> Tensor:
        """Return the coordinates of ``v`` in the basis."""
        return mode_products(v, state.bases, transpose=True)

    def leave(self, state: EigenbasisState, v: Tensor) -> Tensor:
        """Return the vector whose coordinates in the basis are ``v``."""
        return mode_products(v, state.bases)

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

    @staticmethod
    def _find(state: EigenbasisState, gradient: Tensor | None = None) -> Health:
        """Decompose the factors of members that have no basis yet; ``gradient`` is all they have seen, if given."""
        health = HEALTHY
        new = ~state.found
        solved = new.clone()
        for mode, (factor, basis) in enumerate(zip(state.factors, state.bases, strict=True)):
            if factor is None or basis is None:
                continue
            vectors, failed = _eigenvectors(factor, None if gradient is None else unfolding(gradient, mode))
            solved &= ~failed
            basis.copy_(torch.where((new & ~failed)[:, None, None], vectors, basis))
            health += Health.of(new & failed, f"no eigendecomposition of the factor of mode {mode}")
        state.found |= solved
        return health


def _eigenvectors(factor: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors of a factor, largest eigenvalue first: of ``rows rows^T``, if they are given and few."""
    if rows is not None and rows.shape[-1] < rows.shape[-2]:
        return gram_eigenvectors(rows.to(factor.dtype))
    complete(factor)
    _, vectors, failed = safe_eigh(factor)
    return vectors.flip(-1), failed
