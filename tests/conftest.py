"""What all tests share: a module's random numbers begin anew with each test."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precond

_starts: dict[tuple[str, str], Any] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Forget compiled loops that are older than any loop's source.

    A loop that calls one of another file was compiled with that, and numba only looks whether its own file has changed.
    """
    if hasattr(config, "workerinput"):  # the process that starts the workers has seen to it
        return
    package = Path(precond.__file__).parent
    newest = max(path.stat().st_mtime for path in package.rglob("*_kernels.py"))
    for cached in package.rglob("*.nbi"):
        if cached.stat().st_mtime < newest:
            cached.unlink()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Reset generators of the test's module, so that a test draws the same whatever ran before it."""
    module = getattr(item, "module", None)
    for name, value in vars(module).items() if module is not None else ():
        if isinstance(value, np.random.Generator) and value.bit_generator is not None:
            generator = value.bit_generator
            start = _starts.setdefault((module.__name__, name), copy.deepcopy(generator.state))
            generator.state = copy.deepcopy(start)
