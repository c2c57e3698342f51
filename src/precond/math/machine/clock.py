"""A clock for comparing what things take: it stands still while code is compiled, which happens once."""

from __future__ import annotations

import time

from numba.core import event


class _Compiling(event.Listener):
    """Adds up the seconds of the processor in which code was compiled, or read where it was kept compiled."""

    def __init__(self) -> None:
        self.spent, self._depth, self._begin = 0.0, 0, 0.0

    def on_start(self, event: object) -> None:
        """Note when the first of several nested compilations begins."""
        if self._depth == 0:
            self._begin = time.process_time()
        self._depth += 1

    def on_end(self, event: object) -> None:
        """Add what the outermost took; one that was under way at first has no beginning."""
        if self._depth == 0:
            return
        self._depth -= 1
        if self._depth == 0:
            self.spent += time.process_time() - self._begin


_compiling = _Compiling()
event.register("numba:compiler_lock", _compiling)


def now() -> float:
    """Return seconds of the processor, without those of the compiler; only differences mean something.

    Other programs do not matter to it, nor that a way to solve something is used for the first time since it was
    installed.
    """
    return time.process_time() - _compiling.spent
