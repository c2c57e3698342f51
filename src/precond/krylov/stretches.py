"""Iterations of one system that compiled loops make, as progress: what the methods' ``ahead`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Kernel, Look, Map, Operator, Progress
from precond.krylov.inner import norm
from precond.math.stretch import Stretch
from precond.math.vectors import rows


def begun(
    name: str, kernel: Kernel, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
) -> Stretch:
    """Return an iteration that has made no step, with ``x_0`` and ``b - A x_0`` as its first vectors.

    Args:
        name: The module of its loops, see `precond.math.stretch.Stretch`.
        kernel: The system as compiled loops take it.
        operator: The linear map ``A``.
        b: Right-hand side, shape ``[1, n]``.
        precondition: Applies ``P`` to a batch of vectors.
        x0: Starting point, shape ``[1, n]``.

    Returns:
        The iteration.
    """
    matrix = kernel.matrix or kernel.product or single(operator.matvec)
    inverse = kernel.apply or single(precondition) if kernel.sweeps is None else kernel.sweeps
    steps = Stretch(name, b, matrix, inverse)
    x, r = vector(steps, 0), vector(steps, 1)
    x.copy_(x0)
    r.copy_(b)
    if bool(x.any()):
        r -= operator.matvec(x)
    return steps


def progressing(
    steps: Stretch, kernel: Kernel, look: Look, ending: Callable[[], Progress]
) -> Iterator[Progress]:
    """Yield the progress at the start, when ``look`` says so, and in the end what ``ending`` makes of it.

    Args:
        steps: The iteration; its first vector is the solution, its second the residual.
        kernel: The system, which is told of products and applications that nobody else has counted.
        look: When to yield.
        ending: Called where the iteration cannot go on, or must not.

    Yields:
        The progress.
    """
    x = vector(steps, 0)
    yield Progress(norm(vector(steps, 1)), x.clone)
    products = applications = 0
    while not steps.ended:
        norms = steps.run(look.level, look.steps)
        now, applied = steps.spent
        kernel.spend(
            0 if kernel.matrix is None else now - products, 0 if kernel.sweeps is None else applied - applications
        )
        products, applications = now, applied
        if norms:
            yield Progress(torch.tensor(norms[-1:], dtype=torch.float64), x.clone, skipped=norms[:-1])
    yield ending()


def vector(steps: Stretch, row: int) -> Tensor:
    """Return a vector of the iteration, shape ``[1, n]``, the same memory."""
    return torch.from_numpy(steps.vectors[row : row + 1])


def single(function: Map) -> Callable[[np.ndarray[Any, Any]], Any]:
    """Return a map of batches for one NumPy vector ``[n]``."""
    return lambda v: rows(function(torch.from_numpy(v)[None]))[0]
