"""Derivatives that a user wrote, compared with differences of the function itself."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

import scipy.sparse
import torch
from torch import Tensor

from precond.math.draws import normals

logger = logging.getLogger(__name__)

ENTRIES = 200
"""Entries of a gradient, or columns of a Jacobian, that are compared."""
RIGHT = 1e-4
"""Relative difference from which on a derivative counts as wrong."""
POWERS = (2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)
"""Powers of the unit of rounding, of which increments are made that confirm a disagreement."""
CANDIDATES = 4
"""Entries of a column that are furthest off, of which one must be confirmed."""
_WRONG = 0.05
"""Relative error of a slope from which on it is wrong without doubt."""
SINGLE = torch.finfo(torch.float32).eps

Function = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """The entry that is furthest off.

    Attributes:
        place: The index of the entry: of the variable, or of residual and variable.
        given: What the user's function says.
        found: What differences say.
        error: Their relative difference.
    """

    place: tuple[int, ...]
    given: float
    found: float
    error: float

    def message(self, name: str, of: str) -> str:
        """Return the complaint about ``name``, the derivative of ``of``."""
        return (
            f"{name} disagrees with differences of {of}: entry {list(self.place)} is {self.given:.6g}, differences "
            f"give {self.found:.6g} (relative error {self.error:.1e}); correct {name}, or leave it out"
        )


def wrong_slope(function: Function, gradient: Tensor, x: Tensor) -> bool:
    """Whether the slope of a function along its gradient at ``x`` is clearly not that of differences.

    Two evaluations say that it is right; five more are made only where they do not.

    Args:
        function: Maps ``[n]`` to a value, ``[1]``.
        gradient: What is said to be the gradient at ``x``, ``[n]``.
        x: The point, ``[n]``.

    Returns:
        Whether it is off by more than a twentieth.
    """
    norm = gradient.norm()
    if not bool(norm > 0) or not bool(torch.isfinite(norm)):
        return False
    d = gradient / norm * max(1.0, float(x.norm()))
    given, power = gradient.dot(d).reshape(1, 1), 1 / 4
    along = _Along(function, x, d)
    if along.supports(given[0], power):
        return False
    found = compare(along, given, x.new_zeros(1), power=power)
    return found is not None and found.error > _WRONG


def slope_remains(function: Function, x: Tensor, tol: float) -> bool:
    """Whether a function clearly has a slope at ``x``, along one random direction.

    Two evaluations say that it has none; five more are made only where they do not.

    Args:
        function: Maps ``[n]`` to a value, ``[1]``.
        x: The point, ``[n]``.
        tol: The slope that does not matter, along a unit vector.

    Returns:
        Whether differences are sure of a larger one.
    """
    d = normals(torch.tensor([1]), x[None])[0]
    d = d / d.norm() * max(1.0, float(x.norm()))
    along = _Along(function, x, d)
    most = tol * float(d.norm())
    if bool(along.slopes(1, 1 / 3).abs() <= most):
        return False
    found = compare(along, x.new_zeros(1, 1), x.new_zeros(1))
    return found is not None and abs(found.found) > most


@dataclasses.dataclass(frozen=True)
class _Along:
    """A function along a line.

    Attributes:
        function: Maps ``[n]`` to values, ``[m]``.
        x: Where the line begins, ``[n]``.
        d: Its direction, ``[n]``.
    """

    function: Function
    x: Tensor
    d: Tensor

    def __call__(self, t: Tensor) -> Tensor:
        return self.function(self.x + t * self.d)

    def slopes(self, count: int, power: float) -> Tensor:
        """Return central differences at the beginning, ``[m]``; not numbers where the function raises."""
        step = float(torch.finfo(self.x.dtype).eps ** power)
        values = [_Probe(self, count, self.x, self.x).value(self.x.new_full((1,), t)) for t in (step, -step)]
        return (values[0] - values[1]) / (2 * step)

    def supports(self, given: Tensor, power: float) -> bool:
        """Whether two evaluations say that slopes ``[m]`` are right."""
        return bool(((self.slopes(len(given), power) - given).abs() <= given.abs() * _WRONG / 2).all())


def wrong_along(function: Function, slopes: Tensor, x: Tensor, d: Tensor) -> bool:
    """Whether some slope of a function at ``x`` along ``d`` is not that of differences.

    Two evaluations say that all are right; five more are made only where they do not.

    Args:
        function: Maps ``[n]`` to ``[m]``.
        slopes: What is said to be its derivative along ``d``, ``[m]``.
        x: The point, ``[n]``.
        d: The direction, ``[n]``.

    Returns:
        Whether differences are sure that one is off.
    """
    along = _Along(function, x, d)
    return not along.supports(slopes, 1 / 3) and compare(along, slopes[:, None], x.new_zeros(1)) is not None


def compare(
    function: Function, given: Tensor | scipy.sparse.csr_array, x: Tensor, *, power: float = 1 / 3
) -> Mismatch | None:
    """Compare a derivative with central differences along some variables.

    A disagreement is confirmed by differences over increments of five sizes, of which none may support what is given:
    noise, kinks, and values that oscillate or were rounded to less precision do not count against it. Points where the
    function raises tell nothing.

    Args:
        function: Maps ``[n]`` to ``[m]``.
        given: The derivative at ``x``, ``[m, n]``, dense or sparse.
        x: The point, ``[n]``.
        power: Increments are ``eps^power``, relative to variables above 1.

    Returns:
        The entry that is furthest off, if it is off; entries whose differences are uncertain count as right.
    """
    n = x.numel()
    chosen = list(range(n))
    if n > ENTRIES:
        chosen = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:ENTRIES].tolist()
    worst: Mismatch | None = None
    by_column = given if isinstance(given, Tensor) else scipy.sparse.csc_array(given)
    probe = _Probe.at(function, given.shape[0], x)
    for i in chosen:
        fine, uncertain, rounding = probe.slopes(i, power)
        column = by_column[:, [i]]
        column = (column if isinstance(column, Tensor) else torch.from_numpy(column.toarray())).to(x)[:, 0]
        off = (column - fine).abs()
        size = torch.maximum(torch.maximum(column.abs(), fine.abs()), rounding)
        error = torch.where(off > uncertain, off / size, 0.0)
        error = torch.where(torch.isfinite(fine) & ~torch.isfinite(column), math.inf, error)
        error = torch.where(torch.isfinite(fine), error, 0.0)
        least = max(RIGHT, 0.0 if worst is None else worst.error)
        for row in error.topk(min(CANDIDATES, len(error))).indices.tolist():
            if float(error[row]) > least and probe.confirms(i, row, float(column[row]), float(fine[row])):
                worst = Mismatch((row, i), float(column[row]), float(fine[row]), float(error[row]))
                break
    return worst


@dataclasses.dataclass(frozen=True)
class _Probe:
    """Differences of a function around a point.

    Attributes:
        function: Maps ``[n]`` to ``[m]``.
        count: ``m``.
        x: The point, ``[n]``.
        middle: The values there, ``[m]``.
    """

    function: Function
    count: int
    x: Tensor
    middle: Tensor

    @classmethod
    def at(cls, function: Function, count: int, x: Tensor) -> _Probe:
        """Return what takes differences around ``x``."""
        return dataclasses.replace(found := cls(function, count, x, x), middle=found.value(x))

    def value(self, y: Tensor) -> Tensor:
        """Return the values at a point, not numbers where the function raises."""
        try:
            return self.function(y)
        except Exception as error:  # users' functions may refuse a point in any way
            logger.debug("no differences: %s", error)
            return y.new_full((self.count,), math.nan)

    def slopes(self, i: int, power: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return central differences along a variable, how uncertain they are, and their rounding error, ``[m]``.

        Differences to both sides, over two increments, tell how far the slope jumps at ``x``, if it does.
        """
        h = self._increment(i, power)
        (coarse, bend, _), (fine, finer_bend, rounding) = self._central(i, 2 * h), self._central(i, h)
        jump = (2 * finer_bend - bend).abs()
        return fine, 10 * (coarse - fine).abs() + 10 * rounding + jump, rounding

    def confirms(self, i: int, row: int, given: float, found: float) -> bool:
        """Whether differences over other increments agree that an entry is ``found``, and not ``given``.

        Those whose rounding hides the disagreement are left out. None may lie nearer to ``given`` than to ``found``,
        and three neighbours, or all if there are fewer, must agree.
        """
        if not math.isfinite(given):
            return True
        gap, slopes = abs(given - found), []
        for power in POWERS:
            slope, _, rounding = (float(part[row]) for part in self._central(i, self._increment(i, power)))
            if math.isfinite(slope) and 20 * rounding < gap:
                slopes.append(slope)
        supported = any(abs(slope - given) <= gap / 2 for slope in slopes)
        width = min(3, len(slopes))
        neighbours = (slopes[first : first + width] for first in range(len(slopes) - width + 1) if width)
        return not supported and any(max(part) - min(part) <= gap / 4 for part in neighbours)

    def _increment(self, i: int, power: float) -> float:
        return float(torch.finfo(self.x.dtype).eps ** power) * max(1.0, abs(float(self.x[i])))

    def _central(self, i: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the central difference, the one ahead less the one behind, and the rounding error of both."""
        ahead, behind = self.x.clone(), self.x.clone()
        ahead[i] += step
        behind[i] -= step
        up, down = self.value(ahead), self.value(behind)
        width = ahead[i] - behind[i]
        size = torch.maximum(up.abs(), down.abs())
        eps = torch.where(_single(up) & _single(down), SINGLE, torch.finfo(self.x.dtype).eps)
        return (up - down) / width, 2 * (up + down - 2 * self.middle) / width, eps * size / step


def _single(values: Tensor) -> Tensor:
    """Whether values hold no more than single precision, which functions often compute in within."""
    return values == values.float().to(values)
