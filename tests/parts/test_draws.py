"""Random numbers of counters are the same wherever, and under whatever defaults, they are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from precond.math.draws import normals
from precond.math.tensors.compress import starting_factor
from precond.preconditioners.fitted_low_rank import FittedLowRank


@pytest.fixture
def double_by_default() -> Iterator[None]:
    """Make new tensors double."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn() -> tuple[torch.Tensor, ...]:
    like = torch.empty(2, 5, dtype=torch.float32)
    return normals([3, 4], like), FittedLowRank().init(like).u, starting_factor(2, 5, 3, like)


def test_draws_do_not_depend_on_the_default_dtype(request: pytest.FixtureRequest) -> None:
    before = drawn()
    request.getfixturevalue("double_by_default")
    for one, other in zip(before, drawn(), strict=True):
        assert torch.equal(one, other)


def test_members_are_drawn_by_their_own_counters() -> None:
    like = torch.empty(3, 5)
    three = normals([7, 8, 7], like)
    assert torch.equal(three[0], three[2])
    assert not torch.equal(three[0], three[1])
    assert torch.equal(three[1:2], normals([8], like[:1]))
