"""The loop around an iteration, for whoever needs nothing but an answer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress


def run(
    iteration: Iteration,
    operator: Operator,
    b: Tensor,
    precondition: Map,
    x0: Tensor,
    *,
    stop: Callable[[Progress], bool],
    max_iterations: int,
    kernel: Kernel | None = None,
    look: Look | None = None,
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
        kernel: The system as compiled loops take it, where it has one right-hand side.
        look: When ``stop`` wants to see the progress, if not after each iteration; ``stop`` may write it.

    Returns:
        The last progress, and the number of iterations done.
    """
    count, look = -1, look or Look()
    if kernel is None:
        steps = iteration.iterate(operator, b, precondition, x0)
    else:
        steps = iteration.ahead(kernel, look, operator, b, precondition, x0)
    for progress in steps:
        count += 1 + len(progress.skipped)
        if progress.failure is not None or stop(progress) or progress.solved or count >= max_iterations:
            break
        look.steps = min(look.steps, max_iterations - count)
    return progress, count
