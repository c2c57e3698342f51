"""How a block is updated once it is chosen."""

from __future__ import annotations

import abc
import dataclasses
from typing import final

import torch
from torch import Tensor

from precond.core import Coordinates, Penalty
from precond.proximal.model import minimize_model
from precond.proximal.newton import shifted
from precond.proximal.rules import largest

ACCURACY = 1e-10
"""Accuracy of the subproblems with a matrix, relative to the gradient."""


class Update(abc.ABC):
    """A rule of updates, as a frozen dataclass."""

    @abc.abstractmethod
    def start(self) -> Step:
        """Return the rule at work on a problem, with whatever it learns on the way."""


class Step(abc.ABC):
    """An update rule at work."""

    @abc.abstractmethod
    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor | None:
        """Return the step of a block, ``[k]``, or ``None`` where no step decreases the objective.

        Args:
            coordinates: The smooth part; not moved.
            penalty: The penalty of the block's variables.
            block: The block, ``[k]``.
            gradient: The block's part of the gradient, ``[k]``.

        Returns:
            The step.
        """


@final
@dataclasses.dataclass(frozen=True)
class ScalarBound(Update):
    """``d = prox(x_b - g_b / L_b) - x_b`` with the largest eigenvalue ``L_b`` of the block's bound."""

    def start(self) -> Step:
        """Keep the eigenvalues of blocks that come again."""
        return _Scalar()


class _Scalar(Step):
    def __init__(self) -> None:
        self._known: dict[bytes, float] = {}

    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor:
        key = block.cpu().numpy().tobytes()
        if key not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[key] = largest(coordinates.bound(block))
        bound = self._known[key] or 1.0
        x = coordinates.x[block]
        return penalty.prox(x - gradient / bound, 1 / bound) - x


@final
@dataclasses.dataclass(frozen=True)
class MatrixBound(Update):
    """The minimizer of ``g_b' d + d' H_b d / 2`` plus the penalty, with a fixed ``H_b`` above the Hessian of the block.

    For a quadratic function this is the exact minimizer over the block.
    """

    def start(self) -> Step:
        """Solve."""
        return _Matrix()


class _Matrix(Step):
    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor | None:
        return solve_block(coordinates.bound(block), gradient, coordinates.x[block], penalty)


@final
@dataclasses.dataclass(frozen=True)
class NewtonStep(Update):
    """The same with the Hessian of the block, and halved until the objective decreases.

    Attributes:
        decrease: Share of the promised decrease that is asked for.
    """

    decrease: float = 1e-10

    def start(self) -> Step:
        """Search."""
        return _Newton(self.decrease)


class _Newton(Step):
    def __init__(self, decrease: float) -> None:
        self._decrease = decrease

    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor | None:
        x = coordinates.x[block]
        hessian, _ = shifted(coordinates.hessian(block), 0.0)
        d = solve_block(hessian, gradient, x, penalty)
        base, own = coordinates.value(), penalty.value(x)
        promised = gradient.dot(d) + penalty.value(x + d) - own
        noise = 10 * torch.finfo(x.dtype).eps * base.abs()
        for _ in range(60):
            change = coordinates.trial(block, d) - base + penalty.value(x + d) - own
            if bool(change <= self._decrease * promised + noise):
                return d
            d, promised = d / 2, promised / 2
        return None


@final
@dataclasses.dataclass(frozen=True)
class Search(Update):
    """The scalar update with an estimate of ``L`` that doubles until the function is below its model.

    Attributes:
        shrink: Factor of the estimate after each block.
    """

    shrink: float = 0.8

    def start(self) -> Step:
        """Begin at one."""
        return _Search(self.shrink)


class _Search(Step):
    def __init__(self, shrink: float) -> None:
        self._bound, self._shrink = 1.0, shrink

    def __call__(self, coordinates: Coordinates, penalty: Penalty, block: Tensor, gradient: Tensor) -> Tensor | None:
        x, base = coordinates.x[block], coordinates.value()
        noise = 10 * torch.finfo(x.dtype).eps * base.abs()
        while self._bound < 1e30:
            d = penalty.prox(x - gradient / self._bound, 1 / self._bound) - x
            model = gradient.dot(d) + self._bound / 2 * d.dot(d)
            if bool(coordinates.trial(block, d) - base <= model + noise):
                self._bound *= self._shrink
                return d
            self._bound *= 2
        return None


def solve_block(matrix: Tensor, gradient: Tensor, x: Tensor, penalty: Penalty) -> Tensor:
    """Return the minimizer of ``gradient' d + d' M d / 2`` plus the penalty at ``x + d``."""
    if type(penalty).__name__ == "Zero":
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info) == 0:
            return torch.cholesky_solve(-gradient[:, None], factor)[:, 0]
        safe, _ = shifted(matrix, 1e-10 * max(float(matrix.diagonal().max()), 1e-30))
        return torch.linalg.solve(safe, -gradient)
    return minimize_model(matrix, gradient, x, penalty, ACCURACY * float(gradient.norm()))
