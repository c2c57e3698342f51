"""Ctrl-C waits while the ledger is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the body is done; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda received, frame: caught.append((received, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for received, frame in caught[:1]:
            handler = before[signal.Signals(received)]
            if callable(handler):
                handler(received, frame)
            elif handler != signal.SIG_IGN:
                signal.raise_signal(received)
