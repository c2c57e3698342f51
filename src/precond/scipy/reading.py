"""Systems as SciPy's solvers take them, read for the drivers of this library."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Kernel, Map, Operator, Preconditioner
from precond.math.sparse import csr_adjoint_times, rows_times_csr, unsigned
from precond.operators import FunctionOperator
from precond.operators.convert import from_torch


@dataclasses.dataclass(frozen=True)
class System:
    """A square system with one right-hand side.

    Attributes:
        operator: The matrix, known by its products.
        precondition: The preconditioner ``M``.
        b: Right-hand side, shape ``[1, n]``.
        x0: Starting point, shape ``[1, n]``.
        kernel: The same as compiled loops take it.
    """

    operator: FunctionOperator
    precondition: Map
    b: Tensor
    x0: Tensor
    kernel: Kernel

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return self.operator.shape[0]


def read_system(A: Any, b: Any, x0: Any, M: Any, shift: float = 0.0) -> System:
    """Read ``(A - shift I) x = b`` with a preconditioner.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator``.
        b: Right-hand side, shape ``[n]`` or ``[n, 1]``.
        x0: Starting point of one of these shapes, ``None`` for zero, ``"Mb"`` for ``M b``.
        M: The preconditioner, or ``None`` for ``A.psolve`` if there is one, else the identity.
        shift: Subtracted from the diagonal.

    Returns:
        The system in the common type of ``A`` and ``b``, real or complex, single or double precision.

    Raises:
        ValueError: The shapes do not fit each other.
        BadInputError: One of them is none of these, or a tensor that requires a gradient.
    """
    A, b, x0, M = plain(A, "A"), plain(b, "b"), plain(x0, "x0"), plain(M, "M")
    sparse = scipy.sparse.issparse(A)
    linear = A if sparse and A.ndim == 2 else as_linear(A, "A")
    rows, columns = linear.shape
    if rows != columns:
        raise ValueError(f"expected square matrix, but got shape={linear.shape}")
    right = np.asarray(b)
    if right.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"shapes of A {linear.shape} and b {right.shape} are incompatible")
    dtype = working_type(linear.dtype, right.dtype)
    right = right.ravel().astype(dtype)

    psolve: Callable[[Any], Any] | None = getattr(A, "psolve", None)
    if M is not None:
        inverse = as_linear(M, "M")
        if inverse.shape != linear.shape:
            raise ValueError("matrix and preconditioner have different shapes")
        psolve = vector_map(M, inverse)

    if x0 is None:
        start = np.zeros(rows, dtype)
    elif isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f"x0={x0!r} is not known: give an array, 'Mb' or None")
        start = np.array(right if psolve is None else psolve(right.copy()), dtype)
    else:
        start = np.array(x0, dtype)
    if start.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"shapes of A {linear.shape} and x0 {start.shape} are incompatible")

    matrix, product_of_one = None, None
    if sparse and A.dtype == dtype:
        matrix = parts = unsigned(A if A.format == "csr" else scipy.sparse.csr_array(A))
        product = lambda v: torch.from_numpy(rows_times_csr(parts, v.numpy()))  # noqa: E731
    else:
        product_of_one = vector_map(A, linear)
        product = rowwise(product_of_one, dtype)
    matvec = product
    if shift:
        matvec, matrix, product_of_one = lambda v: product(v) - shift * v, None, None
    sweeps = () if psolve is None else None
    kernel = Kernel(matrix, sweeps, lambda products, applications: None, psolve, product_of_one)
    operator = FunctionOperator(matvec, (rows, rows), dtype=torch.from_numpy(right).dtype)
    precondition = same if psolve is None else rowwise(psolve, dtype)
    return System(operator, precondition, torch.from_numpy(right)[None], torch.from_numpy(start.ravel())[None], kernel)


def plain(value: Any, what: str) -> Any:
    """Return a torch tensor as NumPy or SciPy hold it; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad:
        raise BadInputError(
            f"{what} requires a gradient, which does not flow through the functions of precond.scipy: use "
            f"precond.solve or precond.lstsq, or give {what}.detach()"
        )
    return value.numpy(force=True) if value.layout == torch.strided else from_torch(value)


def as_linear(value: Any, what: str) -> scipy.sparse.linalg.LinearOperator:
    """Return SciPy's operator of a matrix; refuse what has none."""
    if isinstance(value, (Operator, Preconditioner)):
        raise BadInputError(
            f"{what} is precond's {type(value).__name__}, which SciPy's functions do not know: use precond.solve, "
            "which takes both operators and preconditioners"
        )
    try:
        return scipy.sparse.linalg.aslinearoperator(value)
    except TypeError as error:
        raise BadInputError(
            f"cannot read {what} from {type(value).__name__}: give a SciPy sparse matrix, a dense array or tensor, "
            "or a LinearOperator"
        ) from error


def same(v: Tensor) -> Tensor:
    """Return what the identity makes of vectors, without a copy."""
    return v.contiguous()


def vector_map(A: Any, linear: scipy.sparse.linalg.LinearOperator) -> Callable[[Any], Any]:
    """Return what maps a vector ``[n]`` to one of ``n`` numbers, and leaves out checks that have been made.

    Args:
        A: A matrix, or anything that SciPy takes for one.
        linear: What SciPy takes it for.

    Returns:
        The map.
    """
    if isinstance(A, np.ndarray) and not isinstance(A, np.matrix):
        return A.dot
    if scipy.sparse.issparse(A):
        if A.format != "csr" or A.dtype.char not in "fdFD":
            return A.dot
        parts = unsigned(A)
        return lambda v: rows_times_csr(parts, v[None])[0]
    direct = type(linear).matvec is scipy.sparse.linalg.LinearOperator.matvec
    apply = linear._matvec if direct else linear.matvec
    return lambda v: np.reshape(apply(v), -1)


def adjoint_map(A: Any, linear: scipy.sparse.linalg.LinearOperator) -> Callable[[Any], Any]:
    """Return the same of the adjoint; see `vector_map`."""
    if isinstance(A, np.ndarray) and not isinstance(A, np.matrix):
        transposed = A.T if A.dtype.kind != "c" else A.conj().T
        return transposed.dot
    if scipy.sparse.issparse(A):
        if A.format != "csr" or A.dtype.char not in "fdFD":
            return (A.T if A.dtype.kind != "c" else A.conj().T).dot
        parts, columns = unsigned(A), A.shape[1]
        return lambda u: csr_adjoint_times(parts, columns, u)
    return lambda u: np.reshape(linear.rmatvec(u), -1)


@functools.cache
def working_type(*dtypes: Any) -> np.dtype[Any]:
    """Return the common type among single and double precision, real and complex; anything else counts as double."""
    known = [np.dtype(d) if d is not None and np.dtype(d).char in "fdFD" else np.dtype(float) for d in dtypes]
    return np.result_type(*known)


def rowwise(function: Callable[[Any], Any], dtype: np.dtype[Any]) -> Map:
    """Return a function of one NumPy vector as a map of rows ``[batch, n]``, always into fresh memory."""

    def apply(v: Tensor) -> Tensor:
        if v.shape[0] == 1:
            return torch.from_numpy(np.array(function(v.numpy()[0]), dtype).reshape(1, -1))
        return torch.from_numpy(np.stack([np.array(function(row), dtype).reshape(-1) for row in v.numpy()]))

    return apply
