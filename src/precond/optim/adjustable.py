"""Recipes whose numbers a parameter group may have of its own, and a scheduler may change."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from precond.core import BadInputError, Method, Route

Target = str | tuple[str, ...]
"""The argument that a key of a group stands for; several, for a key that holds several numbers."""


def checked_betas(betas: Sequence[float], count: int, *, sums: bool = False) -> tuple[float, ...]:
    """Return ``count`` decays, or say what is wrong with them; where the last one may be 1, that stands for a sum."""
    try:
        values = tuple(float(beta) for beta in betas)
    except (TypeError, ValueError):
        raise BadInputError(f"betas must be {count} numbers, not {betas!r}") from None
    averages = values[:-1] if sums and values[-1:] == (1.0,) else values
    if len(values) != count or not all(0.0 <= beta < 1.0 for beta in averages):
        allowed = ", the last of which may be 1" if sums else ""
        raise BadInputError(f"betas must be {count} numbers in [0, 1){allowed}, not {betas!r}")
    return values


@dataclasses.dataclass(frozen=True)
class Adjustable:
    """A method to be built, whose numbers are looked up in each parameter group.

    So ``betas`` or ``momentum`` may differ between groups, and schedulers that cycle them find them where they look.

    Attributes:
        build: The recipe.
        keys: Keys of parameter groups, and the arguments of the recipe that they stand for.
        arguments: The arguments of the recipe; those that ``keys`` name are the defaults of the groups.
    """

    build: Callable[..., Method | Route]
    keys: Mapping[str, Target]
    arguments: Mapping[str, Any]

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """What groups have unless they say otherwise."""
        return {key: self._default(target) for key, target in self.keys.items()}

    def settings(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what a group has at the moment."""
        values = [group.get(key, default) for key, default in self.defaults.items()]
        return tuple([tuple(value) if isinstance(value, list) else value for value in values])

    def method(self, settings: tuple[Any, ...]) -> Method | Route:
        """Return the method with these settings."""
        arguments = dict(self.arguments)
        for (key, target), value in zip(self.keys.items(), settings, strict=True):
            if isinstance(target, str):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise BadInputError(f"{key} must be a number, not {value!r}")
                arguments[target] = value
            else:
                arguments |= dict(zip(target, self._decays(key, value, len(target)), strict=True))
        return self.build(**arguments)

    def _decays(self, key: str, value: Any, count: int) -> tuple[float, ...]:
        """Return several decays; 1, which sums, where the recipe itself has it."""
        ends = any(default == 1.0 for default in self.defaults[key])
        if ends and len(value) == count and all(0.0 <= beta <= 1.0 for beta in value):
            return tuple(float(beta) for beta in value)
        return checked_betas(value, count)

    def _default(self, target: Target) -> Any:
        return self.arguments[target] if isinstance(target, str) else tuple(self.arguments[name] for name in target)


def adjustable(build: Callable[..., Method | Route], keys: Mapping[str, Target], /, **arguments: Any) -> Adjustable:
    """Return a recipe with its arguments, of which groups may have those that ``keys`` name; see `Adjustable`."""
    return Adjustable(build, keys, arguments)


def skeleton(part: Any) -> Any:
    """Return a method without its real numbers: two with equal skeletons have states of the same form."""
    if isinstance(part, float):
        return float
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = dataclasses.fields(part)
        return (type(part), *(skeleton(getattr(part, field.name)) for field in fields))
    if isinstance(part, tuple | list):
        return tuple(skeleton(child) for child in part)
    return part
