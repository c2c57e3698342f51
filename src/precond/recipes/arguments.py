"""Checks of arguments that the drop-in classes share."""

from __future__ import annotations

from torch import Tensor

from precond.core import BadInputError
from precond.optim.adjustable import Target, adjustable, checked_betas
from precond.optim.checks import check_rate

BETAS: dict[str, Target] = {"betas": ("b1", "b2")}
"""What groups may have of their own, in methods with two decays."""
MOMENTUM: dict[str, Target] = {"momentum": "momentum"}
"""In those with a momentum."""
EPS: dict[str, Target] = {"eps": "eps"}
"""In those that add a small number to a root."""
REST: dict[str, Target] = {"rest_scale": "rest_scale"}
"""In those whose rest has a learning rate of its own, a multiple of the group's; so a checkpoint carries both."""

__all__ = ["BETAS", "EPS", "MOMENTUM", "REST", "adjustable", "checked_betas", "rate_ratio"]


def rate_ratio(name: str, rate: float, lr: float | Tensor) -> float:
    """Return ``rate / lr``, for a learning rate that keeps its ratio to ``lr`` under a schedule."""
    check_rate(name, rate)
    check_rate("lr", lr)
    if not float(lr) > 0:
        raise BadInputError(f"lr must be positive, not {lr}: {name} is kept as a multiple of it")
    return rate / float(lr)
