"""How much memory the state of SOAP takes: settings that were measured, by name."""

from __future__ import annotations

from typing import Literal

import torch

from precond.core import BadInputError, Full, Storage
from precond.storage.blockwise import Blockwise
from precond.storage.by_role import ByRole
from precond.storage.packed import Packed

State = Literal["full", "compact", "8-bit", "4-bit"]
"""The name of a setting."""

_EIGHT = Blockwise(8)

STATES: dict[str, Storage] = {
    "full": Full(),
    "compact": ByRole(
        signed=_EIGHT, non_negative=_EIGHT, orthogonal=_EIGHT, symmetric=Packed(torch.bfloat16),
        root=Packed(torch.bfloat16), triangular=_EIGHT,
    ),
    "8-bit": _EIGHT,
    "4-bit": ByRole(
        signed=_EIGHT, non_negative=_EIGHT, orthogonal=Blockwise(4, block=64, rectify=1), symmetric=_EIGHT, root=_EIGHT,
        triangular=_EIGHT,
    ),
}  # fmt: skip
"""From the name of a setting to the storage; `benchmarks/memory.py` measures what each costs. Bases alone rest in four
bits: momentum, second moments and factors of four bits were tried, and cost about a percent of the loss or more."""


ROUNDING = 2.0**-8
"""What rounding does to a factor that rests in 8 or 16 bits, relative to its largest eigenvalue, at most."""


def floor_of(state: str) -> float:
    """Return up to which share of the largest eigenvalue those of a factor are rounding noise; 0 at full precision."""
    return 0.0 if state == "full" else ROUNDING


def storage_of(state: str) -> Storage:
    """Return the storage of a setting, or say which there are."""
    if state not in STATES:
        raise BadInputError(f"state must be one of {', '.join(map(repr, STATES))}, not {state!r}")
    return STATES[state]
