"""Sampling of points for weighted least squares: independent, by a projection determinantal process, by volume.

Points are those of a discrete measure in which all weigh alike; for another one, multiply each row of the basis, and
each value, by the root of the weight of its point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import BadInputError


@dataclasses.dataclass(frozen=True)
class Points:
    """Points drawn from a discrete measure.

    Attributes:
        rows: Their numbers, shape ``[n]``; a point may occur more than once.
        weights: ``w(x_i) = m / ||phi(x_i)||^2``, with which the empirical Gram matrix is unbiased; shape ``[n]``.
    """

    rows: Tensor
    weights: Tensor

    def gram(self, basis: Tensor) -> Tensor:
        """Return ``G = (1/n) sum_i w(x_i) phi(x_i) phi(x_i)^T``, shape ``[m, m]``."""
        phi = basis[self.rows] * self.weights.sqrt().unsqueeze(1)
        return phi.mT @ phi / len(self.rows)

    def fit(self, basis: Tensor, values: Tensor) -> Tensor:
        """Return the coefficients of the weighted least-squares fit of ``values`` at these points, ``[n]``."""
        if values.shape != self.rows.shape or values.dtype != basis.dtype:
            raise BadInputError(
                f"give one value for each of the {len(self.rows)} points drawn, values[points.rows], of "
                f"{basis.dtype}; not {tuple(values.shape)} of {values.dtype}"
            )
        scale = self.weights.sqrt()
        return torch.linalg.lstsq(basis[self.rows] * scale.unsqueeze(1), (values * scale).unsqueeze(1)).solution[:, 0]


def independent_points(basis: Tensor, count: int, *, seed: int = 0) -> Points:
    """Draw independent points from ``nu ~ ||phi(x)||^2 / m``, the optimal density of independent ones.

    Args:
        basis: ``phi`` at all points of the measure, shape ``[points, m]``, with orthonormal columns.
        count: ``n``.
        seed: Seed of the draw.

    Returns:
        The points.
    """
    density = _density(basis).cpu()
    if not isinstance(count, int) or count < 1:
        raise BadInputError(f"give at least one point, a whole number, not {count}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(density, count, replacement=True, generator=generator)
    return _weighted(basis, drawn.to(basis.device))


def projection_dpp(basis: Tensor, *, seed: int = 0) -> Points:
    """Draw ``m`` distinct points with probability ``det(basis[rows])^2``: a projection determinantal point process.

    By the chain rule: the next point has the density ``||phi(x)||^2 - ||Q^T phi(x)||^2``, with ``Q`` an orthonormal
    basis of ``phi`` at the points before. (J. B. Hough, M. Krishnapur, Y. Peres, B. Virag, *Determinantal processes and
    independence*, 2006.)

    Args:
        basis: As for `independent_points`.
        seed: Seed of the draw.

    Returns:
        The points, in the order drawn.
    """
    _density(basis)
    generator = torch.Generator().manual_seed(seed)
    m = basis.shape[1]
    left, q, rows = basis.square().sum(1), basis.new_zeros(m, 0), []
    for _ in range(m):
        row = int(torch.multinomial(left.clamp(min=0).cpu(), 1, generator=generator))
        rows.append(row)
        direction = basis[row] - q @ (q.mT @ basis[row])
        direction = direction / direction.norm()
        q = torch.cat([q, direction.unsqueeze(1)], 1)
        left = left - (basis @ direction).square()
        left[rows] = 0
    return _weighted(basis, torch.tensor(rows, device=basis.device))


def volume_points(basis: Tensor, count: int, *, seed: int = 0) -> Points:
    """Draw ``n >= m`` points with density ``~ det G`` against independent ones: volume-rescaled sampling.

    A projection process of ``m`` points together with ``n - m`` independent ones, in random order. The fit is unbiased,
    and ``E G^-1 = n / (n - m + 1) I``. (M. Derezinski, M. K. Warmuth, D. Hsu, *Unbiased estimators for random design
    regression*, 2019, arXiv 1907.03411.)

    Args:
        basis: As for `independent_points`.
        count: ``n``.
        seed: Seed of the draw.

    Returns:
        The points.
    """
    _density(basis)
    m = basis.shape[1]
    if not isinstance(count, int) or count < m:
        raise BadInputError(
            f"volume sampling needs at least as many points as functions, a whole number from {m} on, not {count}"
        )
    first = projection_dpp(basis, seed=seed).rows
    rest = independent_points(basis, count - m, seed=seed + 1).rows if count > m else first[:0]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 2))
    return _weighted(basis, torch.cat([first, rest])[order])


def repeated_dpp(basis: Tensor, times: int, *, seed: int = 0) -> Points:
    """Draw independent projection processes, ``n = times * m`` points, weighted alike since each has density ``nu``.

    (A. Nouy, B. Michel, *Weighted least-squares approximation with determinantal point processes and generalized volume
    sampling*, 2023, arXiv 2312.14057.)

    Args:
        basis: As for `independent_points`.
        times: Number of processes.
        seed: Seed of the draws.

    Returns:
        The points.
    """
    if not isinstance(times, int) or times < 1:
        raise BadInputError(f"give at least one process, not {times}")
    drawn = [projection_dpp(basis, seed=seed * times + number).rows for number in range(times)]
    return _weighted(basis, torch.cat(drawn))


def conditioned(
    draw: Callable[[int], Points], basis: Tensor, *, delta: float = 0.9, limit: int = 100, seed: int = 0
) -> Points:
    """Draw again until ``||G - I|| <= delta``; the fit is then stable for sure, and no longer unbiased.

    Args:
        draw: Maps a seed to points.
        basis: As for `independent_points`.
        delta: Largest deviation of the Gram matrix, in ``(0, 1)``.
        limit: Largest number of draws.
        seed: Seed of the first draw.

    Returns:
        The first points that do.

    Raises:
        BadInputError: None of the draws did.
    """
    for number in range(limit):
        points = draw(seed + 1000 * number)
        gap = points.gram(basis) - torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)
        if float(torch.linalg.matrix_norm(gap, 2)) <= delta:
            return points
    raise BadInputError(f"none of {limit} draws had ||G - I|| <= {delta}: draw more points")


def _density(basis: Tensor) -> Tensor:
    """Return ``nu``, after checking that the columns are orthonormal."""
    if not isinstance(basis, Tensor):
        raise BadInputError(f"give the basis as a torch tensor, not {type(basis).__name__}: torch.from_numpy(basis)")
    if basis.ndim != 2 or not basis.is_floating_point() or basis.shape[1] < 1:
        raise BadInputError(f"the basis must be real, [points, m], not {basis.dtype} of {tuple(basis.shape)}")
    gap = basis.mT @ basis - torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)
    if not float(gap.abs().max()) < max(1e-6, 1e3 * torch.finfo(basis.dtype).eps):
        raise BadInputError("the basis must have orthonormal columns: take torch.linalg.qr(basis).Q")
    return basis.square().sum(1) / basis.shape[1]


def _weighted(basis: Tensor, rows: Tensor) -> Points:
    """Return points with weights, relative to the counting measure that makes the basis orthonormal."""
    return Points(rows, basis.shape[1] / basis[rows].square().sum(1))
