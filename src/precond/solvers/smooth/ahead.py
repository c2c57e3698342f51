"""Newton's steps in arrays, where calls of torch would take longer than all else."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.linalg.lapack
import torch
from torch import Tensor

from precond.core import Objective, Point
from precond.math.dense.definite import PIVOT

MOST = 100
"""Steps that are taken at once at most."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Steps that were taken at once.

    Attributes:
        first: Where they began.
        last: Where they ended.
        norms: Norm of the gradient at the start and after each of them.
    """

    first: Point
    last: Point
    norms: list[float]


def newton_steps(objective: Objective, start: Tensor, c1: float, tol: float, limit: int) -> Stretch | None:
    """Take Newton's steps of length 1 until the gradient is small, or until one is none that a line search would take.

    Args:
        objective: The oracle; what is evaluated is counted.
        start: The starting point, ``[1, n]``.
        c1: Sufficient decrease, as a share of what the slope promises.
        tol: Bound on the norm of the gradient.
        limit: Largest number of steps.

    Returns:
        The steps, perhaps none; ``None`` where the objective has no arrays.
    """
    arrays = objective.arrays()
    if arrays is None:
        return None
    x, work = start[0].numpy(), objective.work
    with np.errstate(all="ignore"):  # what is not finite ends the steps, and the driver says so
        value, gradient, kept = arrays.evaluate(x)
        last = first = (x, value, gradient)
        norms, evaluated = [math.sqrt(gradient @ gradient)], 1
        while norms[-1] > tol and len(norms) <= min(limit, MOST):
            matrix = arrays.hessian(kept)
            floor = PIVOT * matrix.diagonal()
            factor, info = scipy.linalg.lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
            pivots = factor.diagonal()
            if info or not (pivots * pivots > floor).all():
                break
            step = scipy.linalg.lapack.dpotrs(factor, gradient, lower=1)[0]
            slope, there = -(gradient @ step), x - step
            lower, ahead, kept = arrays.evaluate(there)
            evaluated += 1
            # a line search would take a shorter step, or a longer one where the slope is what it was
            if not (lower <= value + c1 * slope and lower < value and -(ahead @ step) > 0.99 * slope):
                break
            last = x, value, gradient = there, lower, ahead
            norms.append(math.sqrt(gradient @ gradient))
    work.gradients += evaluated
    work.applies += len(norms) - 1
    work.refreshes += len(norms) - 1
    begin = _point(*first)
    return Stretch(begin, begin if last is first else _point(*last), norms)


def _point(x: np.ndarray[Any, Any], loss: float, gradient: np.ndarray[Any, Any]) -> Point:
    return Point(torch.from_numpy(x)[None], torch.from_numpy(np.array(loss)), torch.from_numpy(gradient)[None])
