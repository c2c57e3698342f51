"""How much each row of a tall matrix matters: leverage scores, Lewis weights, sensitivities; and sampling by them."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import BadInputError


def leverage_scores(matrix: Tensor, triangle: Tensor | None = None) -> Tensor:
    """Return ``tau_i = a_i^H (A^H A)^+ a_i``, which lie in ``[0, 1]`` and sum to the rank.

    Args:
        matrix: ``A``, shape ``[m, n]``, ``m >= n``.
        triangle: ``R`` with ``R^H R ~ A^H A``, such as the triangle of a sketch: scores are then approximate, within
            the factor by which the sketch changes lengths, and no factorization of ``A`` is made.

    Returns:
        The scores, shape ``[m]``.

    Raises:
        BadInputError: The matrix is no matrix, of integers, or has an entry that is not finite.
    """
    _check_matrix(matrix)
    if triangle is not None:
        return _row_squares(torch.linalg.solve_triangular(triangle, matrix, upper=True, left=False))
    if matrix.numel() == 0:
        return matrix.real.new_zeros(len(matrix))
    largest = matrix.abs().amax(0)  # columns of any scale have the same range; only then is rank a matter of size
    matrix = matrix / torch.where(largest > 0, largest, 1)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    kept = values > max(matrix.shape) * torch.finfo(values.dtype).eps * values.max()
    if not bool(kept.any()):
        return _row_squares(u[:, kept])
    u, values, v = u[:, kept], values[kept], v[kept]
    small = torch.linalg.vector_norm(matrix, dim=1) < values[-1]  # rows of u are right to rounding of the largest
    u[small] = matrix[small] @ (v.mH / values)
    return _row_squares(u).clamp(max=1)


def lewis_weights(matrix: Tensor, p: float, *, rtol: float = 1e-10, limit: int = 500) -> Tensor:
    """Return the Lewis weights ``w_i = tau_i(W^(1/2 - 1/p) A)``, which sum to the rank.

    For ``p < 4`` by the iteration ``w_i <- (a_i^H (A^H W^(1 - 2/p) A)^+ a_i)^(p/2)``, which contracts logarithms by
    ``|1 - p/2|`` (M. B. Cohen, R. Peng, *Lp row sampling by Lewis weights*, 2015, arXiv 1412.0588); for larger ``p``
    with its logarithm damped by ``2 / p``, which keeps the fixed point and contracts again.

    Args:
        matrix: ``A``, shape ``[m, n]``.
        p: The norm, positive.
        rtol: Largest relative change of a weight at the end.
        limit: Largest number of rounds.

    Returns:
        The weights, shape ``[m]``; zero for zero rows.

    Raises:
        BadInputError: ``p`` is not positive and finite, the matrix cannot be used, or the rounds did not settle.
    """
    if not 0 < p < math.inf:
        raise BadInputError(f"Lewis weights need a finite p > 0, not {p}")
    _check_matrix(matrix)
    kind, matrix = matrix.real.dtype, matrix.to(torch.promote_types(matrix.dtype, torch.float64))  # logarithms to rtol
    if matrix.numel() == 0:
        return matrix.real.new_zeros(len(matrix)).to(kind)
    matrix = matrix / torch.clamp(matrix.abs().max(), min=torch.finfo(kind).tiny)
    rows, columns = matrix.shape
    present = matrix.abs().amax(1) > 0
    w = torch.where(present, columns / rows, 0).to(matrix.real.dtype)
    power, damping = 0.5 - 1 / p, 1.0 if p < 4 else 2 / p
    for _ in range(limit):
        scale = torch.where(present, w, 1) ** power
        # a_i^H (A^H W^(1 - 2/p) A)^+ a_i is the leverage of the scaled row over the square of its scale
        score = leverage_scores(matrix * scale.unsqueeze(1)) / scale.square()
        change = torch.where(present, (p / 2) * score.clamp(min=1e-300).log() - w.clamp(min=1e-300).log(), 0)
        w = w * torch.exp(damping * change)
        if float(change.abs().max()) < rtol:
            return w.to(kind)
    raise BadInputError(f"Lewis weights for p = {p} did not settle in {limit} rounds: give a larger rtol")


def sensitivity_bounds(matrix: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Return bounds of ``sup_x |a_i^H x|^p / ||A x||_p^p`` for each row, from leverage scores.

    ``tau^(p/2)`` bounds it from above for ``p <= 2`` and from below for ``p >= 2``; the factor between is
    ``m^|p/2 - 1|``, by Hoelder's inequality.

    Args:
        matrix: ``A``, shape ``[m, n]``.
        p: The norm, at least one.

    Returns:
        Lower and upper bounds, each of shape ``[m]``.
    """
    if not 1 <= p < math.inf:
        raise BadInputError(f"sensitivities need a finite p >= 1, not {p}")
    scores = leverage_scores(matrix) ** (p / 2)
    gap = float(matrix.shape[0]) ** abs(p / 2 - 1)
    return (scores / gap, scores) if p <= 2 else (scores, (scores * gap).clamp(max=1))


@dataclasses.dataclass(frozen=True)
class RowSample:
    """Rows that were drawn.

    Attributes:
        rows: Their numbers, ascending, shape ``[k]``.
        scale: What to multiply each by, shape ``[k]``.
    """

    rows: Tensor
    scale: Tensor

    def apply(self, matrix: Tensor) -> Tensor:
        """Return the drawn rows of a matrix ``[m, ...]``, scaled."""
        return matrix[self.rows] * self.scale.reshape(-1, *[1] * (matrix.ndim - 1)).to(matrix.dtype)


def inclusion_probabilities(scores: Tensor, size: float) -> Tensor:
    """Return ``q_i = min(1, s_i / alpha)`` with ``alpha`` such that they sum to ``size``."""
    if bool((scores < 0).any()) or not bool(torch.isfinite(scores).all()):
        raise BadInputError("scores must be finite and not negative")
    if not size > 0:
        raise BadInputError(f"a sample needs a positive size, not {size}")
    possible = int((scores > 0).sum())
    if size >= possible:
        return (scores > 0).to(scores.dtype)
    scores = scores / scores.max()
    descending = scores.sort(descending=True).values
    sure = torch.arange(math.ceil(size), dtype=scores.dtype, device=scores.device)  # so many are taken for sure
    alphas = descending.flip(0).cumsum(0).flip(0)[: len(sure)] / (size - sure)
    settled = torch.nonzero(descending[: len(sure)] <= alphas)
    alpha = alphas[settled[0, 0]] if len(settled) else alphas[-1]
    return (scores / alpha).clamp(max=1)


def sample_rows(scores: Tensor, size: float, p: float, *, seed: int = 0) -> RowSample:
    """Keep row ``i`` with probability ``q_i ~ s_i``, scaled by ``q_i^(-1/p)``.

    Then ``E ||S A x||_p^p = ||A x||_p^p``.

    With Lewis weights as scores, ``n^max(1, p/2) / eps^2`` rows (up to logarithms) keep ``||A x||_p`` within
    ``1 +- eps`` for all ``x``; with sensitivities see D. P. Woodruff, T. Yasuda, *Sharper bounds for lp sensitivity
    sampling*, 2023, arXiv 2306.00732. Rows with ``q_i = 1`` are kept for sure.

    Args:
        scores: How much each row matters, shape ``[m]``.
        size: Expected number of rows.
        p: The norm.
        seed: Seed of the draw.

    Returns:
        The rows and their scales.
    """
    if not p > 0:
        raise BadInputError(f"rows are scaled for a norm p > 0, not {p}")
    probabilities = inclusion_probabilities(scores.double(), size)
    drawn = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = torch.nonzero(drawn.to(scores.device) < probabilities).squeeze(1)
    return RowSample(rows, probabilities[rows] ** (-1 / p))


def root_leverage_sample(matrix: Tensor, size: float, p: float, *, rounds: int = 3, seed: int = 0) -> RowSample:
    """Sample by ``tau^(p/2)`` in rounds, each on what the round before left: root leverage scores, ``1 <= p < 2``.

    One round by these scores leaves about ``m^(1 - p/2)`` times a power of ``n`` rows, so that few rounds
    reach ``size``. (D. P. Woodruff, T. Yasuda, 2023, arXiv 2306.00732.)

    Args:
        matrix: ``A``, shape ``[m, n]``.
        size: Expected number of rows at the end.
        p: The norm.
        rounds: Number of rounds; sizes fall geometrically.
        seed: Seed of the draws.

    Returns:
        The rows and their scales, products over the rounds.
    """
    if rounds < 1:
        raise BadInputError(f"rounds must be at least 1, not {rounds}")
    if not 1 <= p < 2:
        raise BadInputError(f"root leverage scores serve 1 <= p < 2, not {p}")
    if not size > 0:
        raise BadInputError(f"a sample needs a positive size, not {size}")
    rows = torch.arange(matrix.shape[0], device=matrix.device)
    scale = torch.ones(len(rows), dtype=torch.float64, device=matrix.device)
    left = matrix
    for number in range(rounds):
        target = size * (len(rows) / size) ** ((rounds - 1 - number) / (rounds - number)) if len(rows) > size else size
        drawn = sample_rows(leverage_scores(left) ** (p / 2), target, p, seed=seed * rounds + number)
        rows, scale, left = rows[drawn.rows], scale[drawn.rows] * drawn.scale, drawn.apply(left)
    return RowSample(rows, scale)


def _check_matrix(matrix: Tensor) -> None:
    if not isinstance(matrix, Tensor):
        raise BadInputError(f"give a torch tensor, not {type(matrix).__name__}: torch.from_numpy(matrix)")
    if matrix.ndim != 2 or not (matrix.is_floating_point() or matrix.is_complex()):
        raise BadInputError(f"scores are of a matrix [m, n] of floats, not {matrix.dtype} of {tuple(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise BadInputError("the matrix has an entry that is not finite: remove or replace it")


def _row_squares(matrix: Tensor) -> Tensor:
    return matrix.abs().square().sum(1)
