"""The race: tune, run, measure, report.

The harness owns the clock and the evaluation. Every contestant gets the same number of tuning trials over its stated
space, then its best setting is rerun over fresh seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from precond.core import require

if TYPE_CHECKING:
    from precond.race.harness import run as run
    from precond.race.results.result import RaceResult as RaceResult

_LAZY = {"run": "precond.race.harness", "RaceResult": "precond.race.results.result"}

__all__ = ["RaceResult", "run"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _LAZY:
        return getattr(require(_LAZY[name]), name)
    raise AttributeError(f"module 'precond.race' has no attribute {name!r}")
