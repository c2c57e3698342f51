"""The automatic choice of a method and a preconditioner, by name, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from precond.core import IncompatibleError, Operator
from precond.math.graphs import diameter, envelope_share
from precond.solvers.estimates import factorization_seconds, iteration_seconds

_columns = 4000
_slender, _small = 12, 1.2e8
"""Rows for each column, and ``m n^2``, up to which the factors of a dense matrix cost less than what saves them."""
_many = 64
"""Columns for each right-hand side up to which they do so, too: the factors serve all."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Names of an iteration and a preconditioner.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        settings: Arguments of the preconditioner's recipe.
        patience: Iterations after which to try the next, or to give up, if the user gave no limit; zero: no such limit.
        together: Neither is taken without the other.
        negative: Both are for ``-A x = -b``.
        unasked: Taken only where neither is named.
    """

    method: str
    preconditioner: str
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    patience: int = 0
    together: bool = False
    negative: bool = False
    unasked: bool = False


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to try, in this order, and why.

    Attributes:
        attempts: The first, then what to try when those before failed.
        reason: Why, in one clause.
    """

    attempts: tuple[Attempt, ...]
    reason: str


_quick = Attempt("bicgstab", "ilu0", patience=50, unasked=True)
_ilut, _direct = Attempt("gmres", "ilut", patience=200), Attempt("gmres", "lu", patience=60)
_fewest = 16  # iterations below which none are tried before the factors of a dense matrix
_dense = 1000  # unknowns up to which a dense decomposition is within reason when all else failed


def _last(operator: Operator, *, cheap: bool = False) -> tuple[Attempt, ...]:
    """Return what to try of a matrix with entries when cheaper things failed: incomplete and complete factors.

    A singular matrix ends with its pseudoinverse, or with minimum residuals when it is large and symmetric: these find
    a solution where there is one, and the least residual where there is none.

    Args:
        operator: The matrix.
        cheap: Complete factors come first.

    Returns:
        The attempts.
    """
    factors = (_direct, _ilut) if cheap else (_ilut, _direct)
    if operator.shape[0] <= _dense:
        return (*factors, Attempt("richardson", "pseudo-inverse", patience=20))
    return (*factors, *((Attempt("minres", "identity", patience=2000),) if operator.traits.symmetric else ()))


_few, _cheap = 5000, 1500
"""Unknowns, and iterations in whose time complete factors are made, up to either of which ILUT, with the iterations
that it needs, takes longer: measured on matrices of many origins."""
_smooth, _sums = 0.8, 0.1
"""Share of the rows whose sums are that small beside their entries, from which on factors that keep sums are better."""
_full = 0.9
"""Share of the envelope from which on incomplete factors are taken for complete ones."""


def _patience(operator: Operator) -> tuple[int, bool]:
    """Return the iterations, at most 2000, after which complete factors are cheaper, and whether these are cheap."""
    if operator.dense() is not None:
        return 2000, False
    size = factorization_seconds(operator) / iteration_seconds(operator)
    return int(min(2000, max(100, 3 * size))), operator.shape[0] <= _few or size <= _cheap


def _choose_unsymmetric(operator: Operator) -> tuple[Attempt, ...]:
    """Return what to try of a matrix with entries that is not symmetric: what is quick, then factors.

    Those of a differential operator have rows whose sums vanish, which factors without fill that keep them respect.
    """
    if (matrix := operator.entries()) is None or operator.dense() is not None:
        return _last(operator)
    sums, sizes = np.abs(matrix.sum(axis=1)), np.abs(matrix).sum(axis=1)
    kept = float(np.mean(sums <= _sums * sizes)) >= _smooth
    patience, cheap = _quick.patience, operator.shape[0] <= _few
    if not cheap:
        size = factorization_seconds(operator) / iteration_seconds(operator)
        patience, cheap = int(min(500, max(patience, size / 4))) if kept else patience, size <= _cheap
    quick = dataclasses.replace(_quick, preconditioner="milu0" if kept else "ilu0", patience=patience)
    return (quick, *_last(operator, cheap=cheap))


def _is_narrow(operator: Operator) -> bool:
    """Whether incomplete factors of a sparse matrix are about complete: those of banded and block diagonal ones."""
    matrix = None if operator.dense() is not None else operator.entries()
    return matrix is not None and envelope_share(matrix) >= _full


_multigrid = Attempt("cg", "amg", patience=100)
_large, _far = 5000, 220
"""Unknowns, and steps between the two farthest of them, from which a multigrid cycle pays for its setup: on five-point
and seven-point Laplacians it then takes less time than IC(0), whose iterations grow with the distance."""


def _is_wide(operator: Operator) -> bool:
    """Whether information has far to go: a large sparse matrix whose graph is long, and whose factors are not."""
    if operator.dense() is not None or operator.shape[0] < _large:
        return False
    matrix = operator.entries()
    return matrix is not None and not _is_narrow(operator) and diameter(matrix) >= _far


def _is_negative(operator: Operator) -> bool:
    """Whether a symmetric matrix may be negative definite: its diagonal is negative throughout."""
    diagonal = operator.diagonal()
    return bool(operator.traits.symmetric) and diagonal is not None and bool((diagonal.real < 0).all())


def choose_system(operator: Operator, count: int) -> Selection:
    """Choose for a square system from the traits of the operator, and from its entries where it has them.

    Args:
        operator: The matrix.
        count: Right-hand sides.

    Returns:
        The choice.

    Raises:
        IncompatibleError: The matrix is not square.
    """
    if operator.shape[0] != operator.shape[1]:
        raise IncompatibleError(f"solve takes square matrices, this has shape {operator.shape}: use precond.lstsq")
    if operator.dense() is None:
        return _choose_sparse(operator)
    rest = _choose_sparse(operator)
    first = dataclasses.replace(_direct, together=True)
    return Selection((*_glance(operator, count), first, *rest.attempts), f"dense, {rest.reason}")


def _glance(operator: Operator, count: int) -> tuple[Attempt, ...]:
    """Return what to try before the factors of a large dense matrix, for about a quarter of the time that they take.

    A flop of a product costs as much as nine of a factorization in single precision.
    """
    n, symmetric = operator.shape[0], bool(operator.traits.symmetric)
    definite = symmetric and operator.traits.definite is not False
    patience = n // ((216 if definite else 108) * count)
    if patience < _fewest:
        return ()
    return (Attempt("cg" if definite else "gmres", "jacobi", patience=patience, unasked=True),)


def _choose_sparse(operator: Operator) -> Selection:
    """Choose for a system whose matrix is known by its entries that are not zero, or by products."""
    traits = operator.traits
    if not operator.has_entries:
        return _choose_by_products(operator)
    if not traits.symmetric:
        return Selection(_choose_unsymmetric(operator), "not symmetric, with entries")
    cg, minres = Attempt("cg", "ic0", patience=2000), Attempt("minres", "jacobi", patience=2000)
    quick = (_quick,) if _is_narrow(operator) else ()
    if traits.definite is False:
        patience, cheap = _patience(operator)
        rest = (*quick, dataclasses.replace(minres, patience=patience), *_last(operator, cheap=cheap))
        if not _is_negative(operator):
            return Selection(rest, "symmetric and not positive definite")
        wide = (dataclasses.replace(_multigrid, negative=True),) if _is_wide(operator) else ()
        return Selection((*wide, dataclasses.replace(cg, negative=True), *rest), "symmetric with a negative diagonal")
    why = "symmetric positive definite" if traits.definite else "symmetric with a positive diagonal"
    first: tuple[Attempt, ...] = (cg,)
    if _is_wide(operator):
        first, why = (_multigrid, cg), f"{why}, unknowns many steps apart"
    return Selection((*first, *quick, *(() if traits.definite else (minres,)), *_last(operator)), why)


def _choose_by_products(operator: Operator) -> Selection:
    """Choose for a system whose matrix is known by products, and perhaps by its diagonal."""
    traits = operator.traits
    scaling = "identity" if operator.diagonal() is None else "jacobi"
    if not traits.symmetric:
        return Selection((Attempt("gmres", scaling),), "not known to be symmetric, known by products")
    minres = Attempt("minres", scaling)
    if traits.definite is False:
        return Selection((minres,), "symmetric and not positive definite")
    if traits.definite:
        return Selection((Attempt("cg", scaling),), "symmetric positive definite, known by products")
    return Selection((Attempt("cg", scaling, patience=2000), minres), "symmetric, known by products")


def choose_eigenvalues(operator: Operator) -> str:
    """Return the name of a preconditioner for the smallest eigenvalues of a symmetric matrix."""
    if operator.entries() is None or operator.traits.definite is False:
        return "identity"
    return "amg" if _is_wide(operator) else "ic0"


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
    factors = Attempt("lsqr", "qr", patience=20, unasked=True)
    if wide:
        plain = Attempt("lsqr", "identity", patience=rows // (20 * count), unasked=True)
        glance = (plain,) if not small and plain.patience >= _fewest else ()
        return Selection((*glance, factors, Attempt("lsqr", "identity")), "dense and wide")
    few = rows < _slender * columns
    why = "few rows for each column" if few else "small" if small else "many right-hand sides"
    return Selection((factors, _sketched, Attempt("lsqr", "jacobi")), f"dense, {why}")


_sketched = Attempt("spir", "sketch-qr", together=True)


def choose_least_squares(operator: Operator, count: int) -> Selection:
    """Choose for a least-squares problem.

    A sketch costs about ``20 n^3`` operations and ``12 n^2`` numbers beside one reading of the matrix, so that it is
    worth its work where rows are many; columns are limited. LSQR without a preconditioner finds the solution of least
    norm.

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
    jacobi = Attempt("lsqr", "jacobi", patience=max(100, 2 * columns))
    alone = dataclasses.replace(jacobi, patience=0)
    if rows < columns:
        plain = Attempt("lsqr", "identity", patience=max(100, 4 * rows))
        return Selection((plain, alone), "wide: the solution of least norm")
    return Selection((jacobi, _sketched) if small else (alone,), "entries give the norms of the columns")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to solve the systems of a sequence.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        recycle: Hand on what the iteration learns.
        negative: Both are for ``-A x = -b``.
    """

    method: str
    preconditioner: str
    recycle: bool = False
    negative: bool = False


def choose_ways(operator: Operator) -> tuple[Candidate, ...]:
    """Return what is worth measuring on a sequence of systems like this one; the first needs no trial to be safe."""
    traits = operator.traits
    known = operator.has_entries
    scaling = "identity" if operator.diagonal() is None else "jacobi"
    if not known:
        if traits.symmetric:
            return (Candidate("cg" if traits.definite is not False else "minres", scaling),)
        return (Candidate("gcrodr", scaling, recycle=True), Candidate("gcrodr", scaling))
    direct = Candidate("gcrodr", "lu")  # the fewest applications, which cost more than anything else
    if operator.dense() is not None:
        definite = traits.symmetric and traits.definite is not False
        return (direct, Candidate("cg", "jacobi") if definite else Candidate("gcrodr", "jacobi", recycle=True))
    if traits.symmetric and traits.definite is not False:
        wide = (Candidate("cg", "amg"),) if _is_wide(operator) else ()
        return (*wide, Candidate("cg", "ic0"), direct)
    if traits.symmetric:
        negative = (Candidate("cg", "ic0", negative=True),) if _is_negative(operator) else ()
        return (*negative, Candidate("minres", scaling), direct)
    return (
        Candidate("bicgstab", "milu0"),
        direct,
        Candidate("bicgstab", "ilu0"),
        Candidate("gcrodr", "milu0", recycle=True),
    )
