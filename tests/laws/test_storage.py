"""Every storage keeps the laws, for tensors of every role."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from precond.core import Resting, Role, Storage, map_tensors, named_tensors, put_to_rest
from tests.laws.discover import instances, name
from tests.laws.feed import random

every_storage = pytest.mark.parametrize("part", instances(Storage), ids=name)
every_role = pytest.mark.parametrize("role", [role for role in Role if role is not Role.EXACT], ids=lambda r: r.value)


def sample(role: Role, batch: int = 3, n: int = 18, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return tensors ``[batch, n, n]`` that hold what the role says."""
    x = random((batch, n, n), 1)
    if role is Role.NON_NEGATIVE:
        x = x.square() * torch.logspace(0, -6, n, dtype=torch.float64)
    elif role in (Role.SYMMETRIC, Role.ROOT):
        x = x @ x.mT + torch.eye(n, dtype=torch.float64)
    elif role is Role.ORTHOGONAL:
        x = torch.linalg.qr(x).Q
    elif role is Role.TRIANGULAR:
        x = torch.linalg.cholesky(x @ x.mT + torch.eye(n, dtype=torch.float64))
    return x.to(dtype)


def rest(part: Storage, working: Tensor, role: Role) -> Tensor | Resting:
    return part.rest(working.clone(), role)


def decoded(resting: Tensor | Resting, role: Role) -> Tensor:
    """Return what wakes, as far as it means something: of symmetric factors the lower triangle."""
    working = resting.decode() if isinstance(resting, Resting) else resting
    return working.tril() if role is Role.SYMMETRIC else working


@every_storage
@every_role
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_written_is_read_back(part: Storage, role: Role, dtype: torch.dtype) -> None:
    working = sample(role, dtype=dtype)
    resting = rest(part, torch.zeros_like(working), role)
    addresses = [tensor.data_ptr() for _, tensor in named_tensors(resting)]
    kept = working.clone()
    if isinstance(resting, Resting):
        resting.encode(working)
        assert torch.equal(working, kept), "encode writes to the working tensor"
        assert [tensor.data_ptr() for _, tensor in named_tensors(resting)] == addresses, "encode must write in place"
        back = resting.decode()
        assert back.dtype == dtype
        assert back.shape == working.shape
        assert back.is_contiguous() or back.mT.is_contiguous()
        assert all(back.data_ptr() != address for address in addresses), "decode must return a new tensor"
        back, working = decoded(back, role), decoded(working, role)
        assert (back - working).norm() / working.norm() < 0.2


@every_storage
@every_role
def test_the_first_values_are_kept(part: Storage, role: Role) -> None:
    identity = torch.eye(18).expand(2, 18, 18).clone()
    torch.testing.assert_close(decoded(rest(part, identity, role), role), identity, rtol=2e-2, atol=0)
    assert not decoded(rest(part, 0 * identity, role), role).any(), "zero does not stay zero"


@every_storage
@every_role
def test_the_batch_leads_and_members_do_not_interact(part: Storage, role: Role) -> None:
    working = sample(role)
    working[1] *= 1e6
    torch.manual_seed(0)
    together = rest(part, working, role)
    for _, tensor in named_tensors(together):
        assert tensor.shape[0] == 3
    for member in range(3):
        alone = decoded(rest(part, working[member : member + 1], role), role)
        taken = map_tensors(lambda t, i=member: t[i : i + 1].clone(), together)
        assert torch.equal(decoded(taken, role), alone)


@every_storage
@every_role
def test_a_batch_of_tiles_rests_as_the_tiles_do(part: Storage, role: Role) -> None:
    """Some parts keep ``[batch, tiles, n, n]``: a role speaks of the last two axes."""
    working = sample(role, batch=4)
    tiles = decoded(rest(part, working.unflatten(0, (2, 2)), role), role).flatten(0, 1)
    working = decoded(working, role)
    assert (tiles - working).norm() / working.norm() < 0.2


@every_storage
@every_role
def test_what_has_rested_rests_as_it_is(part: Storage, role: Role) -> None:
    """A second rest loses nothing more, but for what makes a basis orthogonal again."""
    resting = rest(part, sample(role, dtype=torch.float32), role)
    once = resting.decode() if isinstance(resting, Resting) else resting
    twice = decoded(rest(part, once, role), role)
    once = decoded(once, role)
    tolerance = 0.1 if getattr(part, "rectify", 0) else 1e-5
    assert (once - twice).norm() <= tolerance * once.norm()


@every_storage
def test_second_moments_never_become_zero(part: Storage) -> None:
    working = torch.logspace(0, -30, 64 * 3).view(3, 64)
    assert bool((decoded(rest(part, working, Role.NON_NEGATIVE), Role.NON_NEGATIVE) > 0).all())


@every_storage
@every_role
def test_works_on_the_meta_device_with_as_many_bytes(part: Storage, role: Role) -> None:
    def sizes(device: str) -> list[tuple[str, int]]:
        resting = part.rest(torch.zeros(2, 18, 18, device=device), role)
        assert all(tensor.device.type == device for _, tensor in named_tensors(resting))
        return [(key, tensor.numel() * tensor.element_size()) for key, tensor in named_tensors(resting)]

    assert sizes("meta") == sizes("cpu")


@every_storage
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (1, 1), (2, 3, 2), (0, 4)])
def test_takes_every_shape(part: Storage, shape: tuple[int, ...]) -> None:
    for role in (Role.SIGNED, Role.NON_NEGATIVE):
        working = random((2, *shape), 3, torch.float32).abs()
        back = decoded(rest(part, working, role), role)
        assert back.shape == working.shape
        assert bool((back - working).norm() <= 0.2 * working.norm())


@every_storage
def test_counters_and_exact_numbers_are_left_alone(part: Storage) -> None:
    from precond.core import rests_as

    state = {"steps": torch.ones(3, dtype=torch.int64), "per_member": torch.rand(3), "flag": torch.ones(3, 2).bool()}
    again = put_to_rest(part, state)
    assert all(again[key] is tensor for key, tensor in state.items())
    assert rests_as(Role.EXACT).metadata


@every_storage
def test_says_whether_it_encodes(part: Storage) -> None:
    forms = [part.rest(sample(role, n=70), role) for role in Role]
    assert any(isinstance(form, Resting) for form in forms) == part.encodes
