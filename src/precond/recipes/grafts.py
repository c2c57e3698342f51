"""Whose step lengths a direction may get."""

from __future__ import annotations

from typing import Any, Literal, get_args

from precond.core import BadInputError, Preconditioner
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.graft import Graft
from precond.preconditioners.identity import Identity

Grafting = Literal["none", "sgd", "adagrad", "rmsprop", "adam"]


def grafted(
    direction: Preconditioner[Any], onto: Grafting, *, beta: float = 0.999, eps: float = 1e-10, start: int = 0
) -> Preconditioner[Any]:
    """Return ``direction`` with the length of a simpler method's step.

    Args:
        direction: The preconditioner.
        onto: ``"none"`` leaves the direction as it is; otherwise whose length it gets.
        beta: Decay of the average of squares of RMSProp and Adam.
        eps: Added to the root of AdaGrad, RMSProp and Adam.
        start: The first step that is preconditioned; until then it is the simpler method's.

    Returns:
        The grafted preconditioner.

    Raises:
        BadInputError: If there is no such method.
    """
    if onto not in get_args(Grafting):
        raise BadInputError(f"grafting must be one of {', '.join(get_args(Grafting))}, not {onto!r}")
    if onto == "none":
        return direction
    magnitudes: dict[str, Preconditioner[Any]] = {
        "sgd": Identity(),
        "adagrad": Diagonal(beta=1.0, eps=eps),
        "rmsprop": Diagonal(beta, eps, debias=False),
        "adam": Diagonal(beta, eps),
    }
    return Graft(direction, magnitudes[onto], start=start if start > 1 else 0)
