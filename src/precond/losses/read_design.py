"""Matrices of linear models in the forms in which users have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError
from precond.losses.dense_design import DenseDesign
from precond.losses.design import Design
from precond.losses.sparse_design import SparseDesign


def read_design(matrix: Any, what: str = "A") -> Design:
    """Return the matrix of a linear model from a tensor, an array, or a sparse matrix of SciPy or torch.

    Args:
        matrix: Shape ``[m, n]``; integers become float64.
        what: Its name in messages.

    Returns:
        The matrix.

    Raises:
        BadInputError: It has another number of dimensions, or entries that are complex or not finite.
    """
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        coo = matrix.detach().cpu().to_sparse_coo().coalesce()
        matrix = scipy.sparse.csr_array((coo.values().numpy(), coo.indices().numpy()), shape=tuple(coo.shape))
    if scipy.sparse.issparse(matrix):
        kept = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
        if not np.isfinite(kept.tocsr().data).all():
            raise BadInputError(f"{what} has an entry that is not finite: remove or replace it")
        return SparseDesign(kept)
    try:
        tensor = matrix.detach() if isinstance(matrix, Tensor) else torch.as_tensor(np.asarray(matrix))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot read {what} from {type(matrix).__name__}: give a matrix of numbers") from error
    if tensor.is_complex():
        raise BadInputError(f"{what} is complex: losses are of real matrices")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    if tensor.ndim != 2:
        raise BadInputError(f"{what} has shape {tuple(tensor.shape)}: give a matrix [m, n]")
    if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):  # a sum is one pass
        raise BadInputError(f"{what} has an entry that is not finite: remove or replace it")
    return DenseDesign(tensor)
