"""Linear models as block coordinate descent sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Coordinates, Scalars, Work
from precond.losses.single_products import SingleProducts


class LinearCoordinates(Coordinates):
    """A linear model whose products ``z = A x`` follow the moves.

    Args:
        model: The model.
        x: The starting point, ``[n]``.
        work: The account: a whole gradient counts as one, parts of it as their share of the columns.
    """

    refresh_every = 1000
    """Moves after which the products are computed anew, as errors of rounding add up."""

    def __init__(self, model: SingleProducts, x: Tensor, work: Work) -> None:
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
        return self._model.kernel is not None and self._model.design.device.type == "cpu"

    def round(self, order: Tensor, scalars: Scalars) -> float:
        """Run one compiled round; the products follow."""
        model, design = self._model, self._model.design
        self._charge(len(order))
        x, z, b, bounds = (
            v.double().contiguous().numpy().copy() for v in (self.x, self._z, model.b, positive(self._curvatures))
        )  # fmt: skip
        common = (x, z, b, bounds, model.scale, model.ridge, model.kernel == "logistic")
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
