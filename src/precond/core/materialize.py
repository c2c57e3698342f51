"""Operators made dense, in chunks and only below a limit on memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from precond.core.errors import IncompatibleError
from precond.core.operator import Operator

if TYPE_CHECKING:
    import scipy.sparse

LIMIT = 2**31
"""Bytes that a matrix may take, unless told otherwise."""
CHUNK = 64
"""Products asked for at once."""


def fits(operator: Operator, limit: int = LIMIT) -> bool:
    """Whether the dense matrix stays within ``limit`` bytes."""
    m, n = operator.shape
    return m * n * torch.empty((), dtype=operator.dtype).element_size() <= limit


def sparse_entries(operator: Operator) -> scipy.sparse.csr_array | None:
    """Return the entries of a matrix that is kept as a sparse one; ``None`` for dense matrices and mere products."""
    return None if operator.dense() is not None else operator.entries()


def materialize(operator: Operator, limit: int = LIMIT) -> Tensor:
    """Return the matrix of an operator, ``[m, n]``, by products with the unit vectors of its shorter side.

    Args:
        operator: The operator; dense ones hand out their own matrix.
        limit: Bytes that the matrix may take.

    Returns:
        The matrix; do not change it.

    Raises:
        IncompatibleError: It would take more.
    """
    given = operator.assembled() if fits(operator, limit) else operator.dense()
    if given is not None:
        return given
    m, n = operator.shape
    if not fits(operator, limit):
        raise IncompatibleError(
            f"a dense matrix of shape [{m}, {n}] takes more than {limit / 2**30:.1f} GiB: use an iterative inner solver"
        )
    by_rows = m < n and operator.has_adjoint
    product = operator.rmatvec if by_rows else operator.matvec
    unit = torch.eye(m if by_rows else n, dtype=operator.dtype, device=operator.device)
    parts = [product(part) for part in torch.split(unit, CHUNK)]
    matrix = torch.cat(parts) if parts else unit.new_zeros(0, n if by_rows else m)
    return matrix.conj() if by_rows and matrix.is_complex() else matrix if by_rows else matrix.mT.contiguous()
