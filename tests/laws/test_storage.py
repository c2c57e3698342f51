"""Every storage keeps the laws."""

from __future__ import annotations

import pytest
import torch

from precond.core import Storage
from tests.laws.discover import instances, name
from tests.laws.feed import random

every_storage = pytest.mark.parametrize("part", instances(Storage), ids=name)


@every_storage
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_written_is_read_back(part: Storage, dtype: torch.dtype) -> None:
    working = random((3, 8, 5), 1).to(dtype)
    resting = part.allocate(torch.zeros_like(working))
    address = resting.data_ptr()
    kept = working.clone()
    part.encode(working, resting)
    assert torch.equal(working, kept), "encode writes to the working tensor"
    assert resting.data_ptr() == address, "encode must write in place"
    decoded = part.decode(resting, working)
    assert decoded.dtype == dtype
    assert decoded.shape == working.shape
    assert (decoded - working).norm() / working.norm() < 0.1


@every_storage
def test_allocate_keeps_the_values(part: Storage) -> None:
    working = torch.full((2, 64), 2.0)
    decoded = part.decode(part.allocate(working.clone()), working)
    torch.testing.assert_close(decoded, working, rtol=2e-2, atol=0)


@every_storage
def test_works_on_the_meta_device(part: Storage) -> None:
    assert part.allocate(torch.zeros(2, 8, device="meta")).is_meta


@every_storage
def test_says_whether_it_encodes(part: Storage) -> None:
    like = torch.zeros(2, 8)
    assert (part.allocate(like) is not like) == part.encodes
