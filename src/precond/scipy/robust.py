"""SciPy's robust losses as residuals whose squares they are, so that every method of least squares serves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from precond.core import BadInputError

Array = np.ndarray[Any, Any]


def _soft_l1(z: Array) -> tuple[Array, Array]:
    root = np.sqrt(1 + z)
    return 2 * z / (1 + root), 1 / root


def _huber(z: Array) -> tuple[Array, Array]:
    root = np.sqrt(np.maximum(z, 1.0))
    return np.where(z <= 1, z, 2 * root - 1), 1 / root


def _cauchy(z: Array) -> tuple[Array, Array]:
    return np.log1p(z), 1 / (1 + z)


def _arctan(z: Array) -> tuple[Array, Array]:
    return np.arctan(z), 1 / (1 + z * z)


NAMED: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "soft_l1": _soft_l1, "huber": _huber, "cauchy": _cauchy, "arctan": _arctan,
}  # fmt: skip
"""``rho`` and its derivative by SciPy's names."""


@dataclasses.dataclass(frozen=True)
class Robust:
    """``C^2 rho((f / C)^2)`` in place of each squared residual ``f^2``.

    It is the square of ``C sign(f) rho^(1/2)``, a smooth function of ``f`` where ``rho(0) = 0`` and ``rho'(0) > 0``.

    Attributes:
        rho: Maps ``z``, ``[m]``, to ``rho(z)`` and ``rho'(z)``.
        scale: ``C``, where outliers begin.
    """

    rho: Callable[[Array], tuple[Array, Array]]
    scale: float

    @classmethod
    def of(cls, loss: Any, scale: float) -> Robust | None:
        """Read SciPy's arguments ``loss`` and ``f_scale``; ``None`` for the plain sum of squares.

        Args:
            loss: A name, or a function that returns ``rho``, ``rho'`` and ``rho''`` stacked, ``[3, m]``.
            scale: Where outliers begin.

        Returns:
            The loss.

        Raises:
            BadInputError: There is no such loss, or the scale is not positive.
        """
        if isinstance(loss, str) and loss == "linear":
            return None
        if not (np.isscalar(scale) and np.isreal(scale) and scale > 0):
            raise BadInputError(f"f_scale must be a positive number, not {scale!r}")
        if callable(loss):
            return cls(lambda z: tuple(np.asarray(loss(z), dtype=float)[:2]), float(scale))  # type: ignore[return-value]
        if loss not in NAMED:
            raise BadInputError(f"loss must be 'linear', {', '.join(map(repr, NAMED))} or a function, not {loss!r}")
        return cls(NAMED[loss], float(scale))

    def residual(self, f: Array) -> Array:
        """Return ``C sign(f) rho^(1/2)``, ``[m]``."""
        return self.scale * np.sign(f) * np.sqrt(np.maximum(self.rho((f / self.scale) ** 2)[0], 0.0))

    def slope(self, f: Array) -> Array:
        """Return its derivative by ``f``, ``[m]``."""
        z = (f / self.scale) ** 2
        value, slope = self.rho(z)
        root = np.sqrt(np.maximum(value, np.finfo(float).tiny))
        return np.where(z < np.finfo(float).eps ** 2, np.sqrt(np.maximum(slope, 0.0)), slope * np.sqrt(z) / root)
