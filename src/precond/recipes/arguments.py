"""Checks of arguments that the drop-in classes share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from precond.core import BadInputError


def checked_betas(betas: Sequence[float], count: int) -> tuple[float, ...]:
    """Return ``count`` decays, or say what is wrong with them."""
    values = tuple(float(beta) for beta in betas)
    if len(values) != count or not all(0.0 <= beta < 1.0 for beta in values):
        raise BadInputError(f"betas must be {count} numbers in [0, 1), not {betas!r}")
    return values


def rate_ratio(name: str, rate: float, lr: float | Tensor) -> float:
    """Return ``rate / lr``, for a learning rate that keeps its ratio to ``lr`` under a schedule."""
    if not float(lr) > 0:
        raise BadInputError(f"lr must be positive, not {lr}: {name} is kept as a multiple of it")
    return rate / float(lr)
