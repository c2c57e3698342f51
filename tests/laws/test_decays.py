"""Every way to decay weights keeps the laws."""

from __future__ import annotations

import pytest
import torch

from precond.core import Decay
from tests.laws.discover import instances, name
from tests.laws.feed import random

every_decay = pytest.mark.parametrize("part", instances(Decay), ids=name)


@every_decay
def test_moves_in_place_and_writes_nothing_else(part: Decay) -> None:
    weights, updates = [random((4, 3), 1), random((5,), 2)], [random((4, 3), 3), random((5,), 4)]
    before = [w.clone() for w in weights]
    kept, addresses = [u.clone() for u in updates], [w.data_ptr() for w in weights]
    part.move(weights, updates, 0.1, 0.5)
    assert [w.data_ptr() for w in weights] == addresses
    assert all(torch.equal(u, k) for u, k in zip(updates, kept, strict=True)), "move writes to the updates"
    assert not any(torch.equal(w, b) for w, b in zip(weights, before, strict=True)), "move moves nothing"


@every_decay
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["float", "tensor"])
def test_without_decay_it_is_a_plain_step(part: Decay, lr: float | torch.Tensor) -> None:
    weight, update = random((4, 3), 1), random((4, 3), 3)
    moved = weight.clone()
    part.move([moved], [update], lr, 0.0)
    torch.testing.assert_close(moved, weight - 0.1 * update, rtol=1e-12, atol=1e-12)
    assert torch.equal(part.regularize(update, weight, 0.0), update)


@every_decay
def test_decay_shrinks_weights(part: Decay) -> None:
    """With no gradient of its own, a method that decays makes weights smaller, here or in `regularize`."""
    weight = random((4, 3), 1)
    moved, zero = weight.clone(), torch.zeros_like(weight)
    gradient = part.regularize(zero, weight if part.reads_weights else None, 0.5)
    part.move([moved], [gradient], 0.1, 0.5)
    assert moved.norm() < weight.norm()


@every_decay
def test_regularize_writes_nothing(part: Decay) -> None:
    gradient, weight = random((2, 4), 1), random((2, 4), 2)
    kept_gradient, kept_weight = gradient.clone(), weight.clone()
    part.regularize(gradient, weight if part.reads_weights else None, 0.5)
    assert torch.equal(gradient, kept_gradient)
    assert torch.equal(weight, kept_weight)


@every_decay
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype_of_weights(part: Decay, dtype: torch.dtype) -> None:
    weight, update = random((4, 3), 1).to(dtype), random((4, 3), 3).float()
    part.move([weight], [update], 0.1, 0.5)
    assert weight.dtype == dtype
    assert bool(torch.isfinite(weight).all())
