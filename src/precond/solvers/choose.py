"""The automatic choice of a method and a preconditioner, by name, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from precond.core import IncompatibleError, Operator

_columns = 4000


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Names of an iteration and a preconditioner.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        settings: Arguments of the preconditioner's recipe.
        patience: Iterations after which to try the next, if there is one and the user gave no limit.
        together: Neither is taken without the other.
    """

    method: str
    preconditioner: str
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    patience: int = 2000
    together: bool = False


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to try, in this order, and why.

    Attributes:
        attempts: The first, then what to try when those before failed.
        reason: Why, in one clause.
    """

    attempts: tuple[Attempt, ...]
    reason: str


_last = (
    Attempt("gmres", "ilut", patience=200),
    Attempt("gmres", "ilut", {"drop_tolerance": 1e-10, "fill": 100.0}),
)


def choose_system(operator: Operator) -> Selection:
    """Choose for a square system from the traits of the operator, and from its entries where it has them."""
    if operator.shape[0] != operator.shape[1]:
        raise IncompatibleError(f"solve takes square matrices, this has shape {operator.shape}: use precond.lstsq")
    traits = operator.traits
    known = operator.entries() is not None
    scaling = "identity" if operator.diagonal() is None else "jacobi"
    cg, minres = Attempt("cg", "ic0" if known else scaling), Attempt("minres", scaling)
    last = _last if known else ()
    if traits.symmetric and traits.definite:
        return Selection(
            (cg, *last), f"symmetric positive definite{' with entries' if known else ', known by products'}"
        )
    if traits.symmetric and traits.definite is False:
        return Selection((minres, *last), "symmetric and not positive definite")
    if traits.symmetric:
        reason = "symmetric with a positive diagonal" if known else "symmetric, known by products"
        return Selection((cg, minres, *last), reason)
    if known:
        return Selection(_last, "not symmetric, with entries")
    return Selection((Attempt("gmres", scaling),), "not known to be symmetric, known by products")


def choose_least_squares(operator: Operator) -> Selection:
    """Choose for a least-squares problem.

    A sketch costs about ``20 n^3`` operations and ``12 n^2`` numbers beside one reading of the matrix, so columns are
    limited; wide matrices have many solutions, of which LSQR finds the one of least norm.
    """
    rows, columns = operator.shape
    sketched = Attempt("spir", "sketch-qr", together=True)
    dense = operator.dense() is not None
    small = rows >= columns and columns <= (_columns if dense else _columns // 4)
    if dense and small:
        return Selection((sketched, Attempt("lsqr", "jacobi")), "dense and tall")
    if not dense and operator.entries() is None:
        return Selection((Attempt("lsqr", "identity"),), "known by products")
    jacobi = Attempt("lsqr", "jacobi", patience=max(100, 2 * columns))
    return Selection((jacobi, sketched) if small else (jacobi,), "entries give the norms of the columns")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to solve the systems of a sequence.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        recycle: Hand on what the iteration learns.
    """

    method: str
    preconditioner: str
    recycle: bool = False


def choose_ways(operator: Operator) -> tuple[Candidate, ...]:
    """Return what is worth measuring on a sequence of systems like this one; the first needs no trial to be safe."""
    traits = operator.traits
    known = operator.entries() is not None
    scaling = "identity" if operator.diagonal() is None else "jacobi"
    if not known:
        if traits.symmetric:
            return (Candidate("cg" if traits.definite is not False else "minres", scaling),)
        return (Candidate("gcrodr", scaling, recycle=True), Candidate("gcrodr", scaling))
    direct = Candidate("gcrodr", "lu")  # the fewest applications, which cost more than anything else
    if traits.symmetric and traits.definite is not False:
        return (Candidate("cg", "ic0"), direct)
    if traits.symmetric:
        return (Candidate("minres", scaling), direct)
    return (Candidate("bicgstab", "ilu0"), direct, Candidate("gcrodr", "ilu0", recycle=True))
