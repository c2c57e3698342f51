"""Keeping the memory that a step frees for the next step."""

from __future__ import annotations

import functools

import torch

_LARGEST = 2**25 - 2**16
"""Bytes of the largest block that the C library of Linux learns from, less room for its own notes."""


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library of Linux keep what a step frees, once per process, rather than hand it back to the system.

    A step allocates the same few megabytes each time. glibc hands freed memory back when more than a threshold is free
    at the end of the heap, and the next step pays for every page again when it is first touched: a quarter of a step
    of `lean_soap`, as measured, and half of a product with 16 vectors of 10 000 numbers. The threshold adapts: it is
    twice the largest block that was ever mapped and freed, up to 32 MB. So one such block is allocated and freed;
    nothing touches it, so that it costs no memory. At most 64 MB of freed memory are kept then, as in any process that
    has freed one large activation. Other C libraries do not care.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
