"""Checks of given matrices, before any work: shape, type and values of the entries."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch

from precond.core import BadInputError
from precond.math.krylov.vectors import rows

_known = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.complex128), np.dtype(np.complex64))
FLOATS = (torch.float32, torch.float64, torch.complex64, torch.complex128)
DECLARED = 1e-6
"""Largest relative difference of mirrored entries in a matrix that may be declared symmetric."""


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse anything but a matrix with at least one row and one column."""
    if len(shape) != 2:
        raise BadInputError(f"a matrix has two dimensions, this has shape {tuple(shape)}: give it as [rows, columns]")
    if 0 in shape:
        raise BadInputError(
            f"the matrix is empty (shape {tuple(shape)}): give one with at least one row and one column"
        )


def check_finite(values: np.ndarray[Any, Any], place: Any) -> None:
    """Refuse entries that are not finite and name the first.

    Args:
        values: The entries in any shape.
        place: Maps the flat index of an entry to its ``(row, column)``.
    """
    if np.isfinite(values).all():
        return
    index = int(np.flatnonzero(~np.isfinite(values.reshape(-1)))[0])
    row, column = place(index)
    raise BadInputError(
        f"the matrix has an entry that is not finite: A[{row}, {column}] = {values.reshape(-1)[index]}; "
        "remove it or replace it before solving"
    )


def all_finite(x: torch.Tensor) -> bool:
    """Whether all numbers are finite; asked of NumPy on the CPU, whose calls cost less."""
    return bool(np.isfinite(rows(x)).all() if x.is_cpu else torch.isfinite(x).all())


def as_tensor(value: Any, what: str) -> torch.Tensor:
    """Return what NumPy can read as a tensor, sharing its memory where that lies as torch has it.

    Args:
        value: An array, or what NumPy makes one of. It may be read-only: nothing here writes to what users give.
        what: Its name in messages.

    Returns:
        The tensor, of the same type.

    Raises:
        BadInputError: NumPy makes nothing of it, or something that torch has no type for.
    """
    if type(value) is np.ndarray and value.flags.carray and value.dtype in _known:
        return torch.from_numpy(value)
    kind = type(value).__name__
    if np.ma.is_masked(value):
        raise BadInputError(f"{what} has masked entries: give numbers for them, as by {what}.filled(0)")
    try:
        array = np.asarray(value)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")) if array.ndim else array
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInputError(f"cannot read {what} from {kind}: give an array of numbers") from error
    try:
        with warnings.catch_warnings():
            if not array.flags.writeable:
                warnings.simplefilter("ignore")
            return torch.as_tensor(array)
    except TypeError as error:
        if not hasattr(value, "astype") or array.dtype.kind not in "Ofc":
            raise BadInputError(f"cannot read {what} from {kind}: give an array of numbers") from error
        raise BadInputError(f"cannot read {what} of {array.dtype}: convert it with {what}.astype(float)") from error


@functools.cache
def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's name of a type of torch that it has one for."""
    found: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
    return found


@functools.cache
def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return torch's name of a NumPy type; refuse one that it has none for."""
    try:
        return torch.from_numpy(np.empty(0, dtype)).dtype
    except (TypeError, ValueError) as error:
        raise BadInputError(f"a matrix of {dtype} is not supported: convert it with .astype(float)") from error


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute in: integers and booleans become float64, half precision is refused."""
    if dtype in FLOATS:
        return dtype
    if dtype in (torch.float16, torch.bfloat16):
        raise BadInputError(f"{dtype} is too coarse for a linear solver: convert with .float() or .double()")
    if dtype.is_complex:
        raise BadInputError(f"{dtype} is not supported: convert to torch.complex64 or torch.complex128")
    return torch.float64


def refuse_symmetric(difference: float) -> None:
    """Refuse the claim that a matrix is symmetric."""
    raise BadInputError(
        f"the matrix was declared symmetric, but mirrored entries differ by {difference:.1e} of their size: leave out "
        "`symmetric`, or give (A + A^H) / 2"
    )
