"""The smallest curvature at a point that claims to be a minimum, and the way down from one that is none."""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import Tensor

from precond.core import Objective, Operator, Point
from precond.math.dense.definite import definite_factor, solve_with_factor
from precond.math.draws import normals
from precond.math.krylov.lanczos import lanczos

logger = logging.getLogger(__name__)

ASSEMBLED = 2000
"""Side of a matrix whose eigenvalues are computed rather than estimated, where products need not build it."""
SMALL = 300
"""Side up to which all eigenvalues are computed even of a definite matrix."""
FEWEST, MOST = 10, 20
"""Lanczos steps, at least and at most."""
BRIEF = 5
"""Those that a run of few evaluations is worth, which each of them costs one, where it came down to a point."""
_reductions = 60


@dataclasses.dataclass(frozen=True)
class Curvature:
    """What is known of the smallest eigenvalue of a Hessian.

    Attributes:
        smallest: The smallest Ritz value: at least the smallest eigenvalue, equal to it where all were computed. Where
            the operator has a positive bound below all of its eigenvalues it is that bound, and no more is looked for.
        largest: The largest absolute Ritz value; ``None`` where there is such a bound.
        direction: A unit vector of curvature ``smallest``, ``[1, n]``, where that is negative.
        exact: All eigenvalues were computed.
        noise: Relative error of the products.
    """

    smallest: float
    largest: float | None
    direction: Tensor
    exact: bool
    noise: float

    @classmethod
    def above(cls, floor: float, like: Tensor, noise: float) -> Curvature:
        """Return what a positive bound below all eigenvalues says at a point ``[1, n]``."""
        return cls(floor, None, torch.zeros_like(like), False, noise)

    @property
    def negative(self) -> bool:
        """Whether there is negative curvature beyond the errors of the products."""
        return self.largest is not None and self.smallest < -self.noise * self.largest

    def told(self) -> dict[str, float]:
        """Return what a certificate says of it."""
        known = {"smallest curvature": self.smallest, "largest curvature": self.largest}
        return {name: value for name, value in known.items() if value is not None}


def budget(spent: int, least: int = FEWEST, most: int = MOST) -> int:
    """Return the Lanczos steps for a run that has spent so much: a quarter of it, within limits."""
    return max(least, min(most, spent // 4))


def smallest_curvature(operator: Operator, like: Tensor, noise: float, steps: int) -> Curvature:
    """Return the smallest curvature that is found.

    Args:
        operator: The Hessian.
        like: A point, ``[1, n]`` with ``n > 0``.
        noise: Relative error of a product.
        steps: Steps of Lanczos' method that may be spent.

    Returns:
        The curvature; NaN where the products are not finite.
    """
    n = like.shape[1]
    floor = operator.floor()
    if floor is not None and floor > 0:
        return Curvature.above(floor, like, noise)
    matrix = operator.assembled(coarse=True) if n <= ASSEMBLED else None
    if matrix is not None and bool(torch.isfinite(matrix).all()):
        noise = max(noise, 1e-5)
        if n > SMALL and (known := _definite(matrix, like, noise)) is not None:
            return known
        found = _curvature(torch.linalg.eigvalsh(matrix), like[0], True, noise)
        if not found.negative:
            return found
        return dataclasses.replace(found, direction=torch.linalg.eigh(matrix)[1][None, :, 0])
    steps = min(n, steps)
    chain = lanczos(operator.matvec, normals(torch.tensor([0]), like), steps)
    if not bool(torch.isfinite(chain.diagonal).all() & torch.isfinite(chain.beside).all()):
        return Curvature(float("nan"), float("nan"), torch.zeros_like(like), False, noise)
    ended = (chain.beside[0] == 0).nonzero()[:, 0].tolist()  # an invariant subspace: what follows is filled with zeros
    kept = ended[0] + 1 if ended else chain.diagonal.shape[1]
    values, vectors = dataclasses.replace(
        chain, diagonal=chain.diagonal[:, :kept], beside=chain.beside[:, : kept - 1]
    ).ritz()
    direction = chain.basis[0, :kept].mT @ vectors[0, :, 0]
    return _curvature(values[0], direction, bool(ended) or steps == n, noise)


def _definite(matrix: Tensor, like: Tensor, noise: float) -> Curvature | None:
    """Return the extreme eigenvalues of a matrix that has a Cholesky factor; ``None`` if it has none.

    Lanczos with the factor finds the smallest from the side where it is isolated.
    """
    factor = definite_factor(matrix)
    if factor is None:
        return None
    start = normals(torch.tensor([0]), like)
    top = lanczos(lambda v: v @ matrix, start, FEWEST).ritz()[0][0]
    inverse = lanczos(lambda v: solve_with_factor(factor, v), start, FEWEST).ritz()[0][0]
    smallest = 1 / inverse.max().clamp(min=torch.finfo(matrix.dtype).tiny)
    return Curvature(float(smallest), float(top.max()), torch.zeros_like(like), False, noise)


def _curvature(values: Tensor, vector: Tensor, exact: bool, noise: float) -> Curvature:
    return Curvature(float(values[0]), float(values.abs().max()), vector[None], exact, noise)


def escape(objective: Objective, point: Point, curvature: Curvature) -> Point | None:
    """Return a lower point along a direction of negative curvature, ``None`` if there is none.

    The step is halved, from the size of the point, until the decrease is a tenth of what the curvature promises; of the
    two signs the one that does not go uphill at first order.
    """
    d = curvature.direction
    if float((point.gradient * d).sum()) > 0:
        d = -d
    length = max(1.0, float(point.x.norm()))
    loss = float(point.loss)
    eps = torch.finfo(point.loss.dtype).eps
    for _ in range(_reductions):
        promised = -curvature.smallest * length * length / 2
        if promised <= 10 * eps * abs(loss):
            return None
        for sign in (1, -1):
            value = float(objective.value(point.x + sign * length * d))
            if loss - value >= 0.1 * promised:
                logger.info("left a saddle point along curvature %.2e", curvature.smallest)
                return objective.point(point.x + sign * length * d)
        length /= 2
    return None
