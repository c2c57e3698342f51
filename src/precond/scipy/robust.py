"""SciPy's robust losses as residuals whose squares they are, so that every method of least squares serves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from precond.core import BadInputError

Array = np.ndarray[Any, Any]
Loss = Callable[[Array], tuple[Array, Array, Array]]


def _soft_l1(z: Array) -> tuple[Array, Array, Array]:
    root = np.sqrt(1 + z)
    return 2 * z / (1 + root), 1 / root, -0.5 / (root * (1 + z))


def _huber(z: Array) -> tuple[Array, Array, Array]:
    root = np.sqrt(np.maximum(z, 1.0))
    return np.where(z <= 1, z, 2 * root - 1), 1 / root, np.where(z <= 1, 0.0, -0.5 / root**3)


def _cauchy(z: Array) -> tuple[Array, Array, Array]:
    return np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2


def _arctan(z: Array) -> tuple[Array, Array, Array]:
    slope = 1 / (1 + z * z)
    return np.arctan(z), slope, -2 * z * slope * slope


NAMED: dict[str, Loss] = {"soft_l1": _soft_l1, "huber": _huber, "cauchy": _cauchy, "arctan": _arctan}
"""``rho`` and its first two derivatives by SciPy's names."""
CONVEX = ("soft_l1", "huber")
"""Those that are convex functions of a residual."""
EPS = float(np.finfo(float).eps)
_cancels = 1e-5  # z below which rho(z) - rho(0) of a user's loss is taken from its slope


def is_positive(value: Any) -> bool:
    """Return whether a value is a positive number."""
    return bool(np.isscalar(value)) and bool(np.isreal(value)) and bool(value > 0)


@dataclasses.dataclass(frozen=True)
class Robust:
    """``C^2 rho((f / C)^2)`` in place of each squared residual ``f^2``.

    Without ``rho(0)``, it is the square of ``f (rho(z) / z)^(1/2)``, a smooth function of ``f`` where ``rho'(0) > 0``.

    Attributes:
        rho: Maps ``z``, ``[m]``, to ``rho(z)``, ``rho'(z)`` and ``rho''(z)``.
        scale: ``C``, where outliers begin.
        floor: ``rho(0)``.
        convex: Of a residual; where it is not, outliers that are far away hold nothing, and minima are many.
        cancels: ``z`` below which ``rho(z) - rho(0)`` would lose its digits.
    """

    rho: Loss
    scale: float
    floor: float = 0.0
    convex: bool = True
    cancels: float = 0.0

    @classmethod
    def of(cls, loss: Any, scale: Any, f: Array) -> Robust | None:
        """Read SciPy's arguments ``loss`` and ``f_scale``; ``None`` for the plain sum of squares.

        Args:
            loss: A name, or a function that returns ``rho``, ``rho'`` and ``rho''`` stacked, ``[3, m]``.
            scale: Where outliers begin.
            f: Residuals at the start, on which a function is tried, ``[m]``.

        Returns:
            The loss.

        Raises:
            BadInputError: There is no such loss, the scale is not positive, or the function's value has another shape.
        """
        if isinstance(loss, str) and loss == "linear":
            return None
        if not is_positive(scale):
            raise BadInputError(f"f_scale must be a positive number, not {scale!r}")
        if not callable(loss):
            return cls(NAMED[loss], float(scale), convex=loss in CONVEX)
        shape = np.shape(loss((f / scale) ** 2))
        if shape != (3, len(f)):
            raise BadInputError(
                f"loss returned shape {shape}: return rho, rho' and rho'' of {len(f)} values, stacked, {(3, len(f))}"
            )

        def rho(z: Array) -> tuple[Array, Array, Array]:
            value, slope, curvature = np.asarray(loss(z), dtype=float)
            return value, slope, curvature

        floor = float(rho(np.zeros_like(f))[0][0]) if len(f) else 0.0
        return cls(rho, float(scale), floor, convex=False, cancels=_cancels)

    def milder(self) -> Robust:
        """Return a convex loss of the same scale."""
        return Robust(NAMED["soft_l1"], self.scale)

    def cost(self, f: Array) -> float:
        """Return ``C^2 sum(rho) / 2``."""
        return float(0.5 * self.scale**2 * np.sum(self.rho((f / self.scale) ** 2)[0]))

    def weight(self, f: Array) -> Array:
        """Return ``rho'``, by which residuals are multiplied in the gradient of the cost, ``[m]``."""
        return self.rho((f / self.scale) ** 2)[1]

    def factor(self, f: Array) -> Array:
        """Return the square root of ``rho' + 2 rho'' z``, at least that of eps, as for SciPy's ``jac``, ``[m]``."""
        z = (f / self.scale) ** 2
        _, slope, curvature = self.rho(z)
        return np.sqrt(np.maximum(slope + 2 * curvature * z, EPS))

    def residual(self, f: Array) -> Array:
        """Return ``f (rho(z) / z)^(1/2)``, ``[m]``."""
        return f * np.sqrt(self._ratio((f / self.scale) ** 2)[0])

    def slope(self, f: Array) -> Array:
        """Return its derivative by ``f``, ``[m]``."""
        ratio, slope = self._ratio((f / self.scale) ** 2)
        return np.divide(slope, np.sqrt(ratio), out=np.zeros_like(slope), where=ratio > 0)

    def _ratio(self, z: Array) -> tuple[Array, Array]:
        """Return ``(rho(z) - rho(0)) / z`` and ``rho'(z)``, ``[m]`` each."""
        value, slope, _ = self.rho(z)
        ratio = np.divide(value - self.floor, z, out=np.array(slope, dtype=float), where=z > self.cancels)
        if self.cancels and np.any(z <= self.cancels):  # the slope halfway is right to second order
            ratio = np.where(z > self.cancels, ratio, self.rho(z / 2)[1])
        return np.maximum(ratio, 0.0), np.asarray(slope, dtype=float)
