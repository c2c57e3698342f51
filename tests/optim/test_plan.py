"""State that is laid out at construction: it serves where its guess comes true, and is dropped where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from precond import optim
from precond.core import named_tensors

Change = Callable[[list[nn.Parameter], torch.optim.Optimizer], None]


def _parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((6, 4), (6, 4), (5,), (3, 7))]


def _freeze(params: list[nn.Parameter], _: torch.optim.Optimizer) -> None:
    params[1].requires_grad_(False)


def _widen(params: list[nn.Parameter], _: torch.optim.Optimizer) -> None:
    for param in params:
        param.data = param.data.double()


def _reshape(params: list[nn.Parameter], _: torch.optim.Optimizer) -> None:
    params[3].data = params[3].data.reshape(7, 3)


def _other_momentum(_: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["betas"] = (0.5, 0.9)


def _another_group(params: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    params.append(nn.Parameter(torch.ones(2, 3)))
    optimizer.add_param_group({"params": [params[-1]]})


def _nothing(_: list[nn.Parameter], __: torch.optim.Optimizer) -> None:
    return


def _run(change: Change, without: int | None, *, planned: bool) -> tuple[list[Tensor], optim.Optimizer]:
    params = _parameters()
    optimizer = optim.SOAP(params, lr=1e-2, precondition_frequency=2)
    assert optimizer._plan is not None
    assert not optimizer.state
    if not planned:
        optimizer._plan = None
    change(params, optimizer)
    torch.manual_seed(1)
    for _ in range(5):
        for position, param in enumerate(params):
            gradient = torch.randn_like(param)
            param.grad = gradient if param.requires_grad and position != without else None
        optimizer.step()
    return [param.detach() for param in params], optimizer


@pytest.mark.parametrize(
    ("change", "without", "serves"),
    [
        (_nothing, None, True),
        (_other_momentum, None, True),
        (_nothing, 1, False),
        (_freeze, None, False),
        (_widen, None, False),
        (_reshape, None, False),
        (_another_group, None, False),
    ],
)
def test_a_planned_run_is_the_run_without_a_plan(change: Change, without: int | None, serves: bool) -> None:
    params = _parameters()
    optimizer = optim.SOAP(params, lr=1e-2)
    change(params, optimizer)
    for position, param in enumerate(params):
        param.grad = torch.zeros_like(param) if param.requires_grad and position != without else None
    assert (optimizer._planned() is not None) == serves

    ours, one = _run(change, without, planned=True)
    theirs, other = _run(change, without, planned=False)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert one.state_bytes() == other.state_bytes()
    assert [len(state) for state in one.state.values()] == [len(state) for state in other.state.values()]


def test_the_first_step_takes_the_tensors_of_the_plan() -> None:
    params = _parameters()
    optimizer = optim.AdamW(params, lr=1e-2)
    assert optimizer._plan is not None
    made = {id(tensor) for slab in optimizer._plan._layout.slabs for _, tensor in named_tensors(slab.state)}
    for param in params:
        param.grad = torch.randn_like(param)
    optimizer.step()
    assert {id(tensor) for slab in optimizer._slabs for _, tensor in named_tensors(slab.state)} == made


def test_a_state_that_is_loaded_takes_the_place_of_the_plan() -> None:
    params = _parameters()
    optimizer = optim.MFAC(params, lr=1e-2, ngrads=4)
    for param in params:
        param.grad = torch.randn_like(param)
    optimizer.step()
    again = optim.MFAC(_parameters(), lr=1e-2, ngrads=4)
    again.load_state_dict(optimizer.state_dict())
    assert again._plan is None
    for theirs, ours in zip(optimizer.state.values(), again.state.values(), strict=True):
        assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


def test_lazy_and_meta_parameters_are_not_planned_for() -> None:
    assert optim.AdamW([nn.Parameter(torch.empty(3, device="meta"))])._plan is None
    assert optim.AdamW([nn.Parameter(torch.empty(3))])._plan is not None


def test_no_state_is_made_where_it_could_not_be_written_to_later() -> None:
    param = nn.Parameter(torch.ones(3))
    with torch.inference_mode():
        optimizer = optim.AdamW([param])
    with torch.device("meta"):
        optim.AdamW([param])
    param.grad = torch.ones(3)
    optimizer.step()
    assert bool((param < 1.0).all())
