"""Regressions: functions that see their variables through the rows of one matrix, and the oracle that they share."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Operator, Work
from precond.losses.base import Loss, StructuredObjective
from precond.losses.read_design import read_design
from precond.losses.small import LARGEST, SmallRegression

ASSEMBLED = 2000
"""Variables up to which Hessians are assembled."""


class Regression(Loss):
    """A sum over the rows of a matrix, ``scale sum_i F_i(products with a_i) + ridge/2 ||x||^2``.

    Args:
        A: Rows ``a_i``: a matrix ``[m, d]``, dense (NumPy, torch) or sparse (SciPy, torch).
        scale: Weight of the sum; ``None`` means ``1/m``.
        ridge: Weight of the squares of the variables.
    """

    def __init__(self, A: Any, scale: float | None, ridge: float) -> None:
        self.design = read_design(A)
        self.dtype = self.design.dtype
        self.scale = 1.0 / max(self.design.shape[0], 1) if scale is None else float(scale)
        if not (self.scale > 0 and ridge >= 0):
            raise BadInputError(f"scale must be positive and ridge not negative, not {scale} and {ridge}")
        self.ridge = float(ridge)

    def floor(self) -> float | None:
        """Return a number that no eigenvalue of a Hessian is below, where the sum is known to be convex."""
        return None

    @property
    def assembly(self) -> int:
        """How many products with a Hessian take about as long as assembling it; 0 where it is always worth it."""
        return 0

    def small(self) -> SmallRegression | None:
        """Return the regression in arrays, where it is small and there is such a form of it."""
        return None

    @abc.abstractmethod
    def products(self, x: Tensor) -> Tensor:
        """Return the products of the rows with the variables ``x`` ``[n]``, which all evaluations at ``x`` share."""

    @abc.abstractmethod
    def at(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient at ``x``, whose products are ``z``."""

    @abc.abstractmethod
    def hessian_at(self, z: Tensor, work: Work) -> Operator:
        """Return the Hessian where the products are ``z``; its products are counted."""

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient, in the precision of the data."""
        x = x.detach().to(self.dtype)
        return self.at(x, self.products(x))

    def hessian(self, x: Tensor, work: Work) -> Operator:
        """Return the Hessian at ``x``."""
        return self.hessian_at(self.products(x.detach().to(self.dtype)), work)

    def objective(self, work: Work | None = None) -> StructuredObjective:
        """Return an oracle that keeps the products of its last point."""
        return RegressionObjective(self, work)

    def _targets(self, b: Any) -> Tensor:
        """Return what is to be explained as a vector ``[m]`` of finite numbers beside the matrix."""
        given = b.detach() if isinstance(b, Tensor) else torch.as_tensor(np.asarray(b))
        targets = given.to(self.design.device, self.dtype).reshape(-1)
        m = self.design.shape[0]
        if targets.numel() != m:
            raise BadInputError(f"A has {m} rows and b has {targets.numel()} entries: give one for each row")
        if not bool(torch.isfinite(targets).all()):
            raise BadInputError("b has an entry that is not finite: remove the row, or replace it")
        return targets


class RegressionObjective(StructuredObjective):
    """The oracle of a regression, which keeps the products of its last point."""

    structure: Regression

    def __init__(self, loss: Regression, work: Work | None = None) -> None:
        super().__init__(loss, work)
        design = loss.design
        fits = design.device.type == "cpu" and loss.dtype is torch.float64
        self._small = loss.small() if fits and design.shape[0] * loss.variables**2 <= LARGEST else None
        self._last: tuple[Tensor, Tensor] | None = None  # x as it was given, its products

    @property
    def assembles(self) -> bool:
        """Whether there are few enough variables for the Hessian to be worth a pass over the data."""
        return 0 < self.structure.variables <= ASSEMBLED

    def floor(self) -> float | None:
        """Return the bound of the regression."""
        return self.structure.floor()

    @property
    def rows(self) -> int:
        """How many rows the matrix has."""
        return self.structure.design.shape[0]

    @property
    def assembly(self) -> int:
        """How many products with a Hessian take about as long as assembling it."""
        return self.structure.assembly

    def arrays(self) -> SmallRegression | None:
        """Return the regression in arrays where it is small."""
        return self._small

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` ``[1, n]``."""
        if self._last is None or self._last[0] is not x:
            return super().hessian(x)
        return self.structure.hessian_at(self._last[1], self.work)

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        model = self.structure
        flat = x[0].detach().to(model.dtype)
        if self._small is not None:
            with np.errstate(all="ignore"):
                value, slope, _ = self._small.evaluate(flat.numpy())
            return torch.from_numpy(np.array(value)), torch.from_numpy(slope)[None]
        z = model.products(flat)
        self._last = (x, z)
        loss, gradient = model.at(flat, z)
        return loss, gradient[None]
