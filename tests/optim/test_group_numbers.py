"""Numbers that a parameter group may have of its own, that schedulers cycle, and states that do not fit."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from precond import optim
from precond.core import BadInputError

DROPINS = [
    name for name in optim.__all__
    if isinstance(cls := getattr(optim, name), type) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
]  # fmt: skip


def _follow(optimizer: torch.optim.Optimizer, net: nn.Module, steps: int, schedule: Any = None) -> list[Tensor]:
    for step in range(steps):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return [param.detach().clone() for param in net.parameters()]


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def test_a_schedule_that_cycles_the_momentum_is_followed() -> None:
    """As torch's AdamW follows it, whose bias correction takes the momentum of the step."""
    ends = []
    for make in (optim.AdamW, torch.optim.AdamW):
        net = _net()
        optimizer = make(net.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=20)
        ends.append(_follow(optimizer, net, 18, schedule))
        assert optimizer.param_groups[0]["betas"][0] != 0.9
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DROPINS)
def test_momentum_can_be_cycled_and_differ_between_groups(name: str) -> None:
    """States go on; a group's own number is that of the constructor, bit for bit."""
    make = getattr(optim, name)
    net = _net()
    optimizer = make(net.parameters(), lr=1e-3)
    key = "betas" if "betas" in optimizer.defaults else "momentum"
    closure = (lambda: torch.zeros(())) if optimizer.replays else None
    if closure is None:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=9)
        values = set()
        for _ in range(8):
            _follow(optimizer, net, 1, schedule)
            values.add(str(optimizer.param_groups[0][key]))
        assert len(values) > 3
        assert all(bool(param.isfinite().all()) for param in net.parameters())
    given = (0.8, *optimizer.defaults[key][1:]) if key == "betas" else 0.8
    one, two = _net(), _net()
    if closure is None:
        ends = _follow(make([{"params": list(one.parameters()), key: given}], lr=1e-3), one, 4)
        if key in inspect.signature(make).parameters:
            expected = _follow(make(two.parameters(), lr=1e-3, **{key: given}), two, 4)
            assert all(torch.equal(a, b) for a, b in zip(ends, expected, strict=True))
    bad = (2.0, *given[1:]) if key == "betas" else "much"
    with pytest.raises(BadInputError, match=key):
        make([{"params": list(one.parameters()), key: bad}], lr=1e-3)


def test_a_decay_of_one_which_sums_is_taken_where_the_method_has_one() -> None:
    net = _net()
    group = {"params": list(net.parameters()), "betas": (0.9, 1.0)}
    with pytest.raises(BadInputError, match="betas"):
        optim.AdamW([dict(group)])
    optimizer = optim.DistributedShampoo([dict(group)])
    optimizer.param_groups[0]["betas"] = (0.8, 1.0)
    assert all(bool(param.isfinite().all()) for param in _follow(optimizer, net, 2))
    with pytest.raises(BadInputError, match="betas"):
        optim.DistributedShampoo([{**group, "betas": (0.9, 1.5)}])


@pytest.mark.parametrize("name", ["SOAP", "LANTON"])
def test_a_number_that_changes_is_followed_by_every_form_of_the_method(name: str) -> None:
    """By what is treated entry by entry, too, and by methods whose parameters agree on one number."""
    ends = []
    for after in ("as it was", "changed"):
        net = _net()
        optimizer = getattr(optim, name)(optim.groups_for(net, verbose=False), lr=1e-2)
        middle = _follow(optimizer, net, 2)
        if after == "changed":
            for group in optimizer.param_groups:
                key = "betas" if "betas" in group else "momentum"
                group[key] = (0.3, 0.4) if key == "betas" else 0.3
        ends.append(_follow(optimizer, net, 3))
        assert not any(torch.equal(a, b) for a, b in zip(middle, ends[-1], strict=True))
    same = [torch.equal(a, b) for a, b in zip(*ends, strict=True)]
    assert not any(same) if name == "SOAP" else not all(same)  # signs of averages may agree


def test_states_of_others_are_refused_or_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A state of other shapes cannot be loaded; one that lacks what the method keeps says so."""
    wide, tall = nn.Linear(4, 5), nn.Linear(5, 4)
    saved, other = optim.SOAP(wide.parameters()), optim.SOAP(tall.parameters())
    wide(torch.ones(2, 4)).sum().backward()
    saved.step()
    with pytest.raises(BadInputError, match="was saved with shape"):
        other.load_state_dict(saved.state_dict())
    theirs = torch.optim.AdamW(wide.parameters())
    theirs.step()
    ours = optim.SOAP(wide.parameters())
    with caplog.at_level("WARNING"):
        ours.load_state_dict(theirs.state_dict())
    assert "lacks" in caplog.text
    assert "second_moment" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        optim.SOAP(wide.parameters()).load_state_dict(saved.state_dict())
    assert not caplog.text


@pytest.mark.parametrize(
    ("theirs", "ours", "what"),
    [("SGD", "AdamW", "lacks 'betas', lacks 'eps'"), ("AdamW", "SGD", "lacks 'momentum'"), ("Lion", "AdamW", "'eps'")],
)
def test_options_of_another_optimizer_are_refused_before_anything_changes(theirs: str, ours: str, what: str) -> None:
    net = _net()
    saved = getattr(optim, theirs)(net.parameters(), lr=0.5)
    _follow(saved, net, 1)
    optimizer = getattr(optim, ours)(net.parameters(), lr=1e-3)
    before = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    with pytest.raises(BadInputError, match=what):
        optimizer.load_state_dict(saved.state_dict())
    assert {key: value for key, value in optimizer.param_groups[0].items() if key != "params"} == before
    remedy = {"state": saved.state_dict()["state"], "param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(remedy)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert all(bool(param.isfinite().all()) for param in _follow(optimizer, net, 2))


def test_options_of_a_checkpoint_that_would_not_be_followed_are_refused() -> None:
    """Torch's switches, arguments that no group has, and what tensors are; the user's own keys stay."""
    net = _net()
    optimizer = optim.SOAP(optim.groups_for(net, verbose=False))
    saved = optimizer.state_dict()
    group = saved["param_groups"][0]
    for lost in ({"maximize": True}, {"precondition_frequency": 3}, {"role": "embedding"}, {"stack": (1, 2)}):
        changed = {**saved, "param_groups": [group | lost, *saved["param_groups"][1:]]}
        with pytest.raises(BadInputError, match=next(iter(lost))):
            optimizer.load_state_dict(changed)
    own = {"initial_lr": 0.1, "maximize": False, "foreach": None, "stack": list(group.get("stack", ()))}
    optimizer.load_state_dict({**saved, "param_groups": [group | own, *saved["param_groups"][1:]]})
    assert optimizer.param_groups[0]["initial_lr"] == 0.1


@pytest.mark.parametrize("name", DROPINS)
def test_keys_that_would_be_ignored_are_refused(name: str) -> None:
    """Arguments that a group cannot have of its own, and torch's switches; the user's own keys stay."""
    make, params = getattr(optim, name), list(_net().parameters())
    read = {"params", *make(params).defaults}
    lost = [key for key in inspect.signature(make).parameters if key not in read]
    for key in [*lost, "maximize", "amsgrad"]:
        if key not in read:
            with pytest.raises(BadInputError, match=key):
                make([{"params": params, key: True}])
    optimizer = make([{"params": params, "lr_scale": 0.5, "maximize": False}])
    assert optimizer.param_groups[0]["lr_scale"] == 0.5
