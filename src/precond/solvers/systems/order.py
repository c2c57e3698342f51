"""Systems whose rows stand in an order that hides what kind of matrix it is."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator
from precond.math.sparse.matching import largest_on_diagonal
from precond.operators import as_operator

_gaps = 0.1
"""Share of zeros on the diagonal from which on another order of the rows is looked for."""


def in_order(operator: Operator, rows: Tensor) -> tuple[Operator, Tensor, bool]:
    """Return a system with its equations in the order in which the diagonal is large, where it has many zeros.

    The solution and the residuals are those of the system as it was.

    Args:
        operator: The matrix.
        rows: Right-hand sides, ``[batch, n]``.

    Returns:
        The matrix and the right-hand sides in that order, and whether it is another one.
    """
    fits = operator.shape[0] == operator.shape[1] == rows.shape[-1]
    if operator.dense() is not None or not fits or operator.traits.symmetric or operator.device.type != "cpu":
        return operator, rows, False
    matrix = operator.entries()
    if matrix is None or np.count_nonzero(matrix.diagonal() == 0) <= _gaps * len(rows[0]):
        return operator, rows, False
    order = largest_on_diagonal(matrix)
    if order is None:
        return operator, rows, False
    return as_operator(scipy.sparse.csr_array(matrix[order])), rows[:, torch.from_numpy(order)], True
