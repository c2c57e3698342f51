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
from precond.math.sparse.products import csr_adjoint_times, one_times_csr, rows_times_csr, unsigned
from precond.operators import FunctionOperator
from precond.operators.convert import from_torch

Array = np.ndarray[Any, Any]


@dataclasses.dataclass
class System:
    """A square system with one right-hand side, as arrays, and as the drivers of this library take it.

    Attributes:
        dtype: Type of the vectors.
        right: Right-hand side, shape ``[n]``; nobody writes to it.
        start: Starting point, shape ``[n]``; ``None`` for zero.
        parts: The matrix in CSR form as compiled loops take it, or ``None``.
        product: The product with a vector ``[n]``; the result may be written to at the next call.
        inverse: The preconditioner for a vector ``[n]``, likewise; ``None`` for the identity.
    """

    dtype: np.dtype[Any]
    right: Array
    start: Array | None
    parts: tuple[Array, Array, Array] | None
    product: Callable[[Array], Array]
    inverse: Callable[[Array], Array] | None

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return len(self.right)

    def at(self, start: Array | None) -> System:
        """Return the system with another starting point; ``None`` for the same."""
        return self if start is None else dataclasses.replace(self, start=start)

    @functools.cached_property
    def b(self) -> Tensor:
        """The right-hand side, shape ``[1, n]``."""
        flags = self.right.flags
        return torch.from_numpy(self.right if flags.writeable and flags.c_contiguous else self.right.copy())[None]

    @functools.cached_property
    def x0(self) -> Tensor:
        """The starting point, shape ``[1, n]``."""
        return torch.zeros_like(self.b) if self.start is None else torch.from_numpy(self.start)[None]

    @functools.cached_property
    def operator(self) -> FunctionOperator:
        """The matrix, known by its products."""
        parts = self.parts
        if parts is None:
            product = rowwise(self.product, self.dtype)
        else:

            def product(v: Tensor) -> Tensor:
                return torch.from_numpy(rows_times_csr(parts, v.numpy()))

        return FunctionOperator(product, (self.n, self.n), dtype=self.b.dtype)

    @functools.cached_property
    def precondition(self) -> Map:
        """The preconditioner for rows."""
        return same if self.inverse is None else rowwise(self.inverse, self.dtype)

    @property
    def kernel(self) -> Kernel:
        """The same as compiled loops take it."""
        product = None if self.parts is not None else self.product
        sweeps = () if self.inverse is None else None
        return Kernel(self.parts, sweeps, lambda products, applications: None, self.inverse, product)


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
    if right.shape != (rows,) and right.shape != (rows, 1):
        raise ValueError(f"shapes of A {linear.shape} and b {right.shape} are incompatible")
    dtype = working_type(linear.dtype, right.dtype)
    right = right.reshape(-1)
    if right.dtype != dtype:
        right = right.astype(dtype)

    inverse: Callable[[Any], Any] | None = getattr(A, "psolve", None)
    if M is not None:
        known = as_linear(M, "M")
        if known.shape != linear.shape:
            raise ValueError("matrix and preconditioner have different shapes")
        inverse = vector_map(M, known)

    parts = unsigned(A if A.format == "csr" else scipy.sparse.csr_array(A)) if sparse and A.dtype == dtype else None
    product = vector_map(A, linear) if parts is None else functools.partial(one_times_csr, parts)
    if shift:
        parts, product = None, _shifted(product, shift)
    return System(dtype, right, _start(x0, right, inverse, linear.shape), parts, product, inverse)


def _shifted(product: Callable[[Array], Array], shift: float) -> Callable[[Array], Array]:
    """Return the product with ``A - shift I``."""
    return lambda v: product(v) - shift * v


def _start(x0: Any, right: Array, inverse: Callable[[Array], Array] | None, shape: tuple[int, int]) -> Array | None:
    """Return a starting point of its own memory, or ``None`` for zero."""
    if x0 is None:
        return None
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f"x0={x0!r} is not known: give an array, 'Mb' or None")
        start = np.array(right if inverse is None else inverse(right.copy()), right.dtype)
    else:
        start = np.array(x0, right.dtype)
    if start.shape != (shape[0],) and start.shape != (shape[0], 1):
        raise ValueError(f"shapes of A {shape} and x0 {start.shape} are incompatible")
    return start.ravel()


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
        return A.dot if A.dtype.char in "fdFD" else A.astype(working_type(A.dtype)).dot
    if scipy.sparse.issparse(A):
        if A.format != "csr" or A.dtype.char not in "fdFD":
            return A.dot
        return functools.partial(one_times_csr, unsigned(A))
    direct = type(linear).matvec is scipy.sparse.linalg.LinearOperator.matvec
    apply = linear._matvec if direct else linear.matvec

    def flat(v: Array) -> Array:
        y = apply(v)
        return y if type(y) is np.ndarray and y.ndim == 1 else np.reshape(y, -1)

    return flat


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
