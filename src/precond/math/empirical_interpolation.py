"""Empirical interpolation: a family of functions by a few of its members, chosen greedily with the places to match."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Interpolation:
    """``g(mu, .) ~ sum_k lambda_k(mu) g(mu_k, .)``, equal at the places.

    Attributes:
        members: Numbers of the chosen ``mu_k`` among those of training.
        places: Numbers of the chosen ``x_l``.
        matrix: ``g(mu_k, x_l)``, shape ``[places, members]``.
        values: ``g(mu_k, .)``, shape ``[members, q]``.
        errors: Largest error over the training set, relative to its largest value, with so many members.
    """

    members: list[int]
    places: list[int]
    matrix: Tensor
    values: Tensor
    errors: list[float]

    def coefficients(self, g: Tensor) -> Tensor:
        """Return ``lambda`` of functions ``[..., q]``, shape ``[..., members]``."""
        return torch.linalg.solve(self.matrix, g[..., self.places].unsqueeze(-1)).squeeze(-1)

    def error(self, g: Tensor) -> float:
        """Return the largest error of the interpolation of functions ``[..., q]``, relative to their largest value."""
        size = float(g.abs().max())
        missing = float((g - self.coefficients(g) @ self.values).abs().max())
        return missing / size if size > 0 else missing


def interpolate(family: Tensor, *, tolerance: float, limit: int) -> Interpolation:
    """Choose members and places greedily.

    Each time the member with the largest error joins, and the place of that error; what is left of the family is kept
    by a triangular basis, of normalized residuals, and so without solving with the matrix, whose condition grows
    (M. Barrault, Y. Maday, N. C. Nguyen, A. T. Patera, *An empirical interpolation method*, 2004).

    Args:
        family: ``g(mu, x)`` on training sets, shape ``[p, q]``.
        tolerance: Stop at this error, relative to the largest value.
        limit: Members at most.

    Returns:
        The interpolation.
    """
    left, members, places, errors = family.clone(), list[int](), list[int](), list[float]()
    size = float(family.abs().max())
    rounding = 10 * torch.finfo(family.dtype).eps
    for _ in range(min(limit, *family.shape)):
        flat = int(left.abs().argmax())
        member, place = divmod(flat, family.shape[1])
        pivot = left[member, place].clone()
        if not float(pivot.abs()) > max(tolerance, rounding) * size:
            break
        members.append(member)
        places.append(place)
        left -= (left[:, place] / pivot).outer(left[member].clone())
        errors.append(float(left.abs().max()) / size)
    return Interpolation(members, places, family[members][:, places].mT.contiguous(), family[members], errors)
