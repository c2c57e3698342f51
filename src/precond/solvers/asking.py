"""What users' callbacks answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def stops(callback: Callable[[Any], object] | None, event: Any) -> bool:
    """Tell a callback of an event and return whether it stops the run: by a true answer or by ``StopIteration``."""
    if callback is None:
        return False
    try:
        return bool(callback(event))
    except StopIteration:
        return True
