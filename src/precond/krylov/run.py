"""The loop around an iteration, for whoever needs nothing but an answer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from precond.core import Iteration, Map, Operator, Progress


def run(
    iteration: Iteration,
    operator: Operator,
    b: Tensor,
    precondition: Map,
    x0: Tensor,
    *,
    stop: Callable[[Progress], bool],
    max_iterations: int,
) -> tuple[Progress, int]:
    """Run an iteration until it fails, is done, ``stop`` says so or the limit is reached.

    Args:
        iteration: The method.
        operator: The linear map ``A``.
        b: Right-hand sides, shape ``[batch, m]``.
        precondition: Applies ``P`` to a batch of vectors.
        x0: Starting points, shape ``[batch, n]``.
        stop: Sees the progress at ``x0`` and after each iteration. It decides, so any criterion will do.
        max_iterations: Limit on iterations.

    Returns:
        The last progress, and the number of iterations done.
    """
    for count, progress in enumerate(iteration.iterate(operator, b, precondition, x0)):
        if progress.failure is not None or stop(progress) or progress.solved or count >= max_iterations:
            break
    return progress, count
