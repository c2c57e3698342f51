"""State that rests in few bits: checkpoints, missing gradients, and nothing rounded twice without need."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from torch import nn

import precond.optim
from precond.core import BadInputError, Full, Method, Storage, named_tensors
from precond.optim import SOAP, LeanSOAP, Optimizer, estimate_memory, layout
from precond.problems.gpt import GPT
from precond.recipes.first_order import adamw
from precond.recipes.low_bit import shampoo_4bit
from precond.recipes.matrix import lean_soap, shampoo, soap
from precond.recipes.states import STATES
from precond.storage.blockwise import Blockwise
from precond.storage.packed import Packed
from tests.laws.discover import instances, name

SHAPES = [(6, 4), (6, 4), (4,), (3, 2, 2), (6, 4), (), (7, 9)]
METHODS = {
    "adamw": adamw(),
    "soap": soap(every=3),
    "lean-soap": lean_soap(block=4, every=3),
    "shampoo": shampoo(every=2, beta=0.9),
    "shampoo-4bit": shampoo_4bit(observe_every=2, every=3),
}
FOUR = Blockwise(4, block=8, least=0, rectify=1)


def make(method: Method, shapes: list[tuple[int, ...]] = SHAPES) -> tuple[list[nn.Parameter], Optimizer]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    return params, Optimizer(params, method, lr=1e-2)


def run(params: list[nn.Parameter], optimizer: Optimizer, steps: range, *, gaps: bool = True) -> None:
    for k in steps:
        generator = torch.Generator().manual_seed(k)
        for i, param in enumerate(params):
            gradient = torch.randn(param.shape, generator=generator)
            param.grad = None if gaps and (7 * k + 3 * i) % 5 == 0 else gradient
        optimizer.step()


def snapshot(optimizer: Optimizer, param: nn.Parameter) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in optimizer.state[param].items()}


@pytest.mark.parametrize("storage", instances(Storage), ids=name)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_resumed_run_is_the_same_run(method: Method, storage: Storage) -> None:
    method = dataclasses.replace(method, storage=storage)
    params, optimizer = make(method)
    run(params, optimizer, range(5))
    buffer = io.BytesIO()
    torch.save((optimizer.state_dict(), [param.detach() for param in params]), buffer)
    torch.manual_seed(1)
    run(params, optimizer, range(5, 11))

    others, resumed = make(method)
    buffer.seek(0)
    state, weights = torch.load(buffer, weights_only=True)
    with torch.no_grad():
        for param, weight in zip(others, weights, strict=True):
            param.copy_(weight)
    resumed.load_state_dict(state)
    torch.manual_seed(1)
    run(others, resumed, range(5, 11))
    for param, other in zip(params, others, strict=True):
        assert torch.equal(param, other)
        assert bool(param.isfinite().all())
    if method.storage.encodes:
        assert optimizer.state_bytes() == estimate_memory([("", param) for param in params], method)


def test_what_is_not_written_to_is_not_encoded_again() -> None:
    """Bases turn at refreshes alone; between two their codes stay, though rectified vectors would round elsewhere."""
    params, optimizer = make(dataclasses.replace(soap(every=4, stagger=False), storage=FOUR), [(32, 32), (32, 32)])
    run(params, optimizer, range(6), gaps=False)
    before = snapshot(optimizer, params[0])
    key = "preconditioner.basis.bases.0.columns.codes"
    assert key in before
    run(params, optimizer, range(6, 8), gaps=False)
    kept = snapshot(optimizer, params[0])
    assert torch.equal(before[key], kept[key])
    assert not torch.equal(before["momentum.average.codes"], kept["momentum.average.codes"])
    run(params, optimizer, range(8, 9), gaps=False)
    assert not torch.equal(before[key], snapshot(optimizer, params[0])[key])


def test_a_refresh_of_some_members_leaves_the_codes_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "TOGETHER", 0.0)
    params, optimizer = make(dataclasses.replace(soap(every=2), storage=FOUR), [(8, 8), (8, 8)])
    run(params, optimizer, range(4), gaps=False)
    key = "preconditioner.basis.bases.1.columns.codes"
    changed = []
    for step in range(4, 8):
        before = [snapshot(optimizer, param)[key] for param in params]
        run(params, optimizer, range(step, step + 1), gaps=False)
        after = [snapshot(optimizer, param)[key] for param in params]
        changed.append([not torch.equal(old, new) for old, new in zip(before, after, strict=True)])
    assert sorted(map(sum, changed)) == [1, 1, 1, 1], "each step refreshes one of the two"
    assert changed[0] != changed[1]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_parameter_without_a_gradient_keeps_its_codes(method: Method) -> None:
    params, optimizer = make(dataclasses.replace(method, storage=FOUR), [(8, 8), (8, 8)])
    run(params, optimizer, range(3), gaps=False)
    before = [snapshot(optimizer, param) for param in params]
    params[0].grad, params[1].grad = None, torch.randn(8, 8)
    optimizer.step()
    after = [snapshot(optimizer, param) for param in params]
    states = [{key: value for key, value in state.items() if key not in ("clock",)} for state in (before[0], after[0])]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(before[1][key], after[1][key]) for key in before[1])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_packing_without_rounding_changes_nothing(method: Method) -> None:
    found = []
    for storage in (Full(), Packed()):
        generator = torch.Generator().manual_seed(0)
        params = [
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
            for shape in [(6, 4), (5, 7), (40, 3)]
        ]
        optimizer = Optimizer(params, dataclasses.replace(method, storage=storage), lr=1e-2)
        for _ in range(8):
            for param in params:
                param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            optimizer.step()
        found.append([param.detach() for param in params])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("cls", "most"), [(SOAP, (12.0, 8.0, 8.0)), (LeanSOAP, (12.0, 8.0, 8.0))])
def test_bytes_of_the_documented_settings(cls: type[Optimizer], most: tuple[float, ...]) -> None:
    """On the parameters of a GPT of width 256, where full state takes 38 and 24 bytes per parameter."""
    model = GPT(256, 4, 8, 128)
    count = sum(param.numel() for param in model.parameters())
    recipe = soap if cls is SOAP else lean_soap
    for state, bound in zip(("compact", "8-bit", "4-bit"), most, strict=True):
        assert estimate_memory(model, recipe(state=state)) <= bound * count
    assert estimate_memory(model, recipe()) > 20 * count


@pytest.mark.parametrize("state", STATES)
def test_the_class_takes_the_setting(state: str) -> None:
    weight = nn.Parameter(torch.randn(96, 80))
    optimizer = SOAP([weight], lr=1e-2, state=state)
    before = weight.detach().clone()
    for _ in range(3):
        weight.grad = torch.randn(96, 80)
        optimizer.step()
    assert optimizer.state_bytes() == estimate_memory([("", weight)], soap(state=state))
    assert bool(weight.isfinite().all())
    assert not torch.equal(weight, before)
    assert any(tensor.dtype == torch.uint8 for _, tensor in named_tensors(optimizer.state[weight])) == (state != "full")


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(BadInputError, match="compact"):
        SOAP([torch.zeros(2, 2, requires_grad=True)], state="3-bit")
    with pytest.raises(BadInputError, match="4 or 8"):
        Blockwise(5)
    with pytest.raises(BadInputError, match="even"):
        Blockwise(8, block=7)


@pytest.mark.parametrize(
    "name", ["Shampoo", "ShampooSquared", "ScalableShampoo", "DistributedShampoo", "KLShampoo", "KLSOAP"]
)
def test_rounded_factors_do_not_ruin_a_run(name: str) -> None:
    """Noise of rounding is no curvature: inverse roots of what is below it are bounded."""
    ends, sizes = {}, {}
    for state in ("full", "compact", "4-bit"):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(64, 80), torch.nn.Tanh(), torch.nn.Linear(80, 64))
        optimizer = getattr(precond.optim, name)(net.parameters(), lr=1e-2, state=state)
        x = torch.randn(32, 64)
        for _ in range(8):
            optimizer.zero_grad()
            loss = (net(x) - torch.tanh(x[:, :1])).square().mean()
            loss.backward()
            optimizer.step()
        ends[state], sizes[state] = float(loss.detach()), optimizer.state_bytes()
    assert sizes["4-bit"] <= sizes["compact"] < 0.5 * sizes["full"]
    assert max(ends.values()) < 1.15 * ends["full"]
