"""Right-hand sides whose squares overflow or vanish, solved in a unit in which they do not."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from precond.scipy.reading import plain

Solver = TypeVar("Solver", bound=Callable[..., Any])
_extreme = 1e100
_limit_reached = 7  # as SciPy's functions for least squares say it


def in_units(solver: Solver) -> Solver:
    """Let a solver of square systems see right-hand sides in a unit in which their squares are numbers.

    Args:
        solver: Called as ``solver(A, b, x0, **options)``; returns a solution and 0 where it is one. Of the options,
            ``atol`` and what ``callback`` is given are in the unit of ``b``, but for norms, which are relative to it.

    Returns:
        The same solver, with the same signature.
    """

    @functools.wraps(solver)
    def solve(A: Any, b: Any, *others: Any, **options: Any) -> Any:
        unit = _unit_of(b)
        if unit == 1:
            return solver(A, b, *others, **options)
        given = _told(solver, unit, A, b, *others, **options)
        callback = given.get("callback")
        if callback is not None:
            given["callback"] = lambda seen: callback(seen * unit if np.ndim(seen) else seen)
        x, info = solver(**given)
        return x * unit, info if info or _survives(x, unit) else 1

    return cast(Solver, solve)


def fits_in_units(*proportional: int) -> Callable[[Solver], Solver]:
    """Do the same for least squares, whose solvers return a tuple.

    Args:
        *proportional: Places of what is proportional to ``b``; the solution is at 0, and why the solver stopped at 1.

    Returns:
        What turns such a solver into one with the same signature.
    """

    def with_units(solver: Solver) -> Solver:
        @functools.wraps(solver)
        def solve(A: Any, b: Any, *others: Any, **options: Any) -> Any:
            unit = _unit_of(b)
            if unit == 1:
                return solver(A, b, *others, **options)
            given = _told(solver, unit, A, b, *others, **options)
            found = list(solver(**given))
            if not _survives(found[0], unit):
                found[1] = _limit_reached
            for place in proportional:
                found[place] = found[place] * unit
            return tuple(found)

        return cast(Solver, solve)

    return with_units


def _unit_of(b: Any) -> float:
    """Return a power of two near the largest entry of a right-hand side, 1 where it is usual or cannot be read."""
    array = b if type(b) is np.ndarray else np.asarray(plain(b, "b"))
    if array.dtype.char not in "dD" or not array.size:
        return 1.0
    largest = float(np.abs(array).max()) if array.dtype.char == "d" else float(np.abs(_parts(array)).max())
    if not 0 < largest < math.inf or 1 / _extreme < largest < _extreme:
        return 1.0
    return 2.0 ** math.floor(math.log2(largest))


def _parts(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return real and imaginary parts, whose squares the absolute value would need."""
    return np.stack([z.real, z.imag])


def _told(solver: Callable[..., Any], unit: float, *given: Any, **options: Any) -> dict[str, Any]:
    """Return the arguments by name, those that are proportional to ``b`` in another unit."""
    signature = inspect.signature(solver)
    told = signature.bind(*given, **options).arguments
    for name in ("b", "x0"):
        value = told.get(name)
        if value is not None and not isinstance(value, str):
            told[name] = np.asarray(plain(value, name)) / unit
    absolute = "rtol" in signature.parameters  # where there is none, ``atol`` is relative
    if absolute and isinstance(told.get("atol"), (int, float)):
        told["atol"] = told["atol"] / unit
    return told


def _survives(x: np.ndarray[Any, Any], unit: float) -> bool:
    """Whether ``unit x`` can be told in the type of ``x``, but for rounding."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        lost = np.abs(x * unit / unit - x).max(initial=0.0)
    return bool(lost <= np.finfo(x.dtype).eps * np.abs(x).max(initial=0.0))
