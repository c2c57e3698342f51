"""Whether a function says the same of a point twice: what is random must not certify anything by luck."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from torch import Tensor

from precond.math.norms import whole_norm

REPEATS = 8
"""Evaluations of a function that has been seen to differ from itself."""
ROUNDING = 1e-3
"""Differences of two paths to one vector that are this part of its norm do not matter."""


@dataclasses.dataclass(frozen=True)
class Repeated:
    """What evaluations at one point say together.

    Attributes:
        norm: The norm of the vector, the largest of all evaluations.
        spread: Norm of the largest difference of two evaluations; 0 where they agree.
    """

    norm: float
    spread: float

    @property
    def note(self) -> str:
        """What a user should know; empty where evaluations agree."""
        if not self.spread:
            return ""
        return (
            f"the function is random: {REPEATS} evaluations at the returned point differ by {self.spread:.1e}, and the "
            "largest norm of them counts, so that no tol below that can be met"
        )


def repeated(first: Tensor, seen: Tensor | None, evaluate: Callable[[], Tensor], tol: float) -> Repeated:
    """Evaluate a vector that must vanish again where it differs from what a run has seen at the same point.

    One evaluation of a function that is none of its argument alone may be small by luck; the largest of several is not.
    Functions that agree with themselves cost nothing.

    Args:
        first: The vector, evaluated for a certificate.
        seen: What the run has seen there; ``None`` evaluates once more in its place.
        evaluate: Evaluates the vector again, at the same point.
        tol: What the norm is compared with.

    Returns:
        What the evaluations say together.
    """
    norm = _norm(first)
    if not _off(first, evaluate() if seen is None else seen, norm, tol):
        return Repeated(norm, 0.0)
    again = [evaluate()]  # a run may have come to the same gradient by another path, with other rounding
    if not _off(first, again[0], norm, tol):
        return Repeated(norm, 0.0)
    again += [evaluate() for _ in range(REPEATS - 2)]
    spread = max(_norm(each.double() - first.double()) for each in again)
    return Repeated(max(norm, *map(_norm, again)), spread)


def _norm(v: Tensor) -> float:
    return float(whole_norm(v.double()))


def _off(first: Tensor, second: Tensor, norm: float, tol: float) -> bool:
    """Whether two vectors differ by more than rounding; ``norm`` is that of the first."""
    off = _norm(first.double() - second.double())
    return math.isfinite(off) and off > ROUNDING * max(norm, tol)
