"""The tuning trials of a contestant, fixed before the race begins.

Trial 0 is the recipe's defaults. The others are points of a randomized Halton sequence (A. B. Owen, *A randomized
Halton algorithm in R*, 2017, arXiv:1706.02808), mapped through the ranges of the stated space. The sequence depends on
the contestant's name and its space alone: neither the order of the trials nor a kill changes it, and more trials
extend it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

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
    points = halton(len(names), trials - 1, np.random.default_rng(seed))
    drawn = [{key: space[key].at(float(u)) for key, u in zip(names, row, strict=True)} for row in points]
    return [{key: defaults[key] for key in names}, *drawn]


def halton(dimension: int, count: int, generator: np.random.Generator) -> list[list[float]]:
    """Return the first ``count`` points of a Halton sequence whose digits are permuted at random, place by place.

    Args:
        dimension: Number of coordinates; each has a prime base of its own.
        count: Number of points; fewer points are a prefix of more.
        generator: Draws the permutations.

    Returns:
        ``count`` points in ``[0, 1)``.
    """
    columns = []
    for base, _ in zip(_primes(), range(dimension), strict=False):
        places = math.ceil(53 / math.log2(base))
        digits = [generator.permutation(base) for _ in range(places)]
        columns.append([_radical_inverse(index, base, digits) for index in range(count)])
    return [[column[index] for column in columns] for index in range(count)]


def _radical_inverse(index: int, base: int, permutations: list[np.ndarray[Any, Any]]) -> float:
    value, weight = 0.0, 1.0
    for permutation in permutations:
        weight /= base
        value += float(permutation[index % base]) * weight
        index //= base
    return min(value, math.nextafter(1.0, 0.0))


def _primes() -> Iterator[int]:
    known: list[int] = []
    candidate = 2
    while True:
        if all(candidate % prime for prime in known):
            known.append(candidate)
            yield candidate
        candidate += 1


def describe(value: Range) -> str:
    """Return a range in words, for the report."""
    low, high = getattr(value, "low", None), getattr(value, "high", None)
    if low is not None and high is not None:
        return f"{low:g} to {high:g}" + (" (log)" if type(value).__name__ == "LogUniform" else "")
    values = getattr(value, "values", None)
    return "one of " + ", ".join(str(entry) for entry in values) if values is not None else repr(value)
