"""The route that most matrix methods take: one method for hidden matrices, AdamW for all other parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from precond.core import Method, Route
from precond.optim.select import Matrices
from precond.recipes.first_order import adamw
from precond.steps.scaled import Scaled

NOT_HIDDEN = ("*embed*", "*lm_head*", "head.*", "*.head.*")
"""Names of embeddings and output layers, which matrix methods leave to AdamW."""


def hidden_and_rest(
    hidden: Method,
    *,
    exclude: Sequence[str] = NOT_HIDDEN,
    scale: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    vectors: bool = False,
) -> Route:
    """Return a route that gives AdamW the vectors and the parameters whose name matches ``exclude``.

    Args:
        hidden: The method for everything else.
        exclude: Shell patterns of names, known when the optimizer is given ``model.named_parameters()``.
        scale: AdamW's learning rate as a multiple of the shared one, so that both follow one schedule.
        b1: Decay of AdamW's average of gradients.
        b2: Decay of AdamW's average of squares.
        eps: What AdamW adds to the root.
        vectors: Leave vectors to the method, too, unless their name matches ``exclude``.

    Returns:
        The route.
    """
    rest = adamw(b1=b1, b2=b2, eps=eps)
    if scale != 1.0:
        rest = dataclasses.replace(rest, step=Scaled(scale))
    return Route(rules=((Matrices(0 if vectors else 2, tuple(exclude)), hidden),), default=rest)
