"""``poisson2d`` and ``poisson3d``: the standard symmetric test of a preconditioner."""

from __future__ import annotations

import functools

import scipy.sparse

from precond.core import BadInputError
from precond.problems.base import LinearSystem
from precond.problems.registry import problem


@problem(purpose="Solve the Poisson equation on the unit square.", example="poisson2d, poisson2d:n=256")
def poisson2d(*, n: int = 100) -> LinearSystem:
    """Return ``-laplace u = f`` on the unit square, five-point stencil, zero on the boundary.

    The matrix is scaled by the square of the mesh width: 4 on the diagonal, -1 beside it; it is symmetric positive
    definite with condition number about ``0.4 (n + 1)^2``.

    Args:
        n: Interior grid points on a side; ``n^2`` unknowns.

    Returns:
        The problem, in float64.
    """
    return _poisson("poisson2d", n, 2, "square")


@problem(purpose="Solve the Poisson equation on the unit cube.", example="poisson3d, poisson3d:n=48")
def poisson3d(*, n: int = 24) -> LinearSystem:
    """Return ``-laplace u = f`` on the unit cube, seven-point stencil, zero on the boundary.

    The matrix is scaled by the square of the mesh width: 6 on the diagonal, -1 beside it; it is symmetric positive
    definite with condition number about ``0.4 (n + 1)^2``.

    Args:
        n: Interior grid points on a side; ``n^3`` unknowns.

    Returns:
        The problem, in float64.
    """
    return _poisson("poisson3d", n, 3, "cube")


def kronecker_sum(one: scipy.sparse.csr_array, dimensions: int) -> scipy.sparse.csr_array:
    """Return the operator that applies ``one`` along each axis of a grid and adds the results."""
    identity = scipy.sparse.eye_array(one.shape[0], format="csr")

    def along(axis: int) -> scipy.sparse.csr_array:
        factors = [one if i == axis else identity for i in range(dimensions)]
        return functools.reduce(lambda left, right: scipy.sparse.kron(left, right, format="csr"), factors)

    return scipy.sparse.csr_array(functools.reduce(lambda left, right: left + right, map(along, range(dimensions))))


def _poisson(name: str, n: int, dimensions: int, domain: str) -> LinearSystem:
    if n < 1:
        raise BadInputError(f"{name}: n={n} leaves no unknowns; write n=1 or more")
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")
    return LinearSystem(
        name=name,
        description=f"Poisson equation on the unit {domain}, {n} points a side, {n**dimensions} unknowns",
        matrix=kronecker_sum(scipy.sparse.csr_array(second), dimensions),
        symmetric=True,
        definite=True,
    )
