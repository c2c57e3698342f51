"""The automatic choice of a method and a preconditioner for square systems, by name, with its reason."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from precond.core import IncompatibleError, Operator
from precond.math.dense.matrix import SINGLE
from precond.solvers.systems.estimates import factorization_price, iteration_seconds
from precond.solvers.systems.look import Look, share_of_small_sums
from precond.solvers.systems.selection import FEWEST, Attempt, Selection

_quick = Attempt("bicgstab", "ilu0", patience=50, unasked=True)
_ilut, _direct = Attempt("gmres", "ilut", patience=200), Attempt("gmres", "lu", patience=60)
_once = Attempt("richardson", "lu", patience=2, unasked=True)  # of factors in full precision, which need no method
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
_tiny = 200
"""Unknowns up to which complete factors are cheap, whatever the pattern."""
_some = 400
"""Iterations of MINRES with a diagonal before the factors of a matrix with few unknowns are tried all the same."""
_smooth = 0.8
"""Share of the rows whose sums are small beside their entries, from which on factors that keep sums are better."""
_gaps = 0.1
"""Share of zeros on the diagonal, above which a factorization that takes its pivots there has no chance."""


@dataclasses.dataclass(frozen=True)
class _Factors:
    """What is expected of the complete factors of a sparse matrix.

    Attributes:
        size: Iterations in whose time they are made, or fewer.
        cheap: They are made sooner than incomplete ones with a threshold bring an iteration to its end.
        known: That they are cheap is known.
    """

    size: float
    cheap: bool
    known: bool

    @staticmethod
    def of(look: Look, *, dear: bool = False) -> _Factors:
        """Return what is expected; of a dense matrix, nothing; of a tiny one, or dear ones, without a look."""
        operator = look.operator
        if operator.dense() is not None or dear:
            few = operator.dense() is None and operator.shape[0] <= _few
            return _Factors(math.inf, cheap=few, known=False)
        if operator.shape[0] <= _tiny:
            return _Factors(0.0, cheap=True, known=True)
        price = factorization_price(look)
        size = price.seconds / iteration_seconds(operator)
        return _Factors(size, operator.shape[0] <= _few or size <= _cheap, price.sure and size <= _cheap)

    def patience(self, least: int, most: int) -> int:
        """Return the iterations after which the factors are made."""
        return int(min(most, max(least, self.size)))


def _choose_unsymmetric(operator: Operator, look: Look) -> tuple[Attempt, ...]:
    """Return what to try of a matrix with entries that is not symmetric: what is quick, then factors.

    Those of a differential operator have rows whose sums vanish, which factors without fill that keep them respect.
    Factors without pivoting are not tried where the diagonal has many zeros.
    """
    matrix = None if operator.dense() is not None else operator.entries()
    if matrix is None:
        return _last(operator)
    diagonal = matrix.diagonal()
    if np.count_nonzero(diagonal == 0) > _gaps * len(diagonal):
        return _last(operator, cheap=operator.shape[0] <= _few or _Factors.of(look).cheap)
    close = look.close
    shifted = not close and look.indefinite and not look.narrow
    if shifted and (factors := _Factors.of(look)).cheap and factors.known:
        return (*((_once,) if operator.shape[0] <= _tiny else ()), *_last(operator, cheap=True))
    kept = share_of_small_sums(matrix) >= _smooth
    patience, cheap = _quick.patience, True
    if operator.shape[0] > _few:
        factors = _Factors.of(look, dear=close)
        patience, cheap = max(patience, factors.patience(0, 2000) // 4) if kept else patience, factors.cheap
    quick = dataclasses.replace(_quick, preconditioner="milu0" if kept else "ilu0", patience=patience)
    diagonal_first = (dataclasses.replace(_diagonal, method="bicgstab"),) if close else ()
    return (*diagonal_first, quick, *_last(operator, cheap=cheap))


_diagonal = Attempt("cg", "jacobi", patience=30, unasked=True)
_multigrid = Attempt("cg", "amg", patience=100)


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
    once = (_once,) if operator.shape[0] < SINGLE else ()
    first = dataclasses.replace(_direct, together=True)
    return Selection((*once, *_glance(operator, count), first, *rest.attempts), f"dense, {rest.reason}")


def _glance(operator: Operator, count: int) -> tuple[Attempt, ...]:
    """Return what to try before the factors of a large dense matrix, for about a quarter of the time that they take.

    A flop of a product costs as much as nine of a factorization in single precision.
    """
    n, symmetric = operator.shape[0], bool(operator.traits.symmetric)
    definite = symmetric and operator.traits.definite is not False
    patience = n // ((216 if definite else 108) * count)
    if patience < FEWEST:
        return ()
    return (Attempt("cg" if definite else "gmres", "jacobi", patience=patience, unasked=True),)


def _choose_sparse(operator: Operator) -> Selection:
    """Choose for a system whose matrix is known by its entries that are not zero, or by products."""
    traits = operator.traits
    if not operator.has_entries:
        return _choose_by_products(operator)
    look = Look(operator)
    if not traits.symmetric:
        return Selection(_choose_unsymmetric(operator, look), "not symmetric, with entries")
    close = look.close
    factors = _Factors.of(look, dear=close)
    few = operator.shape[0] <= _few and operator.dense() is None
    minres = Attempt("minres", "jacobi", patience=factors.patience(100, _some if few else 2000))
    rest: tuple[Attempt, ...] = (minres, *_last(operator, cheap=factors.cheap))
    if factors.known:
        rest = (_direct, minres, *(attempt for attempt in rest[1:] if attempt != _direct))
    quick = (_quick,) if look.narrow else ()
    cg = Attempt("cg", "ic0", patience=factors.patience(100, 1200) * 3 // 2)
    if traits.definite is False or look.shifted:
        rest = (*quick, *rest)
        if not look.negative:
            return Selection(rest, "symmetric and not positive definite")
        wide = (dataclasses.replace(_multigrid, negative=True),) if look.wide else ()
        return Selection((*wide, dataclasses.replace(cg, negative=True), *rest), "symmetric with a negative diagonal")
    why = "symmetric positive definite" if traits.definite else "symmetric with a positive diagonal"
    first: tuple[Attempt, ...] = (cg,)
    if close:
        first, why = (_diagonal, cg), f"{why}, unknowns few steps apart"
    elif look.wide:
        first, why = (_multigrid, cg), f"{why}, unknowns many steps apart"
    if traits.definite:
        rest = tuple(attempt for attempt in rest if attempt != minres)
    return Selection((*first, *quick, *rest), why)


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
    return "amg" if Look(operator).wide else "ic0"
