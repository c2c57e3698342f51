"""``convection-diffusion``: a nonsymmetric system whose nonsymmetry is set by one number."""

from __future__ import annotations

import math

import scipy.sparse

from precond.core import BadInputError
from precond.problems.base import LinearSystem
from precond.problems.registry import problem


@problem(
    purpose="Solve a convection-diffusion equation on the unit square, nonsymmetric.",
    example="convection-diffusion, convection-diffusion:n=128,peclet=1000",
)
def convection_diffusion(*, n: int = 64, peclet: float = 200.0, angle: float = 30.0) -> LinearSystem:
    """Return ``-laplace u + Pe (cos a, sin a) . grad u = f`` on the unit square, zero on the boundary.

    Central differences for the diffusion and first-order upwind differences for the convection, so that the matrix is
    an M-matrix for every Peclet number. It is scaled by the square of the mesh width ``h = 1 / (n + 1)``: in one
    dimension ``2 + q`` on the diagonal, ``-1 - q`` upwind and ``-1`` downwind with ``q = Pe h |cos a|``.

    Args:
        n: Interior grid points on a side; ``n^2`` unknowns.
        peclet: Speed of the flow times the side, over the diffusivity; 0 gives the Poisson equation.
        angle: Direction of the flow in degrees from the first axis.

    Returns:
        The problem, in float64; symmetric only when nothing flows.
    """
    if n < 1:
        raise BadInputError(f"convection-diffusion: n={n} leaves no unknowns; write n=1 or more")
    if not (math.isfinite(peclet) and peclet >= 0 and math.isfinite(angle)):
        raise BadInputError("convection-diffusion: peclet must be a number from 0 on and angle a finite number")
    identity = scipy.sparse.eye_array(n, format="csr")
    flow = peclet / (n + 1)
    first = scipy.sparse.kron(_one(n, flow * math.cos(math.radians(angle))), identity, format="csr")
    second = scipy.sparse.kron(identity, _one(n, flow * math.sin(math.radians(angle))), format="csr")
    return LinearSystem(
        name="convection-diffusion",
        description=f"Convection-diffusion on the unit square, Peclet number {peclet:g}, upwind, {n**2} unknowns",
        matrix=scipy.sparse.csr_array(first + second),
        symmetric=peclet == 0,
        definite=True,
    )


def _one(n: int, q: float) -> scipy.sparse.csr_array:
    """Return diffusion and upwind convection along one axis; ``q`` is the signed mesh Peclet number."""
    bands = [-1.0 - max(q, 0.0), 2.0 + abs(q), -1.0 + min(q, 0.0)]
    return scipy.sparse.csr_array(scipy.sparse.diags_array(bands, offsets=[-1, 0, 1], shape=(n, n), format="csr"))
