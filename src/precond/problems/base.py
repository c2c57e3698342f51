"""The kinds of problem, as records that a loader or a user's own file fills."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from precond.core import Budget, Kind, Metric, Penalty, Problem


@dataclasses.dataclass
class TrainingInstance:
    """One run's model and data, built from one seed.

    Attributes:
        model: The module to train, on its device.
        loss: Returns the loss of step ``k`` (0, 1, ...) as a 0-d tensor with a graph; the batch depends on ``k`` alone.
        evaluate: Returns the metric on held-out data; the harness calls it with the clock stopped.
    """

    model: nn.Module
    loss: Callable[[int], Tensor]
    evaluate: Callable[[], float]


@dataclasses.dataclass
class Training(Problem):
    """Stochastic training of a module.

    Attributes:
        build: Makes the instance of a seed on a device: same seed, same initial weights and batches.
        evaluations: How many times a run is evaluated on the way, at equal distances.
    """

    kind: ClassVar[Kind] = Kind.TRAINING
    name: str
    description: str
    metric: Metric
    target: float
    horizon: Budget
    build: Callable[[int, torch.device], TrainingInstance]
    evaluations: int = 20


@dataclasses.dataclass
class SmoothInstance:
    """A deterministic objective with a starting point.

    Attributes:
        fun: Maps a vector ``[n]`` to a 0-d tensor, differentiable twice by autograd.
        x0: Starting point, shape ``[n]``.
        measure: Maps ``(x, loss, gradient)`` to the metric.
        residual: For sums of squares, maps ``[n]`` to the residual ``[m]`` with ``fun = ||residual||^2 / 2``.
    """

    fun: Callable[[Tensor], Tensor]
    x0: Tensor
    measure: Callable[[Tensor, float, Tensor], float]
    residual: Callable[[Tensor], Tensor] | None = None


@dataclasses.dataclass
class Smooth(Problem):
    """A deterministic smooth objective; the seed chooses the starting point.

    Attributes:
        build: Makes the instance of a seed on a device.
    """

    kind: ClassVar[Kind] = Kind.SMOOTH
    name: str
    description: str
    metric: Metric
    target: float
    horizon: Budget
    build: Callable[[int, torch.device], SmoothInstance]


@dataclasses.dataclass
class CompositeInstance:
    """A smooth function plus a penalty, with a starting point.

    Attributes:
        fun: One of ``precond.losses``, or a function of torch operations from ``[n]`` to a 0-d tensor.
        penalty: One of ``precond.penalties``.
        x0: Starting point, shape ``[n]``.
    """

    fun: Callable[[Tensor], Tensor]
    penalty: Penalty
    x0: Tensor


@dataclasses.dataclass
class Composite(Problem):
    """A smooth function plus a penalty; the seed draws the data.

    Attributes:
        build: Makes the instance of a seed on a device.
    """

    kind: ClassVar[Kind] = Kind.COMPOSITE
    name: str
    description: str
    build: Callable[[int, torch.device], CompositeInstance]
    metric: Metric = Metric("relative distance to stationarity", log=True)
    target: float = 1e-6
    horizon: Budget = Budget(steps=2000)


@dataclasses.dataclass
class LinearSystem(Problem):
    """A square system; the seed draws the right-hand side unless one is given.

    Attributes:
        matrix: Anything that `precond.operators.as_operator` takes.
        rhs: The right-hand side, shape ``[n]``; ``None`` draws a normal vector from the seed.
        symmetric: Whether the matrix is symmetric (Hermitian); ``None`` when not known.
        definite: Whether the matrix is positive definite; ``None`` when not known.
    """

    kind: ClassVar[Kind] = Kind.LINEAR_SYSTEM
    name: str
    description: str
    matrix: Any
    rhs: Tensor | None = None
    metric: Metric = Metric("relative residual", log=True)
    target: float = 1e-8
    horizon: Budget = Budget(steps=2000)
    symmetric: bool | None = None
    definite: bool | None = None


@dataclasses.dataclass
class LeastSquares(Problem):
    """A linear least-squares problem; the seed draws the right-hand side unless one is given.

    Attributes:
        matrix: Anything that `precond.operators.as_operator` takes, of shape ``[m, n]``.
        rhs: The right-hand side, shape ``[m]``; ``None`` draws a normal vector from the seed.
    """

    kind: ClassVar[Kind] = Kind.LEAST_SQUARES
    name: str
    description: str
    matrix: Any
    rhs: Tensor | None = None
    metric: Metric = Metric("relative normal-equations residual", log=True)
    target: float = 1e-8
    horizon: Budget = Budget(steps=4000)
