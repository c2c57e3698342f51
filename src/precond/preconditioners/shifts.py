"""What parts say that accept no shift."""

from __future__ import annotations

from typing import Any

from precond.core import IncompatibleError, Preconditioner


def refuse_shift(part: Preconditioner[Any], shift: float) -> None:
    """Raise unless ``shift`` is zero, rather than ignore it."""
    if shift != 0.0:
        raise IncompatibleError(
            f"{type(part).__name__} accepts no shift; use a part whose traits are shiftable (Identity, Diagonal)"
        )
