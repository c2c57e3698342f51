"""Linear models: a sum of functions of one product with a row of a matrix each."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from precond.core import BadInputError, Coordinates, Operator, OperatorTraits, Scalars, Work
from precond.losses.base import Loss, StructuredObjective
from precond.losses.design import Times, read_design

ASSEMBLED = 2000
"""Variables up to which Hessians are assembled."""


class LinearModel(Loss):
    """``f(x) = scale sum_i phi(a_i' x, b_i) + ridge/2 ||x||^2``; a subclass says what ``phi`` is.

    Args:
        A: Rows ``a_i``: a matrix ``[m, n]``, dense (NumPy, torch) or sparse (SciPy, torch).
        b: What is to be explained, ``[m]``.
        scale: Weight of the sum; ``None`` means ``1/m``.
        ridge: Weight of the squares of the variables.
    """

    curvature_bound: float
    """The least upper bound of ``phi''``."""

    def __init__(self, A: Any, b: Any, *, scale: float | None = None, ridge: float = 0.0) -> None:
        self.design = read_design(A)
        m, self.variables = self.design.shape
        self.dtype = self.design.dtype
        targets = b.detach() if isinstance(b, Tensor) else torch.as_tensor(np.asarray(b))
        self.b = targets.to(self.design.device, self.dtype).reshape(-1)
        if self.b.numel() != m:
            raise BadInputError(f"A has {m} rows and b has {self.b.numel()} entries: give one for each row")
        if not bool(torch.isfinite(self.b).all()):
            raise BadInputError("b has an entry that is not finite: remove the row, or replace it")
        self.scale = 1.0 / max(m, 1) if scale is None else float(scale)
        if not (self.scale > 0 and ridge >= 0):
            raise BadInputError(f"scale must be positive and ridge not negative, not {scale} and {ridge}")
        self.ridge = float(ridge)

    @abc.abstractmethod
    def phi(self, z: Tensor) -> Tensor:
        """Return ``phi(z_i, b_i)``, ``[m]``, by torch operations."""

    @abc.abstractmethod
    def slope(self, z: Tensor) -> Tensor:
        """Return ``phi'(z_i, b_i)``, ``[m]``."""

    @abc.abstractmethod
    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``phi''(z_i, b_i)``, ``[m]``; ``None`` where it is one."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value at ``x`` ``[n]``."""
        x = x.to(self.dtype)
        z = Times.apply(x, self.design, False) if x.requires_grad else self.design.matvec(x)
        return self.scale * self.phi(z).sum() + self.ridge / 2 * x.dot(x)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient, in the precision of the data."""
        x = x.detach().to(self.dtype)
        return self.at(x, self.design.matvec(x))

    def hessian(self, x: Tensor, work: Work) -> Operator:
        """Return ``scale A' phi'' A + ridge I``."""
        return LinearHessian(self, self.curvature(self.design.matvec(x.detach().to(self.dtype))), work)

    def objective(self, work: Work | None = None) -> StructuredObjective:
        """Return an oracle that keeps the products ``A x`` of its last point."""
        return LinearObjective(self, work)

    def at(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient at ``x``, whose products are ``z``."""
        loss = self.scale * self.phi(z).sum() + self.ridge / 2 * x.dot(x)
        return loss, self.scale * self.design.rmatvec(self.slope(z)) + self.ridge * x

    def coordinates(self, x: Tensor, work: Work) -> Coordinates:
        """Return the model with its products ``A x`` kept up to date."""
        return LinearCoordinates(self, x, work)

    def lipschitz(self) -> float:
        """Return ``scale max(phi'') ||A||^2 + ridge``."""
        return self.scale * self.curvature_bound * self.design.largest_eigenvalue() + self.ridge


class LeastSquares(LinearModel):
    """``scale/2 ||A x - b||^2 + ridge/2 ||x||^2``; see `LinearModel` for the arguments."""

    curvature_bound = 1.0

    def phi(self, z: Tensor) -> Tensor:
        """Return half the squares."""
        return (z - self.b).square() / 2

    def slope(self, z: Tensor) -> Tensor:
        """Return the residuals."""
        return z - self.b

    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``None``: it is one."""
        return None


class Logistic(LinearModel):
    """``scale sum_i log(1 + exp(-b_i a_i' x)) + ridge/2 ||x||^2`` with labels ``b_i`` of two values.

    The smaller label counts as -1, the larger as +1; see `LinearModel` for the arguments.
    """

    curvature_bound = 0.25

    def __init__(self, A: Any, b: Any, *, scale: float | None = None, ridge: float = 0.0) -> None:
        super().__init__(A, b, scale=scale, ridge=ridge)
        labels = self.b.unique()
        if len(labels) > 2:
            raise BadInputError(f"b has {len(labels)} different labels: a logistic model has two")
        if len(labels) == 2:
            self.b = torch.where(self.b == labels[1], 1.0, -1.0).to(self.dtype)
        elif len(labels) == 1 and float(labels[0]) not in (-1.0, 1.0):
            self.b = torch.where(self.b > 0, 1.0, -1.0).to(self.dtype)

    def phi(self, z: Tensor) -> Tensor:
        """Return the logarithms."""
        return -functional.logsigmoid(self.b * z)

    def slope(self, z: Tensor) -> Tensor:
        """Return ``-b / (1 + exp(b z))``."""
        return -self.b * torch.sigmoid(-self.b * z)

    def curvature(self, z: Tensor) -> Tensor | None:
        """Return ``s (1 - s)``."""
        s = torch.sigmoid(z)
        return s * (1 - s)


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


class LinearCoordinates(Coordinates):
    """A linear model whose products ``z = A x`` follow the moves.

    Args:
        model: The model.
        x: The starting point, ``[n]``.
        work: The account: a whole gradient counts as one, parts of it as their share of the columns.
    """

    refresh_every = 1000
    """Moves after which the products are computed anew, as errors of rounding add up."""

    def __init__(self, model: LinearModel, x: Tensor, work: Work) -> None:
        super().__init__(x.to(model.dtype))
        self._model, self._work = model, work
        self._z = model.design.matvec(self.x)
        self._moves = 0
        self._largest: float | None = None
        self._share = 0.0
        self._constant = model.curvature(self._z[:0]) is None
        self._curvatures = model.scale * model.curvature_bound * model.design.squares() + model.ridge
        self._dominating: Tensor | None = None

    def value(self) -> Tensor:
        """Return the function at the current point, from the products that are at hand."""
        return self._model.scale * self._model.phi(self._z).sum() + self._model.ridge / 2 * self.x.dot(self.x)

    def trial(self, block: Tensor, d: Tensor) -> Tensor:
        """Return the function after a move that is not made."""
        self._work.losses += 1
        model, moved = self._model, self.x[block] + d
        z = self._z + model.design.combine(block, d)
        squares = self.x.dot(self.x) - self.x[block].square().sum() + moved.square().sum()
        return model.scale * model.phi(z).sum() + model.ridge / 2 * squares

    def gradient(self) -> Tensor:
        """Return the gradient at the current point."""
        self._work.gradients += 1
        model = self._model
        return model.scale * model.design.rmatvec(model.slope(self._z)) + model.ridge * self.x

    def partial(self, block: Tensor) -> Tensor:
        """Return a part of the gradient."""
        self._charge(len(block))
        model = self._model
        return model.scale * model.design.partial(block, model.slope(self._z)) + model.ridge * self.x[block]

    def hessian(self, block: Tensor) -> Tensor:
        """Return the Hessian of a block here."""
        self._work.hvps += len(block)
        gram = self._model.scale * self._model.design.gram(block, self._model.curvature(self._z))
        gram.diagonal().add_(self._model.ridge)
        return gram

    def bound(self, block: Tensor) -> Tensor:
        """Return the Gram matrix of a block times the largest curvature."""
        model = self._model
        gram = model.scale * model.curvature_bound * model.design.gram(block)
        gram.diagonal().add_(model.ridge)
        return gram

    @property
    def rounds(self) -> bool:
        """Whether the loss is one that is compiled."""
        return isinstance(self._model, (LeastSquares, Logistic)) and self._model.design.device.type == "cpu"

    def round(self, order: Tensor, scalars: Scalars) -> float:
        """Run one compiled round; the products follow."""
        model, design = self._model, self._model.design
        self._charge(len(order))
        x, z, b, bounds = (
            v.double().contiguous().numpy().copy() for v in (self.x, self._z, model.b, positive(self._curvatures))
        )  # fmt: skip
        common = (x, z, b, bounds, model.scale, model.ridge, isinstance(model, Logistic))
        columns = [column.numpy() for column in scalars.columns()]
        moved = design.round(order.numpy(), common, columns)
        self.x = torch.from_numpy(x).to(self.x)
        self._moves += 1
        self._z = torch.from_numpy(z).to(self._z) if self._moves % 50 else design.matvec(self.x)
        return moved

    def largest(self) -> float:
        """Return the model's bound, computed once."""
        if self._largest is None:
            self._largest = self._model.lipschitz()
        return self._largest

    def product(self, block: Tensor, d: Tensor) -> Tensor:
        """Return ``scale max(phi'') A' A`` times ``d`` in a block, plus the ridge."""
        self._work.hvps += 1
        model = self._model
        curved = model.design.rmatvec(model.design.combine(block, d)) * (model.scale * model.curvature_bound)
        return curved.index_add(0, block, model.ridge * d)

    def curvatures(self) -> Tensor:
        """Return ``scale max(phi'') ||a_j||^2 + ridge``."""
        return self._curvatures

    def dominating(self) -> Tensor:
        """Return the sums of rows of ``scale max(phi'') |A|' |A|``, plus the ridge."""
        if self._dominating is None:
            model = self._model
            self._dominating = model.scale * model.curvature_bound * model.design.overlaps() + model.ridge
        return self._dominating

    def move(self, block: Tensor, d: Tensor) -> None:
        """Move and update the products."""
        self.x[block] += d
        self._moves += 1
        if self._moves % self.refresh_every == 0:
            self._z = self._model.design.matvec(self.x)
        else:
            self._z = self._z + self._model.design.combine(block, d)

    def _charge(self, columns: int) -> None:
        self._share += columns / max(self._model.variables, 1)
        whole = int(self._share + 1e-9)
        self._work.gradients += whole
        self._share -= whole


def positive(values: Tensor) -> Tensor:
    """Return curvatures with those that are zero raised to a little of the largest, so that they can be divided by."""
    top = float(values.max()) if values.numel() else 1.0
    return values.clamp(min=1e-12 * top if top > 0 else 1.0)
