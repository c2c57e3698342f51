"""A trust region for sums of squares that learns the curvature of the residuals from secants."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import (
    Advance,
    Delegating,
    Direction,
    Evidence,
    Need,
    Objective,
    Operator,
    OperatorTraits,
    Point,
    Preconditioner,
    Scope,
    Search,
)

DEPENDENT = 1e-3
"""Least singular value of the Jacobian, columns of length 1, over the largest, with which ``J'J + S`` is formed."""
WINS = 2
"""Steps in a row that a model must have foretold better, to be taken."""


@dataclasses.dataclass
class StructuredSecantState:
    """What is known of the curvature, and of the step before.

    Attributes:
        region: State of the trust region.
        inverse: State of what solves its systems.
        curvature: ``S``, the estimate of ``sum_i r_i r_i''``, ``[batch, n, n]``.
        whole: Steps come from ``J'J + S``; else from ``J'J``.
        last: The last point; ``None`` before the first step.
        jacobian: The Jacobian there.
        wins: Steps in a row that the other model has foretold better.
    """

    region: Any
    inverse: Any
    curvature: Tensor
    whole: bool = False
    last: Point | None = None
    jacobian: Tensor | None = None
    wins: int = 0


@final
@dataclasses.dataclass(frozen=True)
class StructuredSecant(Search[StructuredSecantState]):
    """Steps of a trust region with ``J'J`` or ``J'J + S`` for a Hessian, whichever foretold the last step better.

    After each step ``d`` the matrix ``S`` learns to map ``d`` to ``(J+ - J)' r+``, by the symmetric update of least
    change in the metric of ``J'J + S``, after it was made smaller where it is too large along ``d``: with ``y`` the
    difference of the gradients and ``z = (J+ - J)' r+ - tau S d``, ``tau = min(1, |d'(J+ - J)'r+| / |d'S d|)``,
    ``S+ = tau S + (z y' + y z') / d'y - (d'z) y y' / (d'y)^2``. The other model is taken where its promise was off by
    less than two thirds of what the present one's was, twice in a row. ``J'J + S`` is left alone where columns of ``J``
    are nearly dependent, since forming it loses their digits.

    Attributes:
        region: The trust region, which asks for shifted systems.
        inverse: What solves them, from an operator.
    """

    region: Search[Any]
    inverse: Preconditioner[Any]

    needs: ClassVar[Need] = Need.REPLAY | Need.RESIDUAL
    scope: ClassVar[Scope] = Scope.GLOBAL
    preconditioned: ClassVar[bool] = False

    def init(self, like: Tensor) -> StructuredSecantState:
        """Start without curvature."""
        batch, n = like.shape
        return StructuredSecantState(self.region.init(like), self.inverse.init(like), like.new_zeros(batch, n, n))

    def advance(
        self, state: StructuredSecantState, point: Point, direction: Direction, objective: Objective
    ) -> Advance:
        """Learn from the step before, then take one of the region's."""
        known = objective.linearization(point.x)
        hessian = objective.hessian(point.x)
        if known is not None:
            self._learn(state, point, *known)
            if state.whole:
                hessian = _Curved(hessian, state.curvature[0])
        g = point.gradient
        self.inverse.observe(state.inverse, Evidence(gradient=g, previous=g, operator=hessian))
        self.inverse.refresh(state.inverse)
        bound = _Bound(self.inverse, state.inverse, g)
        return self.region.advance(state.region, point, bound, _Modelled(objective, hessian))

    @staticmethod
    def _learn(state: StructuredSecantState, point: Point, r: Tensor, jacobian: Tensor) -> None:
        """Judge both models by the last step, and update the curvature."""
        last, before = state.last, state.jacobian
        state.last, state.jacobian = point, jacobian
        if last is None or before is None:
            return
        d, y = (point.x - last.x)[0], (point.gradient - last.gradient)[0]
        bend = (r @ (jacobian - before)).to(d)
        known = state.curvature[0]
        along, secant = d @ (known @ d), d @ y
        missing = float(last.loss - point.loss + last.gradient[0] @ d + (before @ d).square().sum() / 2)
        whole, plain = abs(missing + float(along) / 2), abs(missing)
        other = (plain if state.whole else whole) < (whole if state.whole else plain) / 1.5
        if other and not state.whole:
            other = _independent(jacobian)
        state.wins = state.wins + 1 if other else 0
        if state.wins >= WINS:
            state.whole, state.wins = not state.whole, 0
        if not float(secant) > 1e-10 * float(d.norm() * y.norm()) or not bool(torch.isfinite(bend).all()):
            return
        share = min(1.0, abs(float(d @ bend)) / abs(float(along))) if float(along) else 1.0
        z = bend - share * (known @ d)
        outer = torch.outer(z, y) / secant
        state.curvature[0] = share * known + outer + outer.mT - (d @ z) / secant**2 * torch.outer(y, y)


def _independent(jacobian: Tensor) -> bool:
    """Whether the columns are independent enough for ``J'J + S`` to be formed."""
    lengths = torch.linalg.vector_norm(jacobian, dim=0)
    scaled = jacobian / torch.where(lengths > 0, lengths, 1.0)
    singular = torch.linalg.svdvals(torch.linalg.qr(scaled, mode="r").R)
    return bool(singular[-1] >= DEPENDENT * singular[0])


class _Curved(Operator):
    """``J'J + S``.

    Args:
        plain: ``J'J``.
        curvature: ``S``, ``[n, n]``.
    """

    def __init__(self, plain: Operator, curvature: Tensor) -> None:
        self.shape, self.dtype, self.device = plain.shape, plain.dtype, plain.device
        self.traits = OperatorTraits(symmetric=True)
        self._plain, self._curvature = plain, curvature

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with each row of ``x``."""
        return self._plain.matvec(x) + x @ self._curvature


class _Modelled(Delegating):
    """The objective, with a model in place of its Hessian."""

    def __init__(self, base: Objective, model: Operator) -> None:
        super().__init__(base)
        self._model = model

    def hessian(self, x: Tensor) -> Operator:
        """Return the model, whatever the point."""
        return self._model


class _Bound:
    """Directions of what solves the systems; see `Direction`."""

    def __init__(self, inverse: Preconditioner[Any], state: Any, gradient: Tensor) -> None:
        self._inverse, self._state, self._gradient = inverse, state, gradient

    def __call__(self, shift: float, against: Tensor | None = None) -> Tensor:
        return self._inverse.apply(self._state, self._gradient if against is None else against, shift=shift).neg()

    def metric(self, v: Tensor) -> Tensor:
        return self._inverse.metric(self._state, v)
