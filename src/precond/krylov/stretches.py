"""Iterations of one system that compiled loops make, as progress: what the methods' ``ahead`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import Kernel, Look, Map, Operator, Progress
from precond.krylov.inner import norm
from precond.math.krylov.bidiagonal import Bidiagonalization
from precond.math.krylov.stretch import Stretch
from precond.math.krylov.vectors import rows


def begun(name: str, kernel: Kernel, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Stretch:
    """Return an iteration that has made no step, with ``x_0`` and ``b - A x_0`` as its first vectors.

    Args:
        name: The module of its loops, see `precond.math.krylov.stretch.Stretch`.
        kernel: The system as compiled loops take it.
        operator: The linear map ``A``.
        b: Right-hand side, shape ``[1, n]``.
        precondition: Applies ``P`` to a batch of vectors.
        x0: Starting point, shape ``[1, n]``.

    Returns:
        The iteration.
    """
    forward = kernel.matrix or kernel.product or single(operator.matvec)
    steps = Stretch(name, operator.shape, x0.numpy().dtype, forward, _inverse(kernel, precondition))
    steps.vectors[:2] = rows(x0)[0], rows(b)[0]
    if steps.vectors[0].any():
        steps.vectors[1] -= rows(operator.matvec(x0))[0]
    return steps


def progressing(steps: Stretch, kernel: Kernel, look: Look, ending: Callable[[], Progress]) -> Iterator[Progress]:
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
    while not steps.ended:
        norms = stretch(steps, kernel, look)
        if norms:
            yield Progress(scalar(norms[-1]), x.clone, skipped=norms[:-1])
    yield ending()


def bidiagonalizing(name: str, kernel: Kernel, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Stretch:
    """Return an iteration on a bidiagonalization that has made no step; see `begun`.

    Its first step is that to the start, after which ``||A^H r||`` is known.
    """
    m, n = operator.shape
    forward = kernel.matrix or kernel.product or single(operator.matvec)
    backward = kernel.adjoint or single(operator.rmatvec)
    steps = Bidiagonalization(name, (m, n), x0.numpy().dtype, forward, _inverse(kernel, precondition), backward)
    steps.vectors[0, :n], steps.vectors[1, :m] = rows(x0)[0], rows(b)[0]
    if steps.vectors[0, :n].any():
        steps.vectors[1, :m] -= rows(operator.matvec(x0))[0]
    return steps


def stretch(steps: Stretch, kernel: Kernel, look: Look) -> list[float]:
    """Make iterations until ``look`` says so; tell the kernel of what nobody else has counted."""
    before = steps.spent
    norms = steps.run(look.level, look.steps)
    now = steps.spent
    products = 0 if kernel.matrix is None else now[0] - before[0]
    kernel.spend(products, 0 if kernel.sweeps is None else now[1] - before[1])
    return norms


def scalar(value: float) -> Tensor:
    """Return a number as progress holds it, shape ``[1]``."""
    return torch.tensor((value,), dtype=torch.float64)


def vector(steps: Stretch, row: int) -> Tensor:
    """Return a vector of the iteration, shape ``[1, n]``, the same memory."""
    return torch.from_numpy(steps.vectors[row : row + 1])


def _inverse(kernel: Kernel, precondition: Map) -> Any:
    """Return the preconditioner as `Stretch` takes it."""
    return kernel.sweeps if kernel.sweeps is not None else kernel.apply or single(precondition)


def single(function: Map) -> Callable[[np.ndarray[Any, Any]], Any]:
    """Return a map of batches for one NumPy vector ``[n]``."""
    return lambda v: rows(function(torch.from_numpy(v)[None]))[0]
