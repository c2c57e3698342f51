"""Two halves of a compiled loop on two threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch


@functools.cache
def _helper(process: int) -> ThreadPoolExecutor:
    """Return the second thread of a process; a fork gets one of its own."""
    return ThreadPoolExecutor(1, thread_name_prefix="precond")


def share(work: Callable[[int, int], object], count: int) -> None:
    """Do parts ``first <= k < last`` of something by ``work(first, last)``, some of them on a second thread.

    Parts must not depend on each other, and ``work`` must release the interpreter's lock. The second thread is used
    where torch may use more than one; what it has not begun when the first is done is taken back, so that a busy
    machine costs no wait for a thread that has yet to run. What is computed does not depend on it. No part is still
    being done when this returns or raises; at the end of the process, when there are no other threads, all are done
    here.

    Args:
        work: Does some parts.
        count: Number of parts.
    """
    if torch.get_num_threads() == 1 or count < 2:
        work(0, count)
        return
    half, quarter = count // 2, count - count // 4
    rest = [(half, quarter), (quarter, count)] if quarter < count else [(half, count)]
    try:
        futures = [(_helper(os.getpid()).submit(work, *span), span) for span in rest]
    except RuntimeError:  # the interpreter shuts down
        work(0, count)
        return
    try:
        work(0, half)
        for future, span in reversed(futures):
            if future.cancel():
                work(*span)
            else:
                future.result()
    except BaseException:
        wait([future for future, _ in futures if not future.cancel()])
        raise
