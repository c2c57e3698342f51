"""Anything that users hold as a matrix, as an `Operator`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Operator
from precond.operators.checks import as_tensor, check_shape, numpy_dtype, torch_dtype, working_dtype
from precond.operators.dense import DenseOperator
from precond.operators.function import FunctionOperator
from precond.operators.sparse import SparseOperator


def as_operator(
    A: Any,
    *,
    symmetric: bool | None = None,
    definite: bool | None = None,
    dtype: torch.dtype | None = None,
) -> Operator:
    """Return ``A`` as an operator.

    Args:
        A: An `Operator`; a dense or sparse (CSR, COO, CSC) torch tensor; a NumPy array or nested list; a SciPy sparse
            matrix or array; or a ``scipy.sparse.linalg.LinearOperator``.
        symmetric: Whether ``A`` equals its conjugate transpose. Found from the entries when not given.
        definite: Whether ``A`` is positive definite. When not given, it is known only where the diagonal refutes it.
        dtype: Convert the entries to this type when that loses nothing; operators without entries keep theirs.

    Returns:
        The operator: `A` itself if it is one.

    Raises:
        BadInputError: It is none of these, has no rows or columns, or an entry is not finite.
    """
    traits: dict[str, Any] = {"symmetric": symmetric, "definite": definite}
    if isinstance(A, Operator):
        return _declared(A, symmetric, definite)
    if isinstance(A, Tensor):
        A = A.detach()
        check_shape(tuple(A.shape))
        if A.layout == torch.strided:
            return DenseOperator(A if dtype is None else A.to(_wider(A.dtype, dtype)), **traits)
        return SparseOperator(_widened(from_torch(A), dtype), device=A.device, **traits)
    if scipy.sparse.issparse(A):
        return SparseOperator(_widened(A, dtype), **traits)
    if isinstance(A, scipy.sparse.linalg.LinearOperator):
        return _from_linear_operator(A, symmetric, definite)
    if A is None or isinstance(A, str) or callable(A):
        raise BadInputError(
            f"cannot read a matrix from {type(A).__name__}: give a torch tensor, a NumPy array, a SciPy sparse "
            "matrix, a LinearOperator or a precond Operator"
        )
    return as_operator(as_tensor(A, "A"), dtype=dtype, **traits)


def _declared(operator: Operator, symmetric: bool | None, definite: bool | None) -> Operator:
    """Return the operator with what the caller declares added to its traits."""
    if symmetric is None and definite is None:
        return operator
    traits = dataclasses.replace(
        operator.traits,
        **{k: v for k, v in {"symmetric": symmetric, "definite": definite}.items() if v is not None},
    )
    declared = object.__new__(type(operator))
    declared.__dict__.update(operator.__dict__)
    declared.traits = traits
    return declared


def _wider(own: torch.dtype, asked: torch.dtype) -> torch.dtype:
    return torch.promote_types(working_dtype(own), asked)


def _widened(matrix: Any, dtype: torch.dtype | None) -> Any:
    if dtype is None:
        return matrix
    own = torch_dtype(matrix.dtype)
    return matrix if own == dtype else matrix.astype(numpy_dtype(_wider(own, dtype)), copy=False)


def from_torch(A: Tensor) -> scipy.sparse.csr_array:
    """Return a sparse torch matrix as CSR, sharing memory where the layout allows."""
    if A.layout == torch.sparse_csr and A.device.type == "cpu":
        parts = (A.values().numpy(), A.col_indices().numpy(), A.crow_indices().numpy())
        return scipy.sparse.csr_array(parts, shape=(A.shape[0], A.shape[1]))
    coo = (A.to_sparse_coo() if A.layout != torch.sparse_coo else A).coalesce().cpu()
    row, column = coo.indices().numpy()
    return scipy.sparse.coo_array((coo.values().numpy(), (row, column)), shape=tuple(A.shape)).tocsr()


def _from_linear_operator(
    A: scipy.sparse.linalg.LinearOperator, symmetric: bool | None, definite: bool | None
) -> FunctionOperator:
    """Return SciPy's operator on rows of torch vectors; whether it has an adjoint is tried on a zero vector."""
    numpy_dtype = np.dtype(A.dtype if A.dtype is not None else np.float64)
    dtype = working_dtype(torch_dtype(numpy_dtype))

    def matvec(x: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(A.matvec(row)) for row in x.numpy(force=True)])).to(dtype)

    def rmatvec(y: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(A.rmatvec(row)) for row in y.numpy(force=True)])).to(dtype)

    try:
        A.rmatvec(np.zeros(A.shape[0], numpy_dtype))
        adjoint = rmatvec
    except NotImplementedError:
        adjoint = None
    return FunctionOperator(
        matvec, A.shape, rmatvec=adjoint, dtype=dtype, symmetric=symmetric, definite=definite
    )  # fmt: skip
