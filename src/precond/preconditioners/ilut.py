"""Incomplete LU with a threshold and pivoting, factored by SuperLU."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.math.sparse.complete import triangle_by_rows
from precond.math.sparse.scaling import equilibrated, has_empty_lines
from precond.preconditioners.triangles import TrianglesState, operator_with_entries, sweep

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class ILUTState:
    """``apply(v) = C (triangles) R v`` with a permutation ``R`` of rows and ``C`` of columns.

    Attributes:
        triangles: The two factors.
        rows: Row ``i`` of the matrix is row ``rows[i]`` of the factors.
        columns: Column ``j`` of the matrix is column ``columns[j]`` of the factors.
        into: The inverse of ``rows``.
    """

    triangles: TrianglesState
    rows: np.ndarray[Any, Any] | None = None
    columns: np.ndarray[Any, Any] | None = None
    into: np.ndarray[Any, Any] | None = None


@final
@dataclasses.dataclass(frozen=True)
class ILUT(Preconditioner[ILUTState]):
    """Incomplete LU with partial pivoting that drops small entries, by SuperLU (``scipy.sparse.linalg.spilu``).

    ``Pr S A T Pc ~ L U`` with ``S``, ``T`` diagonal scalings by largest entries (rows, then columns): entries of a
    column smaller than ``drop_tolerance`` times its norm are dropped, and more where the factors would exceed ``fill``
    times the entries of the matrix. When a pivot vanishes, less is dropped, then a small diagonal is added.

    Attributes:
        drop_tolerance: Threshold, relative; zero drops nothing.
        fill: Largest number of entries of the factors, in units of those of the matrix.
    """

    drop_tolerance: float = 1e-4
    fill: float = 10.0

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the threshold and the fill."""
        if not 0 <= self.drop_tolerance < 1 or not self.fill >= 1:
            raise BadInputError(
                f"ilut needs 0 <= drop_tolerance < 1 and fill >= 1, not {self.drop_tolerance} and {self.fill}"
            )

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def init(self, like: Tensor) -> ILUTState:
        """Start as the identity."""
        return ILUTState(TrianglesState())

    def observe(self, state: ILUTState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.triangles.operator = operator_with_entries(evidence, "ilut")

    def refresh(self, state: ILUTState) -> Health:
        """Factor the matrix; one that is singular on the way gets a small diagonal, and is reported."""
        operator = state.triangles.operator
        matrix = None if operator is None else operator.entries()
        if matrix is None:
            return Health()
        matrix, left, right = equilibrated(matrix)
        lu, shift, tolerance, fill = None, 0.0, self.drop_tolerance, self.fill
        for shift, tolerance, fill in self._sequence(has_empty_lines(matrix)):
            one = scipy.sparse.eye_array(matrix.shape[0], dtype=matrix.dtype)
            lu = _factor(scipy.sparse.csc_array(matrix + shift * one if shift else matrix), tolerance, fill)
            if lu is not None:
                break
        if lu is None:
            return Health(failures=1, detail="ilut: the matrix is singular; the last factor is kept")
        triangles = state.triangles
        triangles.lower = sweep(triangle_by_rows(lu.L)[0], -1)
        (pointers, columns, values), pivots = triangle_by_rows(lu.U)
        triangles.upper = sweep((pointers, columns, values / np.repeat(pivots, np.diff(pointers))), 1)
        state.rows, state.columns = lu.perm_r.astype(np.int64), lu.perm_c.astype(np.int64)
        into, out = np.argsort(state.rows), np.argsort(state.columns)
        state.into = into
        triangles.scales = (left[into], (1 / pivots).astype(matrix.dtype), right[out])
        triangles.shift = shift
        changes = [f"entries below {tolerance:g} were dropped"] * (tolerance != self.drop_tolerance)
        changes += [f"{shift:g} was added to the scaled diagonal"] * (shift != 0)
        return Health(detail=f"ilut: a pivot vanished, so {' and '.join(changes)}" if changes else "")

    def _sequence(self, singular: bool) -> Iterator[tuple[float, float, float]]:
        """Yield a shift, a threshold and a fill to try: less is dropped first, then the diagonal grows."""
        for factor in () if singular else (1, 1e-3, 0):
            yield 0.0, factor * self.drop_tolerance, self.fill / max(factor, 0.1)
        for shift in (1e-8, 1e-6, 1e-4, 1e-2, 1.0):
            yield shift, 0.0, 10 * self.fill

    def apply(self, state: ILUTState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``U``."""
        if shift != 0:
            raise IncompatibleError("ilut accepts no shift: use jacobi or identity")
        if state.rows is None or state.columns is None or state.into is None:
            return v
        return state.triangles.apply(_taken(v, state.into))[:, torch.from_numpy(state.columns)]

    def apply_adjoint(self, state: ILUTState, v: Tensor) -> Tensor:
        """Solve with ``U^H``, then with ``L^H``."""
        if state.rows is None or state.columns is None:
            return v
        swept = state.triangles.apply_adjoint(_taken(v, np.argsort(state.columns)))
        return swept[:, torch.from_numpy(state.rows)]


def _factor(matrix: scipy.sparse.csc_array, tolerance: float, fill: float) -> Any:
    """Return SuperLU's factors, or ``None`` where they do not exist or are not finite."""
    try:
        lu = scipy.sparse.linalg.spilu(matrix, drop_tol=tolerance, fill_factor=fill)
    except (RuntimeError, MemoryError) as error:
        _log.debug("ilut: %s", error)
        return None
    pivots = np.abs(lu.U.diagonal())
    usable = np.isfinite(lu.U.data).all() and np.isfinite(lu.L.data).all() and pivots.min() > 1e-300
    return lu if usable else None


def _taken(v: Tensor, index: np.ndarray[Any, Any]) -> Tensor:
    return v[:, torch.from_numpy(index).to(v.device)]
