"""What needs no other process: who owns what, boxes, scopes, and refusals."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import Partial, Replicate, Shard

from precond.core import BadInputError, IncompatibleError, Scope, Tenant
from precond.distributors import DataParallel, Local
from precond.distributors.boxes import Box, box_at, whole_box
from precond.distributors.domain import _batches, _sources
from precond.math.balance import balanced
from precond.optim import SOAP, groups_for
from precond.recipes import matrix, orthogonal


@pytest.mark.parametrize("seed", range(5))
def test_loads_are_balanced_within_grahams_bound(seed: int) -> None:
    costs = torch.rand(7, generator=torch.Generator().manual_seed(seed)).tolist()
    bins = 3

    def heaviest(assignment: tuple[int, ...]) -> float:
        return max(sum(c for c, b in zip(costs, assignment, strict=True) if b == which) for which in range(bins))

    best = min(heaviest(assignment) for assignment in itertools.product(range(bins), repeat=len(costs)))
    assert heaviest(tuple(balanced(costs, bins))) <= (4 / 3 - 1 / (3 * bins)) * best + 1e-12


def test_bins_that_carry_something_get_less() -> None:
    assert balanced([1.0, 1.0], 2, [5.0, 0.0]) == [1, 1]
    assert balanced([], 2) == []


@pytest.mark.parametrize(
    ("mesh", "placements"),
    [((4,), [Shard(0)]), ((4,), [Shard(1)]), ((2, 3), [Shard(0), Shard(0)]), ((3, 2), [Shard(1), Shard(0)])],
)
def test_boxes_are_a_partition(mesh: tuple[int, ...], placements: list[Shard]) -> None:
    count = torch.zeros(5, 7)
    for place in itertools.product(*(range(n) for n in mesh)):
        box_at((5, 7), mesh, place, placements).cut(count).add_(1)
    assert bool((count == 1).all())


def test_replicas_hold_everything_and_partial_sums_are_refused() -> None:
    assert box_at((5, 7), (4,), (3,), [Replicate()]) == whole_box((5, 7))
    with pytest.raises(IncompatibleError, match="use Shard or Replicate"):
        box_at((5, 7), (4,), (3,), [Partial()])


def test_methods_say_what_they_must_see() -> None:
    assert matrix.soap().scope is Scope.MATRIX
    route = orthogonal.muon()
    assert route.default.scope is Scope.ELEMENTWISE
    assert route.method_for("0.weight", torch.empty(2, 2)).scope is Scope.MATRIX


def test_flat_shards_are_refused_with_the_remedy() -> None:
    for mark, value in (("_is_flat_param", True), ("_fsdp_flattened", True), ("ds_id", 0)):  # as their makers do
        flat = nn.Parameter(torch.zeros(6))
        setattr(flat, mark, value)
        with pytest.raises(BadInputError, match="fully_shard"):
            SOAP([flat])


@pytest.mark.parametrize("original", [False, True])
def test_parameters_of_fully_sharded_data_parallel_are_refused(original: bool) -> None:
    """Also where the wrapper shows the original parameters, which are then pieces of the flat one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = FullyShardedDataParallel(nn.Linear(3, 2), use_orig_params=original, device_id=torch.device("cpu"))
        for build in (lambda: SOAP(model.parameters()), lambda: groups_for(model, verbose=False)):
            with pytest.raises(BadInputError, match="fully_shard"):
                build()
    finally:
        dist.destroy_process_group()


def test_distributors_are_named_or_given() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    assert isinstance(SOAP([weight]).distributor, Local)
    with pytest.raises(BadInputError, match="DataParallel"):
        SOAP([weight], distributor="everywhere")
    with pytest.raises(IncompatibleError, match="init_process_group"):
        SOAP([weight], distributor=DataParallel())


def test_one_process_cannot_hold_a_dtensor_alone() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    weight.device_mesh = None
    with pytest.raises(IncompatibleError, match="auto"):
        Local().place([Tenant(weight, True, 1.0)])


def test_what_bins_carry_is_not_written_to() -> None:
    load = [5.0, 0.0]
    balanced([1.0, 1.0], 2, load)
    assert load == [5.0, 0.0]


def test_parts_come_from_the_processes_next_to_the_owner_and_never_from_empty_ones() -> None:
    top, bottom, empty = Box((0, 0), (2, 3)), Box((2, 0), (2, 3)), Box((4, 0), (0, 3))
    assert _sources([top, bottom, top, bottom], 2) == [2, 3]
    assert _sources([top, bottom, top, bottom], 1) == [1, 2]
    assert _sources([top, bottom, empty], 2) == [0, 1]


def test_exchanges_are_cut_where_the_room_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precond.distributors.domain._ROOM", 10)
    params = [torch.zeros(n) for n in (6, 4, 5, 5, 1, 20, 3)] + [torch.zeros(2, dtype=torch.float64)]
    assert [[p.numel() for p in batch] for batch in _batches(params)] == [[6, 4], [5, 5], [1], [20], [3], [2]]
