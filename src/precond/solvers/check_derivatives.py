"""Derivatives that a user wrote, compared with differences of the function itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import scipy.sparse
import torch
from torch import Tensor

from precond.math.draws import normals

ENTRIES = 200
"""Entries of a gradient, or columns of a Jacobian, that are compared."""
RIGHT = 1e-4
"""Relative difference from which on a derivative counts as wrong."""

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
    """Whether the slope of a function along its gradient at ``x`` is clearly not that of differences; four evaluations.

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
    given = gradient.dot(d).reshape(1, 1)
    found = compare(lambda t: function(x + t * d), given, x.new_zeros(1), power=1 / 4)
    return found is not None and found.error > 0.05


def slope_remains(function: Function, x: Tensor, tol: float) -> bool:
    """Whether a function clearly has a slope at ``x``, along one random direction; four evaluations.

    Args:
        function: Maps ``[n]`` to a value, ``[1]``.
        x: The point, ``[n]``.
        tol: The slope that does not matter, along a unit vector.

    Returns:
        Whether differences are sure of a larger one.
    """
    d = normals(torch.tensor([1]), x[None])[0]
    d = d / d.norm() * max(1.0, float(x.norm()))
    found = compare(lambda t: function(x + t * d), x.new_zeros(1, 1), x.new_zeros(1))
    return found is not None and abs(found.found) > tol * float(d.norm())


def compare(
    function: Function, given: Tensor | scipy.sparse.csr_array, x: Tensor, *, power: float = 1 / 3
) -> Mismatch | None:
    """Compare a derivative with central differences along some variables.

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
    for i in chosen:
        coarse, fine, rounding = _difference(function, x, i, power)
        column = by_column[:, [i]]
        column = (column if isinstance(column, Tensor) else torch.from_numpy(column.toarray())).to(x)[:, 0]
        uncertain = 10 * (coarse - fine).abs() + 10 * rounding
        off = (column - fine).abs()
        size = torch.maximum(torch.maximum(column.abs(), fine.abs()), rounding)
        error = torch.where(off > uncertain, off / size, 0.0)
        error = torch.where(torch.isfinite(fine) & ~torch.isfinite(column), math.inf, error)
        error = torch.where(torch.isfinite(fine), error, 0.0)
        row = int(error.argmax())
        if float(error[row]) > max(RIGHT, 0.0 if worst is None else worst.error):
            worst = Mismatch((row, i), float(column[row]), float(fine[row]), float(error[row]))
    return worst


def _difference(function: Function, x: Tensor, i: int, power: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return central differences with two increments, and the rounding error of the second."""
    eps = torch.finfo(x.dtype).eps
    h = eps**power * max(1.0, abs(float(x[i])))
    found = []
    for step in (2 * h, h):
        ahead, behind = x.clone(), x.clone()
        ahead[i] += step
        behind[i] -= step
        up, down = function(ahead), function(behind)
        found.append((up - down) / (ahead[i] - behind[i]))
    return found[0], found[1], eps * torch.maximum(up.abs(), down.abs()) / h
