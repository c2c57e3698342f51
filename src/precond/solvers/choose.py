"""The automatic choice of a method and a preconditioner, by name, with its reason."""

from __future__ import annotations

import dataclasses

import numpy as np

from precond.core import IncompatibleError, Operator


@dataclasses.dataclass(frozen=True)
class Selection:
    """Names of an iteration and a preconditioner, and why these.

    Attributes:
        method: Name of the iteration.
        preconditioner: Name of the preconditioner.
        reason: Why, in one clause.
        fallback: Name of the iteration to try when this one finds the matrix indefinite; empty when there is none.
    """

    method: str
    preconditioner: str
    reason: str
    fallback: str = ""


def choose_system(operator: Operator) -> Selection:
    """Choose for a square system from the traits of the operator, and from its entries where it has them."""
    if operator.shape[0] != operator.shape[1]:
        raise IncompatibleError(f"solve takes square matrices, this has shape {operator.shape}: use precond.lstsq")
    traits = operator.traits
    matrix = operator.entries()
    diagonal = operator.diagonal()
    scaling = "identity" if diagonal is None else "jacobi"
    if traits.symmetric and traits.definite:
        if matrix is None:
            return Selection("cg", scaling, "symmetric positive definite, known by products")
        return Selection("cg", "ic0", "symmetric positive definite with entries")
    if traits.symmetric and traits.definite is False:
        return Selection("minres", scaling, "symmetric and not positive definite")
    if traits.symmetric:
        if matrix is None:
            return Selection("cg", scaling, "symmetric, known by products", fallback="minres")
        return Selection("cg", "ic0", "symmetric with a positive diagonal", fallback="minres")
    if matrix is None:
        return Selection("gmres", scaling, "not known to be symmetric, known by products")
    if _dominant_rows(operator) > 0.5:
        return Selection("gmres", "ssor", "not symmetric, most rows diagonally dominant")
    return Selection("gmres", scaling, "not symmetric, few rows diagonally dominant")


def choose_least_squares(operator: Operator) -> Selection:
    """Choose for a least-squares problem."""
    if operator.entries() is None:
        return Selection("lsqr", "identity", "known by products")
    return Selection("lsqr", "jacobi", "entries give the norms of the columns")


def _dominant_rows(operator: Operator) -> float:
    """Return the share of rows whose diagonal entry is at least the sum of the others in size."""
    matrix = operator.entries()
    if matrix is None:
        return 0.0
    diagonal = np.abs(matrix.diagonal())
    total = abs(matrix).sum(axis=1)
    return float(np.mean((2 * diagonal >= total * (1 - 1e-12)) & (diagonal > 0)))
