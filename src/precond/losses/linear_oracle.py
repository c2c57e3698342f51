"""Linear models as methods of smooth minimization see them: the oracle, and its Hessians."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from precond.core import Operator, OperatorTraits, Work
from precond.losses.base import StructuredObjective

if TYPE_CHECKING:
    from precond.losses.linear import LinearModel

ASSEMBLED = 2000
"""Variables up to which Hessians are assembled."""


class LinearObjective(StructuredObjective):
    """The oracle of a linear model, which keeps the products of its last point, and keeps a matrix of zeros sparse."""

    structure: LinearModel

    def __init__(self, loss: LinearModel, work: Work | None = None) -> None:
        super().__init__(loss, work)
        self._last: tuple[Tensor, Tensor] | None = None  # x as it was given, its products

    @property
    def assembles(self) -> bool:
        """Whether there are few enough variables for the Hessian to be worth a pass over the data."""
        return 0 < self.structure.variables <= ASSEMBLED

    @property
    def rows(self) -> int:
        """How many rows the matrix has."""
        return self.structure.design.shape[0]

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` ``[1, n]``."""
        model = self.structure
        if self._last is None or self._last[0] is not x:
            return super().hessian(x)
        return LinearHessian(model, model.curvature(self._last[1]), self.work)

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        model, flat = self.structure, x[0].detach().to(self.structure.dtype)
        z = model.design.matvec(flat)
        self._last = (x, z)
        loss, gradient = model.at(flat, z)
        return loss, gradient[None]


class LinearHessian(Operator):
    """``scale A' D A + ridge I``, whose blocks cost little.

    Args:
        model: The model.
        weights: The diagonal ``D``, ``[m]``; ``None`` for the identity.
        work: The account that products are charged to.
    """

    def __init__(self, model: LinearModel, weights: Tensor | None, work: Work) -> None:
        n = model.variables
        self.shape, self.dtype, self.device = (n, n), model.dtype, model.design.device
        self.traits = OperatorTraits(symmetric=True)
        self._model, self._weights, self._work = model, weights, work

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row of ``x``, and count one for each."""
        self._work.hvps += len(x)
        design, model = self._model.design, self._model
        y = design.matvec(x[0])[None] if len(x) == 1 else design.matvec(x)
        y = y if self._weights is None else y * self._weights
        return model.scale * design.rmatvec(y) + model.ridge * x

    def assembled(self, *, coarse: bool = False) -> Tensor | None:
        """Return the matrix from one pass over the data where it is small; ``coarse`` allows single precision."""
        model = self._model
        if model.variables > ASSEMBLED or not model.variables:
            return None
        weights = model.b.new_ones(len(model.b)) if self._weights is None else self._weights
        matrix = model.scale * model.design.features.gram(weights, coarse=coarse)
        matrix.diagonal().add_(model.ridge)
        return matrix.to(self.dtype)

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns, ``[k, k]``, counted as ``k`` products."""
        self._work.hvps += len(index)
        gram = self._model.scale * self._model.design.gram(index, self._weights)
        gram.diagonal().add_(self._model.ridge)
        return gram
