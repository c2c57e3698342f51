"""Global methods in training: all parameters of a group as one vector."""

from __future__ import annotations

import copy
import io
import logging

import pytest
import torch
from torch import nn

from precond.core import IncompatibleError, Method, Route
from precond.filters.error_feedback import ErrorFeedback, TopK
from precond.optim import MFAC, PSGDLRA, Matrices, Optimizer, SparseMFAC, estimate_memory
from precond.optim.flat import FlatSlab, flat_axes
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.fisher_window import FisherWindow
from precond.preconditioners.windows import SparseWindow
from precond.steps.decay import Coupled

MAKERS = {
    "dense": lambda ps: MFAC(ps, lr=0.01, ngrads=4, damp=0.1, momentum=0.9),
    "sparse": lambda ps: SparseMFAC(ps, lr=0.01, ngrads=4, damp=0.1, momentum=0.9, k_init=0.2),
    "lra": lambda ps: PSGDLRA(ps, lr=0.01, rank_of_approximation=3, momentum=0.9),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Net(nn.Module):
    """Matrices, vectors and a scalar, whose names do not sort as they are declared."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts = {"second": nn.Linear(5, 3), "first": nn.Linear(4, 5), "bend": nn.Parameter(torch.ones(()))}
        for name in reversed(parts) if turned else parts:
            setattr(self, name, parts[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.bend * self.first(x)))


def train(net: Net, optimizer: torch.optim.Optimizer, steps: range, missing: int = 0) -> list[float]:
    """Take steps with gradients that depend on the step alone; every ``missing``-th leaves some parameters out."""
    losses = []
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (net(x) - x[:, :3]).square().mean()
        loss.backward()
        if missing and step % missing == 0:
            net.first.weight.grad = None
            net.bend.grad = None
        optimizer.step()
        losses.append(loss.item())
    return losses


def through_a_file(state: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@every_maker
@pytest.mark.parametrize("turned", [False, True], ids=["same-order", "other-order"])
def test_resumes_bit_for_bit_by_name(make, turned):
    net = Net()
    optimizer = make(net.named_parameters())
    train(net, optimizer, range(7), missing=3)
    weights, saved = copy.deepcopy(net.state_dict()), through_a_file(optimizer.state_dict())
    expected = train(net, optimizer, range(7, 14), missing=3)

    again = Net(turned=turned)
    resumed = make(again.named_parameters())
    again.load_state_dict(weights)
    resumed.load_state_dict(saved)
    assert train(again, resumed, range(7, 14), missing=3) == expected
    theirs = dict(again.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in net.named_parameters())


@every_maker
def test_memory_is_known_before(make):
    net = Net()
    optimizer = make(net.named_parameters())
    train(net, optimizer, range(1))
    (slab,) = optimizer._slabs
    assert isinstance(slab, FlatSlab)
    assert optimizer.state_bytes() == estimate_memory(net, slab.method)
    saved = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
    assert optimizer.state_bytes() == sum(value.numel() * value.element_size() for value in saved)


def test_a_parameter_without_a_gradient_stays_and_counts_as_zero():
    one, two = Net(), Net()
    ours, theirs = (MAKERS["dense"](net.named_parameters()) for net in (one, two))
    train(one, ours, range(4))
    train(two, theirs, range(4))
    before = one.first.weight.clone()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    one.first.weight.grad, two.first.weight.grad = None, torch.zeros_like(before)
    ours.step()
    theirs.step()
    assert torch.equal(one.first.weight, before)
    assert not torch.equal(two.first.weight, before), "the window moves it, were it not for the missing gradient"
    assert torch.equal(one.second.weight, two.second.weight)


def test_a_gradient_that_is_not_finite_counts_as_missing(caplog):
    one, two = Net(), Net()
    ours, theirs = (MAKERS["sparse"](net.named_parameters()) for net in (one, two))
    for net in (one, two):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
    one.first.weight.grad[0, 0] = torch.nan
    two.first.weight.grad = None
    with caplog.at_level(logging.WARNING):
        ours.step()
    theirs.step()
    assert ours.work.skipped == 1
    assert "(5, 4)" in caplog.text
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_parameters_that_never_had_a_gradient_join_with_zeros():
    net = Net()
    net.second.requires_grad_(False)
    optimizer = MAKERS["dense"](net.named_parameters())
    net.first.weight.grad = torch.ones_like(net.first.weight)
    optimizer.step()
    (slab,) = optimizer._slabs
    assert sum(slab.sizes) == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert bool((optimizer.state[net.bend]["preconditioner.rows.gradients"] == 0).all())
    assert not optimizer.state[net.second.weight]


def test_states_of_other_parameters_are_left_out_and_reported(caplog):
    net = Net()
    net.second.requires_grad_(False)
    optimizer = MAKERS["sparse"](net.named_parameters())
    net.first.weight.grad = torch.ones_like(net.first.weight)
    optimizer.step()
    net.second.requires_grad_(True)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    with caplog.at_level(logging.WARNING):
        optimizer.step()
    assert "starts afresh" in caplog.text
    assert optimizer._slabs[0].steps == [1] * 5


def test_groups_and_routes_have_vectors_of_their_own():
    net = Net()
    window = Method(preconditioner=FisherWindow(4, 0.1))
    route = Route([(Matrices(), window)], Method(preconditioner=Diagonal()))
    groups = [{"params": net.first.parameters()}, {"params": net.second.parameters(), "lr": 0.02}]
    optimizer = Optimizer(groups, route, lr=0.01)
    train(net, optimizer, range(3))
    flat = [slab for slab in optimizer._slabs if isinstance(slab, FlatSlab)]
    assert [sum(slab.sizes) for slab in flat] == [20, 15]
    assert optimizer.work.applies == 3 * 4  # two vectors, two biases


def test_mixed_precision_is_worked_on_in_single():
    net = Net()
    net.first.bfloat16()
    optimizer = Optimizer(net.parameters(), Method(preconditioner=FisherWindow(4, 0.1), decay=Coupled()), lr=0.1)
    before = [p.clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    (slab,) = optimizer._slabs
    assert slab.state.preconditioner.rows.gradients.dtype == torch.float32
    assert [p.dtype for p in net.first.parameters()] == [torch.bfloat16] * 2
    assert not any(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_which_axis_is_the_vector_is_found_by_shape():
    method = Method(
        estimator=ErrorFeedback(TopK(0.999)), preconditioner=FisherWindow(50, 0.1, window=SparseWindow(0.999))
    )
    axes = flat_axes(method, 50, torch.float32)
    assert axes["estimator.error"] == 1
    assert {axes[name] for name in axes if name.startswith("preconditioner")} == {None}
    assert flat_axes(Method(preconditioner=FisherWindow(50)), 50, torch.float32)["preconditioner.rows.gradients"] == 2


def test_refuses_sharded_parameters():
    class Sharded(nn.Parameter):
        device_mesh = None

    sharded = Sharded(torch.zeros(3))
    with pytest.raises(IncompatibleError, match="weight is sharded"):
        FlatSlab([("weight", sharded)], Method(preconditioner=FisherWindow(4, 0.1)), 0, {})


def test_a_vector_of_parameters_of_several_dtypes_is_laid_out_once() -> None:
    half, single = nn.Parameter(torch.ones(3, dtype=torch.bfloat16)), nn.Parameter(torch.ones(2))
    optimizer = MFAC([half, single], lr=0.01, ngrads=4)
    layouts = []
    for _ in range(3):
        half.grad, single.grad = torch.ones_like(half), torch.ones_like(single)
        optimizer.step()
        layouts.append(optimizer._layout)
    assert layouts[0] is layouts[1] is layouts[2]
    single.data = single.data.double()
    half.grad, single.grad = torch.ones_like(half), torch.ones_like(single)
    optimizer.step()
    assert optimizer._layout is not layouts[2], "a parameter of another precision needs another state"
