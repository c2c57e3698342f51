"""Which ways to solve the systems of a sequence are worth measuring, by name."""

from __future__ import annotations

import dataclasses

from precond.core import Operator
from precond.solvers.systems.look import Look


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
        wide = (Candidate("cg", "amg"),) if Look(operator).wide else ()
        return (*wide, Candidate("cg", "ic0"), direct)
    if traits.symmetric:
        negative = (Candidate("cg", "ic0", negative=True),) if Look(operator).negative else ()
        return (*negative, Candidate("minres", scaling), direct)
    return (
        Candidate("bicgstab", "milu0"),
        direct,
        Candidate("bicgstab", "ilu0"),
        Candidate("gcrodr", "milu0", recycle=True),
    )
