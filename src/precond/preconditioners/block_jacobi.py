"""The diagonal blocks of the matrix."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Evidence,
    Health,
    IncompatibleError,
    Need,
    Operator,
    Preconditioner,
    Scope,
    Traits,
)
from precond.preconditioners.triangles import operator_with_entries


@dataclasses.dataclass
class BlockJacobiState:
    """State of `BlockJacobi`.

    Attributes:
        inverses: Inverses of the blocks, shape ``[batch, blocks, size, size]``; the last is padded with the identity.
        operator: The operator seen last.
    """

    inverses: Tensor
    operator: Operator | None = None


@final
@dataclasses.dataclass(frozen=True)
class BlockJacobi(Preconditioner[BlockJacobiState]):
    """``apply(v)`` solves with the blocks on the diagonal, of ``size`` consecutive unknowns each.

    Of a symmetric matrix the eigenvalues of each block enter by their absolute values, which keeps the map positive
    definite and changes nothing for a definite matrix. Eigenvalues (singular values, when the matrix is not symmetric)
    below rounding are replaced by the largest of their block (by one for a block of zeros), and ``refresh`` says so.

    Attributes:
        size: Unknowns of a block.
    """

    size: int = 8

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size < 1:
            raise BadInputError(f"block-jacobi needs blocks of at least 1 unknown, not size={self.size}")

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, for a symmetric matrix."""
        return Traits()

    def init(self, like: Tensor) -> BlockJacobiState:
        """Start as the identity."""
        batch, n = like.shape
        one = torch.eye(self.size, dtype=like.dtype, device=like.device)
        return BlockJacobiState(one.repeat(batch, -(-n // self.size), 1, 1))

    def observe(self, state: BlockJacobiState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, "block-jacobi")

    def refresh(self, state: BlockJacobiState) -> Health:
        """Invert the blocks."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None or state.operator is None:
            return Health()
        count, size, n = state.inverses.shape[1], self.size, matrix.shape[0]
        row = np.repeat(np.arange(n), np.diff(matrix.indptr))
        inside = row // size == matrix.indices // size
        row, col = row[inside], matrix.indices[inside]
        blocks = np.zeros((count, size, size), matrix.dtype)
        np.add.at(blocks, (row // size, row % size, col % size), matrix.data[inside])
        padding = np.arange(n, count * size)
        blocks[padding // size, padding % size, padding % size] = 1
        inverses, replaced = _inverses(torch.from_numpy(blocks), bool(state.operator.traits.symmetric))
        if not bool(torch.isfinite(inverses).all()):
            return Health(failures=1, detail="block-jacobi: an inverse is not finite; the last one is kept")
        state.inverses.copy_(inverses.expand_as(state.inverses))
        return Health(detail=f"block-jacobi: {replaced} vanishing eigenvalues were replaced" if replaced else "")

    def apply(self, state: BlockJacobiState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Multiply each piece of ``v`` by the inverse of its block."""
        if shift != 0:
            raise IncompatibleError("block-jacobi accepts no shift: use jacobi or identity")
        return self._multiplied(state.inverses, v)

    def apply_adjoint(self, state: BlockJacobiState, v: Tensor) -> Tensor:
        """Multiply each piece of ``v`` by the adjoint of the inverse of its block."""
        return self._multiplied(state.inverses.mH, v)

    def _multiplied(self, inverses: Tensor, v: Tensor) -> Tensor:
        batch, n = v.shape
        padded = torch.nn.functional.pad(v, (0, inverses.shape[1] * self.size - n))
        pieces = padded.view(batch, -1, self.size, 1)
        return (inverses @ pieces).reshape(batch, -1)[:, :n].contiguous()


def _inverses(blocks: Tensor, symmetric: bool) -> tuple[Tensor, int]:
    """Return the inverses of a batch of blocks, and how many eigenvalues were too small to invert."""
    eps = torch.finfo(blocks.dtype).eps
    if symmetric:
        values, left = torch.linalg.eigh(blocks)
        values, right = values.abs(), left.mH
    else:
        u, values, vh = torch.linalg.svd(blocks)
        left, right = vh.mH, u.mH
    largest = values.amax(dim=-1, keepdim=True)
    tiny = values <= 10 * eps * largest
    values = torch.where(tiny, torch.where(largest > 0, largest, 1), values)
    return (left / values.unsqueeze(-2)) @ right, int(tiny.sum())
