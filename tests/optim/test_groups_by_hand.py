"""What users do to parameters and groups behind the optimizer's back is followed, or refused with a remedy."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from precond import optim
from precond.core import BadInputError

CLASSES = [optim.AdamW, optim.SGD, optim.SOAP, optim.Muon, optim.MFAC, optim.MARS, optim.Shampoo4bit]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 4))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> list[torch.Tensor]:
    for seed in range(steps):
        optimizer.zero_grad()
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        (model(x) - x).square().mean().backward()
        optimizer.step()
    return [param.detach().clone() for param in model.parameters()]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_parameter_taken_out_of_its_group_stays_and_goes_on_when_it_is_back(cls) -> None:
    model = net()
    optimizer = cls(model.parameters(), lr=1e-2)
    train(model, optimizer)
    taken = optimizer.param_groups[0]["params"].pop(2)
    before = taken.detach().clone()
    train(model, optimizer)
    assert torch.equal(taken, before)
    optimizer.add_param_group({"params": [taken]})
    train(model, optimizer)
    assert not torch.equal(taken, before)


def test_a_parameter_moved_to_another_group_has_its_learning_rate() -> None:
    model = net()
    first, *others = model.parameters()
    optimizer = optim.SOAP([{"params": [first]}, {"params": others, "lr": 0.0}], lr=1e-2)
    train(model, optimizer)
    optimizer.param_groups[1]["params"].append(optimizer.param_groups[0]["params"].pop())
    before = first.detach().clone()
    train(model, optimizer)
    assert torch.equal(first, before)


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_may_be_taken_out_but_not_put_in_by_hand(cls) -> None:
    model = net()
    optimizer = cls([{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[1:].parameters()}], lr=1e-3)
    train(model, optimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    gone = optimizer.param_groups.pop(0)
    before = [param.detach().clone() for param in model.parameters()]
    for one, other in zip(before, train(model, optimizer), strict=True):
        assert torch.equal(one, other) == any(torch.equal(one, param) for param in gone["params"])
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    after = train(model, optimizer)
    for pair in copies:
        assert all(map(torch.equal, train(*pair), after))
    optimizer.param_groups.append(gone)
    train(model, optimizer)
    optimizer.param_groups.append({"params": [nn.Parameter(torch.ones(3))], "lr": 0.1, "weight_decay": 0.0})
    with pytest.raises(BadInputError, match="add_param_group"):
        optimizer.step()


def test_gradients_that_do_not_fit_are_refused_before_anything_moves() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4), nn.Embedding(3, 4, sparse=True))
    optimizer = optim.AdamW(model.parameters(), weight_decay=0.0)
    before = [param.detach().clone() for param in model.parameters()]
    model[0](torch.ones(1, 4)).sum().backward()
    (model[1](torch.ones(1, 5)).sum() + model[2](torch.tensor([1])).sum()).backward()
    with pytest.raises(BadInputError, match="sparse=False"):
        optimizer.step()
    model[2].weight.grad = torch.ones(3, 4)
    model[2].weight.data = torch.ones(4000, 4)  # after the gradient
    with pytest.raises(BadInputError, match="zero_grad"):
        optimizer.step()
    assert all(map(torch.equal, list(model.parameters())[:4], before))


def test_a_model_that_is_still_on_the_meta_device_is_named() -> None:
    with torch.device("meta"):
        model = net()
    optimizer = optim.SOAP(model.parameters())
    model.to_empty(device="cpu")  # which leaves the optimizer with what was there before
    with pytest.raises(BadInputError, match="meta device"):
        optimizer.step()


@pytest.mark.parametrize("state", ["full", "compact", "4-bit"])
def test_a_step_in_inference_mode_is_a_step(state) -> None:
    ends = []
    for mode in (False, True):
        model = net()
        optimizer = optim.SOAP(model.parameters(), state=state)
        for seed in range(4):
            optimizer.zero_grad()
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
            (model(x) - x).square().mean().backward()
            with torch.inference_mode(mode and seed < 2):
                optimizer.step()
        ends.append([param.detach() for param in model.parameters()])
    assert all(map(torch.equal, *ends))
