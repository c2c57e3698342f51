"""Recipes refuse arguments that are no numbers where numbers are needed, before any part meets them."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from precond.core import BadInputError

F = TypeVar("F", bound=Callable[..., Any])
_CHECKED = {bool, int, float, type(None)}


def numbers_checked(build: F) -> F:
    """Return a recipe that looks at its arguments first: whole numbers, numbers, or True and False, as annotated.

    What a number may be is for the parts to say, which know what it means; that it is one, and not NaN, holds for all.

    Args:
        build: The recipe, with annotations.

    Returns:
        A function of the same name and signature.
    """
    signature = inspect.signature(build)

    @functools.wraps(build)
    def checked(*args: Any, **settings: Any) -> Any:
        if not args and not settings:
            return build()
        try:
            given = signature.bind(*args, **settings).arguments
        except TypeError as error:  # which does not say of what
            raise TypeError(f"{build.__name__}() {error}; it takes {', '.join(signature.parameters)}") from None
        for name, kinds in _kinds(build).items():
            if name in given:
                _check(build.__name__, name, given[name], kinds)
        return build(*args, **settings)

    return typing.cast("F", checked)


@functools.cache
def _kinds(build: Callable[..., Any]) -> Mapping[str, frozenset[type]]:
    """Return what each argument may be, of those that are numbers or flags; found when a recipe is first called."""
    hints = {name: hint for name, hint in typing.get_type_hints(build).items() if name != "return"}
    found = {}
    for name, hint in hints.items():
        union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        members = frozenset(typing.get_args(hint) if union else (hint,))
        if members <= _CHECKED:
            found[name] = members
    return found


def _check(recipe: str, name: str, value: Any, kinds: frozenset[type]) -> None:
    if value is None:
        fits = type(None) in kinds
    elif isinstance(value, bool):
        fits = bool in kinds
    elif not isinstance(value, numbers.Real) or math.isnan(value):
        fits = False
    else:  # 1e4 is a whole number too, and infinity a limit that is never met
        whole = math.isinf(value) or float(value).is_integer()
        fits = float in kinds or (int in kinds and whole)
    if not fits:
        words = {bool: "True or False", int: "a whole number", float: "a number", type(None): "None"}
        allowed = " or ".join(words[kind] for kind in words if kind in kinds)
        raise BadInputError(f"{name} of {recipe} must be {allowed}, not {value!r}")
