"""Every drop-in class goes on bit for bit from a saved state, also when gradients go missing on the way."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from precond import optim
from precond.core import BadInputError

SHAPES = [(6, 4), (6, 4), (4,), (3, 2, 2), (6, 4), ()]
PUBLIC = {name: getattr(optim, name) for name in optim.__all__}
CLASSES = sorted(
    name
    for name, thing in PUBLIC.items()
    if isinstance(thing, type) and issubclass(thing, optim.Optimizer) and thing is not optim.Optimizer
)


def make(name: str) -> tuple[list[nn.Parameter], optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    return params, getattr(optim, name)(params, lr=1e-2)


def run(params: list[nn.Parameter], optimizer: optim.Optimizer, steps: range) -> None:
    for k in steps:

        def closure(k: int = k) -> Tensor:
            generator = torch.Generator().manual_seed(k)
            for i, param in enumerate(params):
                gradient = torch.randn(param.shape, generator=generator) + 0.1 * param.detach()
                param.grad = None if (7 * k + 3 * i) % 5 == 0 else gradient
            return torch.zeros(())

        optimizer.step(closure)


@pytest.mark.parametrize("name", CLASSES)
def test_a_resumed_run_is_the_same_run(name: str) -> None:
    params, optimizer = make(name)
    run(params, optimizer, range(9))
    buffer = io.BytesIO()
    torch.save((optimizer.state_dict(), [param.detach() for param in params]), buffer)
    run(params, optimizer, range(9, 23))

    others, resumed = make(name)
    buffer.seek(0)
    state, weights = torch.load(buffer, weights_only=True)
    with torch.no_grad():
        for param, weight in zip(others, weights, strict=True):
            param.copy_(weight)
    resumed.load_state_dict(state)
    run(others, resumed, range(9, 23))
    for param, other in zip(params, others, strict=True):
        assert torch.equal(param, other)
        assert bool(param.isfinite().all())


def _tied(*, head_first: bool) -> tuple[dict[str, nn.Parameter], optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    drawn = {n: nn.Parameter(torch.randn(3, 3, generator=generator)) for n in ("wte", "a", "b")}
    named = {"head": drawn["wte"], "b": drawn["b"], "a": drawn["a"]} if head_first else drawn
    return drawn, optim.AdamW(named.items(), lr=1e-2)


def test_a_tied_weight_is_known_by_either_of_its_names_wherever_the_others_stand() -> None:
    """A model that lists its parameters in another order gives a tied weight the name of the other layer."""

    def step(params: dict[str, nn.Parameter], optimizer: optim.Optimizer, k: int) -> None:
        for i, name in enumerate(sorted(params)):
            params[name].grad = torch.full((3, 3), float(k + i))
        optimizer.step()

    params, optimizer = _tied(head_first=False)
    others, resumed = _tied(head_first=True)
    step(params, optimizer, 1)
    resumed.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        for name, param in params.items():
            others[name].copy_(param)
    for k in range(2, 5):
        step(params, optimizer, k)
        step(others, resumed, k)
    assert all(torch.equal(others[name], param) for name, param in params.items())


@pytest.mark.parametrize("cls", ["SOAP", "Shampoo", "KLShampoo", "Muon"])
def test_a_run_goes_on_bit_for_bit_in_a_model_of_another_order(cls: str) -> None:
    """When a tensor is refreshed depends on the order in which the run began; how a batch is rounded, on names."""

    def made(names: str) -> tuple[dict[str, nn.Parameter], optim.Optimizer]:
        params = {name: nn.Parameter(torch.full([(6, 4), (5, 5), (7, 3)][ord(name) % 3], 0.1)) for name in names}
        return params, getattr(optim, cls)(params.items(), lr=1e-2)

    def step(params: dict[str, nn.Parameter], optimizer: optim.Optimizer, k: int) -> None:
        for name, param in params.items():
            param.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(100 * k + ord(name)))
        optimizer.step()

    params, optimizer = made("abcdefgh")
    others, resumed = made("hedgbacf")
    for k in range(3):
        step(params, optimizer, k)
    resumed.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        for name, param in params.items():
            others[name].copy_(param)
    for k in range(3, 24):
        step(params, optimizer, k)
        step(others, resumed, k)
    assert all(torch.equal(others[name], param) for name, param in params.items())


def test_there_are_classes() -> None:
    assert len(CLASSES) >= 15


def _resized(name: str, rows: int, *, told: bool) -> tuple[list[nn.Parameter], optim.Optimizer]:
    """Give a parameter other rows in the middle of a run, as a vocabulary that grows does."""
    params, optimizer = make(name)
    run(params, optimizer, range(3))
    params[0].data = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    params[0].grad = None
    if told:
        del optimizer.state[params[0]]
    run(params, optimizer, range(3, 9))
    return params, optimizer


@pytest.mark.parametrize("rows", [3, 11])
@pytest.mark.parametrize("name", CLASSES)
def test_a_parameter_of_another_shape_starts_anew_or_is_refused(name: str, rows: int) -> None:
    """Without a check torch's kernels would read and write past the end of its state."""
    params, _ = _resized(name, rows, told=True)
    assert all(bool(param.isfinite().all()) for param in params)
    before, optimizer = make(name)
    run(before, optimizer, range(3))
    kept = any(value.dim() for value in optimizer.state[before[0]].values())
    if kept:
        with pytest.raises(BadInputError, match="cannot follow"):
            _resized(name, rows, told=False)
    else:
        _resized(name, rows, told=False)
