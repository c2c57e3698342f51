"""SOAP with each of its savings alone and together: what `lean.py` trains and compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from precond.core import Method
from precond.preconditioners.blocked import Blocked
from precond.recipes.matrix import lean_soap, soap

BASELINE = "SOAP, two-sided"
LEAN = "LeanSOAP: bfloat16, fitted factors, a turn every 4 to 20 steps, growth of 3"
_WHOLE: dict[str, Any] = {
    "factor_block": None,
    "half": False,
    "fitted": False,
    "every": 10,
    "early": None,
    "growth": None,
}


def _lean(**savings: Any) -> Callable[[], Method]:
    return lambda: lean_soap(**(_WHOLE | savings))


def _tiles(size: int) -> Callable[[], Method]:
    def build() -> Method:
        whole = soap()
        return dataclasses.replace(whole, preconditioner=Blocked(size, whole.preconditioner))

    return build


VARIANTS: dict[str, Callable[[], Method]] = {
    BASELINE: soap,
    "bases in bfloat16": _lean(half=True),
    "statistics every 2 steps": _lean(statistics=2),
    "statistics every 4 steps": _lean(statistics=4),
    "blocks of 512": _lean(factor_block=512),
    "blocks of 512, bfloat16": _lean(factor_block=512, half=True),
    "blocks of 512, bfloat16, statistics every 2 steps": _lean(factor_block=512, half=True, statistics=2),
    "blocks of 512, bfloat16, statistics every 4 steps": _lean(factor_block=512, half=True, statistics=4),
    "blocks of 512, bfloat16, a turn every 7 steps": _lean(factor_block=512, half=True, every=7),
    "blocks of 768, bfloat16": _lean(factor_block=768, half=True),
    "blocks of 768, bfloat16, factors that remember 50 steps": _lean(factor_block=768, half=True, shampoo_beta=0.98),
    "blocks of 256": _lean(factor_block=256),
    "blocks of 256, bfloat16, statistics every 2 steps": _lean(factor_block=256, half=True, statistics=2),
    "blocks of 128": _lean(factor_block=128),
    "tiles of 256": _tiles(256),
    "tiles of 128": _tiles(128),
    "fitted factors": _lean(fitted=True),
    "blocks of 512, bfloat16, fitted factors": _lean(factor_block=512, half=True, fitted=True),
    LEAN: lean_soap,
    "one-sided": _lean(one_sided=True),
    "one-sided, bfloat16, a turn every 5 steps": _lean(one_sided=True, half=True, every=5),
}
PAST = (
    "blocks of 512, bfloat16, fitted factors, a turn every 30 steps, early every 5",
    "bfloat16, fitted factors, a turn every 30 steps, early every 5",
    "bfloat16, fitted factors, a turn every 20 steps, early every 10",
    "bfloat16, fitted factors, a turn every 24 steps, early every 6",
    "bfloat16, fitted factors, a turn every 20 steps, early every 5",
    "bfloat16, fitted factors, a turn every 16 steps, early every 4",
    "LeanSOAP: bfloat16, fitted factors, a turn every 20 steps, early every 4",
)
"""Variants of the record whose turns were early in the first interval alone, and became as rare as later at once."""
