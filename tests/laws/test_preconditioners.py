"""Every preconditioner keeps the laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond.core import Preconditioner
from tests.laws.discover import instances, name
from tests.laws.feed import shapes
from tests.laws.preconditioners import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("part", instances(Preconditioner), ids=name)
def test_law(part: Preconditioner[Any], law: Callable[..., None]) -> None:
    @settings(max_examples=4, derandomize=True, deadline=None, database=None)
    @given(shape=st.sampled_from(shapes(part)), seed=st.integers(0, 10_000))
    def holds(shape: tuple[int, ...], seed: int) -> None:
        law(part, shape, seed)

    holds()
