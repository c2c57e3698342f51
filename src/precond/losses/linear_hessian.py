"""Hessians of linear models."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Operator, OperatorTraits, Work
from precond.losses.regression import ASSEMBLED, Regression


class LinearHessian(Operator):
    """``scale A' D A + ridge I``, whose blocks cost little.

    Args:
        model: The model.
        weights: The diagonal ``D``, ``[m]``; ``None`` for the identity.
        work: The account that products are charged to.
    """

    def __init__(self, model: Regression, weights: Tensor | None, work: Work) -> None:
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

    def floor(self) -> float | None:
        """Return the ridge where no weight is negative."""
        convex = self._weights is None or not bool((self._weights < 0).any())
        return self._model.ridge if convex else None

    def assembled(self, *, coarse: bool = False) -> Tensor | None:
        """Return the matrix from one pass over the data where it is small; ``coarse`` allows single precision."""
        model = self._model
        if model.variables > ASSEMBLED or not model.variables:
            return None
        weights = self._weights
        if weights is None:
            weights = torch.ones(model.design.shape[0], dtype=self.dtype, device=self.device)
        matrix = model.design.features.gram(weights, coarse=coarse).mul_(model.scale)
        matrix.diagonal().add_(model.ridge)
        return matrix.to(self.dtype)

    def block(self, index: Tensor) -> Tensor:
        """Return the entries of some rows and columns, ``[k, k]``, counted as ``k`` products."""
        self._work.hvps += len(index)
        gram = self._model.scale * self._model.design.gram(index, self._weights)
        gram.diagonal().add_(self._model.ridge)
        return gram
