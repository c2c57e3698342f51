"""What all tests share: a module's random numbers begin anew with each test."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

_starts: dict[tuple[str, str], Any] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Reset generators of the test's module, so that a test draws the same whatever ran before it."""
    module = getattr(item, "module", None)
    for name, value in vars(module).items() if module is not None else ():
        if isinstance(value, np.random.Generator) and value.bit_generator is not None:
            generator = value.bit_generator
            start = _starts.setdefault((module.__name__, name), copy.deepcopy(generator.state))
            generator.state = copy.deepcopy(start)
