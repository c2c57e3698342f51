"""Rows that are iterated one by one, side by side: for methods whose small problems differ from row to row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from precond.core import Progress


def lockstep(rows: Sequence[Iterator[Progress]]) -> Iterator[Progress]:
    """Yield the joint progress of iterations for one row each.

    A row that is solved stays where it is; the joint iteration is solved when all are, and fails when one does.

    Args:
        rows: One iteration for each row, each with progress of batch one.

    Returns:
        An iteration for the batch.
    """
    return rows[0] if len(rows) == 1 else _joint(rows)


def _joint(rows: Sequence[Iterator[Progress]]) -> Iterator[Progress]:
    latest = [next(row) for row in rows]
    while True:
        yield _merged(latest)
        if all(progress.solved for progress in latest):
            return
        latest = [last if last.solved else next(row, last) for row, last in zip(rows, latest, strict=True)]


def _merged(latest: Sequence[Progress]) -> Progress:
    latest = list(latest)
    return Progress(
        torch.cat([progress.residual for progress in latest]),
        lambda: torch.cat([progress.solution() for progress in latest]),
        failure=next((progress.failure for progress in latest if progress.failure is not None), None),
        solved=all(progress.solved for progress in latest),
    )
