"""The tuning trials of a contestant, fixed before the race begins.

Trial 0 is the recipe's defaults. The others are points of a scrambled Halton sequence, mapped
through the ranges of the stated space. The sequence depends on the contestant's name and its
space alone: neither the order of the trials nor a kill changes it, and more trials extend it.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from precond.core import Range

TUNING_SEED = 0
FIRST_FINAL_SEED = 1000


def dimensions(space: Mapping[str, Range]) -> list[str]:
    """Return the names of a space in the order of the sequence: the learning rate first, it matters most."""
    return sorted(space, key=lambda name: (name != "lr", name))


def trial_settings(
    name: str, space: Mapping[str, Range], defaults: Mapping[str, Any], trials: int
) -> list[dict[str, Any]]:
    """Return the settings of each tuning trial.

    Args:
        name: Name of the contestant, which seeds the scrambling.
        space: The stated search space.
        defaults: The default of every dimension.
        trials: How many trials.

    Returns:
        ``trials`` settings, the defaults first; none when there is nothing to tune.
    """
    if not space or trials < 1:
        return []
    names = dimensions(space)
    seed = int.from_bytes(hashlib.sha256("|".join([name, *names]).encode()).digest()[:8], "big")
    keyword = "rng" if "rng" in inspect.signature(qmc.Halton.__init__).parameters else "seed"  # renamed in scipy 1.15
    points = qmc.Halton(len(names), **{keyword: np.random.default_rng(seed)}).random(trials - 1)
    drawn = [{key: space[key].at(float(u)) for key, u in zip(names, row, strict=True)} for row in points]
    return [{key: defaults[key] for key in names}, *drawn]


def describe(value: Range) -> str:
    """Return a range in words, for the report."""
    low, high = getattr(value, "low", None), getattr(value, "high", None)
    if low is not None and high is not None:
        return f"{low:g} to {high:g}" + (" (log)" if type(value).__name__ == "LogUniform" else "")
    values = getattr(value, "values", None)
    return "one of " + ", ".join(str(entry) for entry in values) if values is not None else repr(value)
