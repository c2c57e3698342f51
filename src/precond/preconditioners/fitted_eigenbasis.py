"""A slowly turning orthogonal basis: the eigenvectors of Kronecker factors that are weighted by one another."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from precond.core import HEALTHY, BadInputError, Evidence, Health, Role, need, rests_as
from precond.math.factors.bjorck import restored
from precond.math.factors.first_bases import first_bases
from precond.math.factors.turns import off_diagonal_mass, qr_turn
from precond.math.machine.products import multiplied, multiplies_bfloat16
from precond.math.tensors.modes import add_gram, by_block, complete, unfolding
from precond.preconditioners.kullback_leibler import along
from precond.preconditioners.turning_basis import TurningBasis, whole_order

_LOSS = 0.01
"""Part of its orthogonality that a basis may lose to the roundings of turns before it is given back."""


@dataclasses.dataclass
class FittedEigenbasisState:
    """State of `FittedEigenbasis`; a mode without a basis has ``None``.

    Attributes:
        factors: The factors in the coordinates of their bases, ``Q_i^T S_i Q_i``, each ``[batch, n, n]``; of modes in
            blocks only their diagonal blocks, ``[batch, blocks, side, side]``.
        bases: Approximate eigenvectors ``Q_i`` in columns, largest eigenvalue first, shaped like the factors.
        values: Estimates of the eigenvalues of the factors, each ``[batch, n]``.
        dims: Axes of a tensor, the batch not counted.
    """

    factors: list[Tensor | None] = rests_as(Role.SYMMETRIC)
    bases: list[Tensor | None] = rests_as(Role.ORTHOGONAL)
    values: list[Tensor | None] = rests_as(Role.EXACT)
    dims: tuple[int, ...]  # type: ignore[misc]  # rests_as gives no default


@final
@dataclasses.dataclass(frozen=True)
class FittedEigenbasis(TurningBasis):
    """The eigenbasis of factors that come nearest to the second moment in the Kullback-Leibler divergence.

    Used by `Rotate` as `Eigenbasis` is, and turned as that is. Its factors are those of `KLKronecker`: each Gram matrix
    is divided by the eigenvalues of all other factors. They are kept in the coordinates of their bases, where gradients
    come anyhow, the weights are diagonal, and products in bfloat16 lose nothing of small eigenvalues: their errors are
    relative to entries that are as small.

    Sources: KL-Shampoo (arXiv 2509.03378); SOAP (arXiv 2409.11321), Algorithm 4, for the turns.

    Attributes:
        beta: Decay of the averages.
        max_dim: Modes longer than this keep their own basis, and weight no other factor.
        vectors: Whether tensors with one axis get a basis.
        one_sided: Only the shortest mode turns, the last of them where there are several; nothing weights its factor.
        tolerance: A basis is not turned while the off-diagonal part of its factor is at most this fraction of the
            whole, in Frobenius norms; 0 turns always.
        block: Longest side of a block; see `TurningBasis`.
        half: Keep the bases of single-precision tensors in bfloat16, and multiply in bfloat16 where the device does so
            natively: by the bases, for the Gram matrices and in turns. Factors are averaged and decomposed in single
            precision.
        start: What eigenvalues start at.
        gain: Largest inverse root of an eigenvalue: the length of the mode, at most this (and at least 10).
    """

    start: float = 0.1
    gain: float = 4000.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if not (0.0 <= self.beta < 1.0 and self.start > 0 and self.gain > 0):
            raise BadInputError(
                f"beta must be in [0, 1), start and gain positive, not {self.beta}, {self.start} and {self.gain}"
            )

    def init(self, like: Tensor) -> FittedEigenbasisState:
        """Start with zero factors, the identity as basis, and equal eigenvalues."""
        shapes, factors, bases = self.begin(like)
        dtype = torch.promote_types(like.dtype, torch.float32)

        def equal(shape: tuple[int, ...]) -> Tensor:
            entries = math.prod(shape[:-1])
            return torch.full((like.shape[0], entries), self.start, dtype=dtype, device=like.device)

        values = [None if shape is None else equal(shape) for shape in shapes]
        return FittedEigenbasisState(factors, bases, values, tuple(like.shape[1:]))

    def prime(self, state: FittedEigenbasisState, evidence: Evidence) -> Health:
        """Find the bases from the first gradient, and absorb it without weights; members that fail keep theirs."""
        gradient, health = need(evidence.gradient, "gradient"), HEALTHY
        found = first_bases(self.coordinates(gradient), state.bases)
        for mode, (basis, of_mode) in enumerate(zip(state.bases, found, strict=True)):
            if basis is not None and of_mode is not None:
                vectors, failed = of_mode
                basis.copy_(vectors.view(basis.shape))  # the identity where it failed
                health += Health.of(failed.view(len(basis), -1).any(1), f"no eigendecomposition of mode {mode}")
        within = self.enter(state, gradient)
        for mode in range(len(state.dims)):
            self._average(state, mode, within, evidence)
        return health

    def observe(self, state: FittedEigenbasisState, evidence: Evidence, within: Tensor) -> None:
        """Average the Gram matrix of every mode, divided by the eigenvalues of the others, and its diagonal."""
        roots = [None if values is None else values.rsqrt() for values in state.values]
        for mode, values in enumerate(state.values):
            if values is None:
                continue
            white = within
            for other, root in enumerate(roots):
                if other != mode and root is not None:
                    white = white * along(root, other, within.ndim)
            self._average(state, mode, white, evidence)
            squares = unfolding(white, mode).square().sum(-1)
            least, weight = max(10.0, min(values.shape[-1], self.gain)) ** -2, self._weight(within, mode)
            if evidence.counted is None:
                values.mul_(self.beta).add_(squares, alpha=weight).clamp_(min=least)
            else:
                counted = list(evidence.counted)
                mean = torch.add(values[counted] * self.beta, squares[counted], alpha=weight)
                values[counted] = mean.clamp_(min=least)

    def refresh(self, state: FittedEigenbasisState) -> tuple[list[Tensor | None], Health]:
        """Turn the bases by ``K = U R``, ``Q <- Q U``, ``K <- U^T K U``; members that fail keep theirs.

        Products of turns lose orthogonality by their roundings, turn after turn; where that shows, one of Bjorck's
        steps gives it back.

        Args:
            state: Written in place.

        Returns:
            For each mode the permutation ``[batch, n]`` of the old axes that the new ones follow, and the health.
        """
        orders: list[Tensor | None] = []
        health, half = HEALTHY, self._in_half(state)
        for mode, (factor, basis, values) in enumerate(zip(state.factors, state.bases, state.values, strict=True)):
            if factor is None or basis is None or values is None:
                orders.append(None)
                continue
            complete(factor)
            blocks = by_block(factor)
            turn, turned, order, failed = self._turn(blocks, half)
            blocks.copy_(turned)
            basis.copy_(restored(multiplied(by_block(basis), turn, half), _LOSS).view(basis.shape))
            order = whole_order(order, basis)
            values.copy_(values.gather(-1, order))
            orders.append(order)
            health += Health.of(failed.view(len(factor), -1).any(1), f"no new basis of mode {mode}")
        return orders, health

    def _in_half(self, state: FittedEigenbasisState) -> bool:
        """Whether to multiply in bfloat16."""
        bases = [basis for basis in state.bases if basis is not None]
        return bool(bases) and bases[0].dtype == torch.bfloat16 and multiplies_bfloat16(bases[0].device)

    def _average(self, state: FittedEigenbasisState, mode: int, v: Tensor, evidence: Evidence) -> None:
        """Absorb the Gram matrix of one mode of ``v``."""
        factor, half, alpha = state.factors[mode], self._in_half(state), self._weight(v, mode)
        if factor is not None:
            add_gram(factor, v, mode, beta=self.beta, alpha=alpha, members=evidence.counted, half=half)

    def _weight(self, v: Tensor, mode: int) -> float:
        """Return the weight of a new Gram matrix: a mean over the other modes, in a moving average."""
        return (1.0 - self.beta) * v.shape[mode + 1] / max(1, math.prod(v.shape[1:]))

    def _turn(self, factors: Tensor, half: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return rotations of factors ``[batch, n, n]``, the identity where not due, and what else `qr_turn` does."""
        if self.tolerance == 0.0:
            return qr_turn(factors, half)
        due = (~(off_diagonal_mass(factors) <= self.tolerance)).nonzero()[:, 0]  # NaN is left to be reported
        turn = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device).expand_as(factors)
        order = torch.arange(factors.shape[-1], device=factors.device).expand(factors.shape[:-1])
        failed = torch.zeros(len(factors), dtype=torch.bool, device=factors.device)
        if not len(due):
            return turn, factors, order, failed
        found = qr_turn(factors[due], half)
        turn, factors, order, failed = (
            old.index_copy(0, due, new.to(old.dtype))
            for old, new in zip((turn, factors, order, failed), found, strict=True)
        )
        return turn, factors, order, failed
