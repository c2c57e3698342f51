"""The public ``precond.estimate_memory``: methods by name, too."""

from __future__ import annotations

import inspect
from typing import Any

from precond.core import BadInputError, Kind, Method, Route
from precond.optim import memory
from precond.optim.memory import Model
from precond.recipes import registry

__all__ = ["estimate_memory"]


def estimate_memory(model: Model, method: str | Method | Route | None = None, **settings: Any) -> int:
    """Return the bytes of optimizer state for training ``model`` with ``method``, exact and without allocating.

    Args:
        model: A module (it may be on the meta device), pairs of name and parameter, or the groups that
            `precond.optim.groups_for` made; only parameters that require a gradient count.
        method: The name of a recipe (``precond methods`` lists them), a method or a route; may be left out where every
            group has one.
        **settings: Arguments of the recipe, where a name was given.

    Returns:
        Bytes, equal to ``Optimizer.state_bytes()`` once every parameter has had a gradient.

    Raises:
        BadInputError: The recipe does not train, or there are settings and no name.
        UnknownNameError: No recipe has that name.

    Example:
        >>> import torch, precond
        >>> net = torch.nn.Linear(64, 64, bias=False, device="meta")
        >>> precond.estimate_memory(net, "adamw")
        32816
        >>> precond.estimate_memory(net, "soap") > precond.estimate_memory(net, "soap", state="4-bit")
        True
    """
    if isinstance(method, str):
        recipe = registry.find(method)
        if Kind.TRAINING not in recipe.runs_on:
            raise BadInputError(f"{method!r} trains no network: give the name of an optimizer, such as 'soap'")
        known = inspect.signature(recipe.build).parameters
        unknown = sorted(settings.keys() - known.keys())
        if unknown:
            raise BadInputError(f"{method!r} has no {', '.join(unknown)}: it takes {', '.join(known)}")
        return memory.estimate_memory(model, recipe.build(**settings))
    if settings:
        raise BadInputError(f"{', '.join(settings)}: arguments of a recipe go with its name; a method has its own")
    return memory.estimate_memory(model, method)
