"""Softmax regression: the cross entropy of several classes whose scores are linear."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Operator, OperatorTraits, Work
from precond.losses.design import Times
from precond.losses.regression import ASSEMBLED, Regression
from precond.losses.small import SmallRegression, SmallSoftmax

PRODUCTS_OF_MATRICES = 24
"""Variables whose blocks are assembled in the time of one product with the Hessian: measured."""


class Softmax(Regression):
    """``scale sum_i (log sum_c exp(a_i' x_c) - a_i' x_{b_i}) + ridge/2 ||x||^2`` with a column ``x_c`` for each class.

    Args:
        A: Rows ``a_i``: a matrix ``[m, d]``, dense (NumPy, torch) or sparse (SciPy, torch).
        b: Labels, ``[m]``: the classes are their different values in ascending order.
        scale: Weight of the sum; ``None`` means ``1/m``.
        ridge: Weight of the squares of the variables.

    Attributes:
        labels: The label of each class, ``[k]``.
        variables: ``d k``; the variables are the matrix ``[d, k]``, row by row.
    """

    def __init__(self, A: Any, b: Any, *, scale: float | None = None, ridge: float = 0.0) -> None:
        super().__init__(A, scale, ridge)
        self.labels, classes = self._targets(b).unique(return_inverse=True)
        if not len(self.labels):
            raise BadInputError("b is empty: a softmax model needs a label")
        self.variables = self.design.shape[1] * len(self.labels)
        self._classes = classes[None]
        self._minus = torch.full((), -1.0, dtype=self.dtype, device=classes.device).expand_as(self._classes)

    @property
    def assembly(self) -> int:
        """The quotient of operations, ``n / 4``, over that of the speeds: pairs are multiplied as whole matrices."""
        return self.variables // PRODUCTS_OF_MATRICES

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value at ``x`` ``[d k]``."""
        x = x.to(self.dtype)
        z = Times.apply(self._columns(x), self.design, False) if x.requires_grad else self.products(x)
        return self.scale * self._entropies(z).sum() + self.ridge / 2 * x.dot(x)

    def products(self, x: Tensor) -> Tensor:
        """Return the scores of each class, ``[k, m]``."""
        return self.design.matvec(self._columns(x))

    def at(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient at ``x``, whose scores are ``z``."""
        scores = z.log_softmax(0)
        fit = scores.gather(0, self._classes).sum()
        surprise = scores.exp_().scatter_add_(0, self._classes, self._minus)
        loss = fit.mul_(-self.scale).add_(x.dot(x), alpha=self.ridge / 2)
        return loss, self.flat(self.design.rmatvec(surprise)).mul_(self.scale).add_(x, alpha=self.ridge)

    def floor(self) -> float:
        """Return the ridge: the rest is convex."""
        return self.ridge

    def small(self) -> SmallRegression | None:
        """Return the model in arrays, where its matrix is dense."""
        matrix = self.design.dense()
        if matrix is None:
            return None
        return SmallSoftmax(matrix.numpy(), self._classes[0].numpy(), len(self.labels), self.scale, self.ridge)

    def hessian_at(self, z: Tensor, work: Work) -> Operator:
        """Return ``scale sum_i (diag(p_i) - p_i p_i') (x) a_i a_i' + ridge I``."""
        return SoftmaxHessian(self, self.probabilities(z), work)

    def lipschitz(self) -> float:
        """Return ``scale ||A||^2 / 2 + ridge``."""
        return self.scale / 2 * self.design.largest_eigenvalue() + self.ridge

    def probabilities(self, z: Tensor) -> Tensor:
        """Return those of each class, ``[k, m]``, for scores ``[k, m]``."""
        return z.softmax(0)

    def flat(self, columns: Tensor) -> Tensor:
        """Return the variables ``[..., d k]`` whose columns are ``[..., k, d]``."""
        return columns.mT.reshape(*columns.shape[:-2], self.variables)

    def _columns(self, x: Tensor) -> Tensor:
        """Return the column of each class, ``[k, d]``."""
        return x.view(-1, len(self.labels)).mT

    def _entropies(self, z: Tensor) -> Tensor:
        return z.logsumexp(0) - z.gather(0, self._classes)[0]


class SoftmaxHessian(Operator):
    """The Hessian of softmax regression.

    Args:
        model: The model.
        probabilities: Those of each class, ``[k, m]``.
        work: The account that products are charged to.
    """

    def __init__(self, model: Softmax, probabilities: Tensor, work: Work) -> None:
        n = model.variables
        self.shape, self.dtype, self.device = (n, n), model.dtype, model.design.device
        self.traits = OperatorTraits(symmetric=True)
        self._model, self._p, self._work = model, probabilities, work

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row of ``x``, and count one for each."""
        self._work.hvps += len(x)
        model, (k, m) = self._model, self._p.shape
        columns = x.view(len(x), -1, k).mT.reshape(len(x) * k, -1)
        change = model.design.matvec(columns).view(-1, k, m).mul_(self._p)
        change = change.addcmul_(self._p, change.sum(1, keepdim=True), value=-1)
        found = model.design.rmatvec(change.view(-1, m)).view(len(x), k, -1)
        return model.flat(found).mul_(model.scale).add_(x, alpha=model.ridge)

    def floor(self) -> float:
        """Return that of the model."""
        return self._model.floor()

    def assembled(self, *, coarse: bool = False) -> Tensor | None:
        """Return the matrix from a pass over the data for each pair of classes, where it is small.

        The probabilities of a row sum to one, so that the block of a class with itself is minus the sum of the others.
        """
        model, p, k = self._model, self._p, len(self._p)
        if not 0 < model.variables <= ASSEMBLED:
            return None
        scaled = model.scale * p
        blocks = model.design.features.coupled(k, lambda a, b: scaled[a].mul_(p[b]), own=False, coarse=coarse).neg_()
        blocks.diagonal(dim1=0, dim2=1).sub_(blocks.sum(1).permute(1, 2, 0))
        matrix = blocks.permute(2, 0, 3, 1).reshape(self.shape)
        matrix.diagonal().add_(model.ridge)
        return matrix.to(self.dtype)
