"""Evaluating a batch again at other weights: what it returns, and that nothing of it is left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from precond.core import IncompatibleError, Work
from precond.optim import MARS, Optimizer, estimate_memory
from precond.optim.replay import Replay
from precond.recipes.registry import find


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 2)).double()


def batch(step: int) -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def closure_for(net: nn.Module, step: int = 0, fail_at: int = 0):
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise RuntimeError("out of memory")
        net.zero_grad()
        loss = (net(batch(step)) - 1).square().mean()
        loss.backward()
        return loss

    return closure


def elsewhere(net: nn.Module) -> dict[torch.Tensor, torch.Tensor]:
    return {p: p.detach() + 1.0 for p in net.parameters()}


def test_same_weights_and_same_masks_give_the_same_gradient():
    net, work = model(), Work()
    replay = Replay(closure_for(net), net.parameters(), work, again=True)
    again = replay.gradients({p: p.detach().clone() for p in net.parameters()})
    assert all(torch.equal(again[p], p.grad) for p in net.parameters())
    moved = replay.gradients(elsewhere(net))
    assert not any(torch.equal(moved[p], p.grad) for p in net.parameters())
    assert work.gradients == 3


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_undone_even_when_the_closure_raises(fails):
    net = model()
    replay = Replay(closure_for(net, fail_at=2 if fails else 0), net.parameters(), Work(), again=True)
    weights = [p.clone() for p in net.parameters()]
    grads = [p.grad for p in net.parameters()]
    values = [g.clone() for g in grads]
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            replay.gradients(elsewhere(net))
    else:
        replay.gradients(elsewhere(net))
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))
    assert all(p.grad is g and torch.equal(g, v) for p, g, v in zip(net.parameters(), grads, values, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_parameter_that_is_not_used_there_has_a_zero_gradient():
    switch, w = torch.ones(1, requires_grad=True), torch.ones(3, requires_grad=True)

    def closure() -> torch.Tensor:
        switch.grad = w.grad = None
        loss = switch.square().sum() + (w.sum() if float(switch.detach()) > 0 else 0.0)
        loss.backward()
        return loss

    replay = Replay(closure, [switch, w], Work(), again=True)
    found = replay.gradients({switch: torch.tensor([-2.0])})
    assert torch.equal(found[w], torch.zeros(3))
    assert float(found[switch]) == -4.0
    assert torch.equal(w.grad, torch.ones(3))


def test_a_failed_second_evaluation_leaves_weights_and_state_as_they_were():
    net = model()
    optimizer = MARS(net.parameters(), lr=0.01, is_approx=False)
    optimizer.step(closure_for(net, 0))
    before = copy.deepcopy(optimizer.state_dict()["state"])
    weights = [p.clone() for p in net.parameters()]
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure_for(net, 1, fail_at=2))
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(after[i][k], v) for i, values in before.items() for k, v in values.items())


def test_without_a_closure_it_refuses_before_anything_moves():
    net = model()
    optimizer = MARS(net.parameters(), lr=0.01, is_approx=False)
    closure_for(net)()
    weights = [p.clone() for p in net.parameters()]
    with pytest.raises(IncompatibleError, match=r"step\(closure\)"):
        optimizer.step()
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))


@pytest.mark.parametrize("name", ["mars-adamw", "mars-lion", "mars-shampoo", "mars-m"])
def test_exact_methods_resume_bit_for_bit_in_the_memory_that_was_declared(name):
    def make() -> tuple[nn.Module, Optimizer]:
        net = model()
        return net, Optimizer(net.named_parameters(), find(name).build(exact=True), lr=0.01)

    def train(net: nn.Module, optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            optimizer.step(closure_for(net, step))

    net, optimizer = make()
    train(net, optimizer, range(4))
    assert optimizer.state_bytes() == estimate_memory(net, find(name).build(exact=True))
    again, resumed = make()
    again.load_state_dict(net.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, range(4, 8))
    train(again, resumed, range(4, 8))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    assert optimizer.work.gradients == 2 * 8 - 1


def test_a_bad_gradient_there_leaves_the_gradient_uncorrected():
    w = torch.ones(2, 2, requires_grad=True)
    plain = torch.ones(2, 2, requires_grad=True)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        w.grad = torch.full((2, 2), torch.inf if calls == 3 else 1.0)  # the first step makes one call, each other two
        return w.sum()

    ours, theirs = MARS([w], is_approx=False, gamma=0.5), MARS([plain], gamma=0.0)
    for _ in range(3):
        ours.step(closure)
        plain.grad = torch.ones(2, 2)
        theirs.step()
    assert torch.equal(w, plain)
