"""The matrices of a batch, side by side, as an operator on rows."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits


class MembersOperator(Operator):
    """One dense matrix for each row, or for each ``k`` rows that follow one another.

    A member that is done can leave: from then on it is the identity, which costs nothing, keeps any iteration that
    still carries its row finite, and lets the others go on as they were.

    Args:
        matrices: Shape ``[members, n, n]``, finite. Not copied: do not change them while in use.
        traits: What holds for each of them.
        columns: Rows of each member, ``k``.
    """

    def __init__(self, matrices: Tensor, traits: OperatorTraits, columns: int = 1) -> None:
        self.matrices, self.traits, self.columns = matrices, traits, columns
        self.shape = (matrices.shape[1], matrices.shape[2])
        self.dtype, self.device = matrices.dtype, matrices.device
        self._gone: Tensor | None = None
        self._rows, self._here = torch.arange(len(matrices), device=self.device), matrices

    def leave(self, members: Tensor) -> None:
        """Let members leave.

        Args:
            members: Mask ``[members]`` of all that have left.
        """
        self._gone = members.clone()
        staying = (~members).nonzero().flatten()
        if 2 * len(staying) <= len(self._rows):  # gathering them is worth it where that halves what is read
            self._rows, self._here = staying, self.matrices[staying]

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A_i x_i`` for each row ``x_i``; shape ``[members * k, n]``."""
        v = x.reshape(len(self.matrices), self.columns, self.shape[1])
        if self._gone is None:
            return _products(self.matrices, v).reshape(x.shape)
        y = v.clone()
        y[self._rows] = _products(self._here, v[self._rows])
        y[self._gone] = v[self._gone]
        return y.reshape(x.shape)

    def diagonal(self) -> Tensor:
        """Return the diagonal of the matrix of each row, shape ``[members * k, n]``."""
        return self.matrices.diagonal(dim1=-2, dim2=-1).repeat_interleave(self.columns, dim=0)


def _products(matrices: Tensor, v: Tensor) -> Tensor:
    """Return ``A_i v`` for the rows ``v`` of each member; ``[members, n, n], [members, k, n] -> [members, k, n]``."""
    if v.shape[1] == 1:
        return torch.bmm(matrices, v.mT).mT
    return v @ matrices.mT
