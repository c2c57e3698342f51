"""The automatic choice of a method and a preconditioner for least squares, by name, with its reason."""

from __future__ import annotations

import dataclasses

from precond.core import Operator
from precond.solvers.systems.selection import FEWEST, Attempt, Selection

_columns = 4000
_slender, _small = 12, 1.2e8
"""Rows for each column, and ``m n^2``, up to which the factors of a dense matrix cost less than what saves them."""
_many = 64
"""Columns for each right-hand side up to which they do so, too: the factors serve all."""
_quick = 4e6
"""``m n^2`` for each right-hand side up to which a sparse matrix is factored as a dense one sooner than LSQR ends."""
_alike = 100.0
"""Ratio of the norms of columns up to which they stay as they are: then the solution found is that of least norm."""
_possible = 2e10
"""``m n^2`` up to which a sparse matrix is factored as a dense one where iterations did not converge."""


def _choose_factors(operator: Operator, count: int) -> Selection | None:
    """Choose for a dense least-squares problem that its factors solve sooner than a sketch; ``None`` where they do not.

    They cost about ``2 m n^2`` operations with the larger side ``m``, and find the solution of least norm of a wide
    problem whatever its condition; where that is good a few iterations do, which are looked at for a quarter of the
    time.
    """
    rows, columns = operator.shape
    short, long = sorted(operator.shape)
    wide, small = rows < columns, long * short**2 <= _small
    pays = small or (short <= _columns and (wide or rows < _slender * columns or columns <= _many * count))
    if not pays or operator.device.type != "cpu":
        return None
    if wide:
        plain = Attempt("lsqr", "identity", patience=rows // (20 * count), unasked=True)
        glance = (plain,) if not small and plain.patience >= FEWEST else ()
        return Selection((*glance, _factored, Attempt("lsqr", "identity")), "dense and wide")
    few = rows < _slender * columns
    why = "few rows for each column" if few else "small" if small else "many right-hand sides"
    return Selection((_factored, _sketched, Attempt("lsqr", "jacobi")), f"dense, {why}")


_sketched = Attempt("spir", "sketch-qr", together=True)
_factored = Attempt("lsqr", "qr", patience=20, unasked=True)


def choose_least_squares(operator: Operator, count: int) -> Selection:
    """Choose for a least-squares problem.

    A sketch costs about ``20 n^3`` operations and ``12 n^2`` numbers beside one reading of the matrix, so that it is
    worth its work where rows are many; columns are limited. LSQR without a preconditioner finds the solution of least
    norm, as factors do.

    Args:
        operator: The matrix.
        count: Right-hand sides.

    Returns:
        The choice.
    """
    rows, columns = operator.shape
    dense = operator.dense() is not None
    factored = _choose_factors(operator, count) if dense else None
    if factored is not None:
        return factored
    small = rows >= columns and columns <= (_columns if dense else _columns // 4)
    if dense and small:
        return Selection((_sketched, Attempt("lsqr", "jacobi")), "dense and tall")
    if not dense and operator.entries() is None:
        return Selection((Attempt("lsqr", "identity"),), "known by products")
    quick = max(rows, columns) * min(rows, columns) ** 2 <= _quick * count and operator.device.type == "cpu"
    first = (_factored,) if quick else ()
    jacobi = Attempt("lsqr", "jacobi", patience=max(100, 2 * columns))
    alone = dataclasses.replace(jacobi, patience=0)
    if rows < columns:
        plain = Attempt("lsqr", "identity", patience=max(100, 4 * rows) if columns * rows**2 <= _possible else 0)
        rest = (plain, _factored) if plain.patience else (plain,)
        return Selection((*first, *rest), "wide: the solution of least norm")
    rest = (jacobi, _sketched) if small else (alone,)
    why = "entries give the norms of the columns"
    if _even(operator):
        plain = Attempt("lsqr", "identity", patience=jacobi.patience, unasked=True)
        return Selection((*first, plain, *rest), "little work" if quick else "columns of like norms")
    return Selection((*first, *rest), "little work" if quick else why)


def _even(operator: Operator) -> bool:
    """Whether columns that are not zero have norms so alike that their scaling gains less than the least norm."""
    norms = operator.column_norms()
    some = norms[norms > 0] if norms is not None else None
    return some is not None and len(some) > 0 and bool(some.max() <= _alike * some.min())
