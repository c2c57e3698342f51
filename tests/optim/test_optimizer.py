"""The torch driver: layout, schedule, survival and saving, on toy parts with exact arithmetic."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging

import pytest
import torch
from torch import Tensor, nn

import precond
from precond import optim
from precond.core import (
    BadInputError,
    Cadence,
    IncompatibleError,
    Method,
    Route,
    Selector,
    UnknownNameError,
    named_tensors,
)
from precond.optim import layout
from precond.optim.memory import estimate_memory
from precond.optim.optimizer import Optimizer
from precond.optim.stagger import phases, refresh_cost
from precond.recipes.matrix import lean_soap, shampoo, soap
from tests.optim.toys import ByLength, Count, Difference, NeedsLoss, NeedsOperator, Sum

PLAIN = Method(preconditioner=Count())
SUMMING = Method(preconditioner=Count(), momentum=Sum())


def params(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


def give(parameters: list[nn.Parameter], *values: float | None) -> None:
    for param, value in zip(parameters, values, strict=True):
        param.grad = None if value is None else torch.full_like(param, value)


def counts(optimizer: Optimizer, param: nn.Parameter) -> dict[str, int]:
    return {name: int(t) for name, t in optimizer.state[param].items() if t.ndim == 0}


def test_equal_shapes_share_a_slab_and_unequal_ones_do_not() -> None:
    ps = params((2, 3), (2, 3), (3, 2), ())
    optimizer = Optimizer(ps, SUMMING, lr=1.0)
    give(ps, 1.0, 2.0, 3.0, 4.0)
    optimizer.step()
    optimizer.step()
    assert [p.flatten()[0].item() for p in ps] == [-3.0, -6.0, -9.0, -12.0]
    assert sorted(len(slab.params) for slab in optimizer._slabs) == [1, 1, 2]
    assert optimizer.work.applies == 8


def test_parameters_without_gradient_keep_value_and_state() -> None:
    ps = params((2,), (2,), (2,))
    optimizer = Optimizer(ps, SUMMING, lr=1.0)
    give(ps, 1.0, 1.0, None)
    optimizer.step()
    give(ps, None, 1.0, 1.0)
    optimizer.step()
    assert [p[0].item() for p in ps] == [-1.0, -3.0, -1.0]
    assert [counts(optimizer, p)["preconditioner.observed"] for p in ps] == [1, 2, 1]
    give(ps, None, None, None)
    optimizer.step()
    assert [p[0].item() for p in ps] == [-1.0, -3.0, -1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_harms_nobody_and_is_reported_once(
    bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    ps = params((2,), (2,))
    optimizer = Optimizer(ps, SUMMING, lr=1.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            give(ps, 1.0, bad)
            optimizer.step()
    assert ps[0][0].item() == -6.0
    assert ps[1][0].item() == 0.0
    assert optimizer.work.skipped == 3
    assert len(caplog.records) == 1
    assert "not finite" in caplog.text


@pytest.mark.parametrize("size", [64, 2**15])
def test_large_gradients_are_not_taken_for_infinite(size: int) -> None:
    ps = params((size,), dtype=torch.float32)
    optimizer = Optimizer(ps, PLAIN, lr=1e-17)
    give(ps, 1.5e19 / size**0.5)
    optimizer.step()
    assert optimizer.work.skipped == 0
    assert ps[0][0].item() < 0
    give(ps, 3e38)
    optimizer.step()
    assert optimizer.work.skipped == 1


@pytest.mark.parametrize("failing", ["raise", "report"])
def test_a_failed_refresh_is_survived_counted_and_reported_once(failing: str, caplog: pytest.LogCaptureFixture) -> None:
    ps = params((2, 2), (2, 2))
    optimizer = Optimizer(ps, Method(preconditioner=Count(failing)), lr=1.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            give(ps, 1.0, 1.0)
            optimizer.step()
    assert float(ps[0].flatten()[0]) == -4.0
    assert optimizer.work.refresh_failures == 8
    assert len(caplog.records) == 1
    assert "did not converge" in caplog.text


def test_cadence_refreshes_first_at_once_then_every_k_steps() -> None:
    ps = params((2, 2))
    optimizer = Optimizer(ps, Method(preconditioner=Count(), cadence=Cadence(3, stagger=False)), lr=1.0)
    seen = []
    for _ in range(7):
        give(ps, 1.0)
        optimizer.step()
        seen.append(counts(optimizer, ps[0])["preconditioner.refreshed_at"])
    assert seen == [1, 1, 3, 3, 3, 6, 6]


def test_a_cadence_may_begin_with_more_refreshes() -> None:
    cadence = Cadence(6, after=True, stagger=False, early=2)
    assert [step for step in range(1, 20) if cadence.due(step)] == [2, 4, 6, 8, 12, 18]
    spread = Cadence(6, after=True, early=2)
    assert [step for step in range(1, 20) if spread.due(step, 1)] == [1, 3, 5, 7, 11, 17]
    rare = Cadence(3, after=True, stagger=False, early=5)  # never fewer than later
    assert [step for step in range(1, 10) if rare.due(step)] == [3, 6, 9]
    with pytest.raises(BadInputError, match="early"):
        Cadence(3, early=0)


def test_staggered_refreshes_spread_over_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "TOGETHER", 0.0)
    ps = params(*[(4, 4)] * 6, *[(3, 3)] * 4)
    optimizer = Optimizer(ps, Method(preconditioner=Count(), cadence=Cadence(5)), lr=1.0)
    per_step = []
    for _ in range(11):
        before = optimizer.work.refreshes
        give(ps, *[1.0] * 10)
        optimizer.step()
        per_step.append(optimizer.work.refreshes - before)
    assert per_step[0] == 10  # nobody starts without a factor
    assert sum(per_step[1:6]) == sum(per_step[6:11]) == 10
    assert max(per_step[1:]) <= 3


def test_small_tensors_of_a_slab_are_refreshed_together() -> None:
    ps = params(*[(4, 4)] * 5, *[(3, 3)] * 3, *[(40, 40)] * 3)
    optimizer = Optimizer(ps, Method(preconditioner=Count(), cadence=Cadence(10)), lr=1.0)
    give(ps, *[1.0] * 11)
    optimizer.step()
    phases = {slab.member_shape: slab.offsets for slab in optimizer._slabs}
    assert [len(set(phases[shape])) for shape in ((4, 4), (3, 3))] == [1, 1]
    assert len(set(phases[40, 40])) == 2  # 2 * 40^3 is nearly half of what is small


def test_phases_balance_the_cost() -> None:
    costs = [8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 2.0]
    load = [0.0] * 3
    for cost, phase in zip(costs, phases(costs, 3), strict=True):
        load[phase] += cost
    assert max(load) <= 8.0
    assert sum(load) == sum(costs)


def test_axes_in_blocks_are_staggered_for_what_their_blocks_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "TOGETHER", 0.0)
    assert refresh_cost((8, 3)) == 8**3 + 3**3
    assert refresh_cost((8, 3), 4) == 2 * 4**3 + 3**3
    assert refresh_cost((7, 3), 3) == 3 * 3**3 + 3**3  # blocks of 3, 3 and 1, all as long as the longest
    for recipe in (soap, lean_soap, shampoo):
        assert recipe(factor_block=4).cadence.block == 4
    assert soap().cadence.block is None
    ps = params((6, 2), (8, 2), (8, 2))  # two axes of 8 in halves are cheaper than one of 6
    for block, together in ((None, False), (6, True)):
        optimizer = Optimizer(ps, lean_soap(factor_block=block, every=2), lr=0.1)
        give(ps, 1.0, 1.0, 1.0)
        optimizer.step()
        (pair,) = (slab for slab in optimizer._slabs if len(slab.params) == 2)
        assert (pair.offsets[0] == pair.offsets[1]) == together


def test_small_slabs_that_move_alike_move_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    add = torch._foreach_add_
    monkeypatch.setattr(torch, "_foreach_add_", lambda w, u, **k: (calls.append(len(w)), add(w, u, **k)))
    ps = params((2,), (3,), (2, 2), (3, 1), (200, 200))
    optimizer = Optimizer(ps, Method(preconditioner=Count(), step=ByLength()), lr=1.0)
    give(ps, *[1.0] * 5)
    optimizer.step()
    assert [p.flatten()[0].item() for p in ps] == [-2.0, -3.0, -2.0, -3.0, -200.0]
    assert sorted(calls) == [1, 2, 2]


def test_priming_takes_no_step_also_for_a_latecomer() -> None:
    ps = params((2, 2), (2, 2))
    method = Method(preconditioner=Count(), cadence=Cadence(2, after=True, prime=True, stagger=False))
    optimizer = Optimizer(ps, method, lr=1.0)
    give(ps, 1.0, None)
    optimizer.step()
    assert float(ps[0].abs().sum()) == 0.0
    for _ in range(3):
        give(ps, 1.0, 1.0)
        optimizer.step()
    assert [p.flatten()[0].item() for p in ps] == [-3.0, -2.0]
    assert [counts(optimizer, p)["preconditioner.primed"] for p in ps] == [1, 1]
    assert counts(optimizer, ps[0])["preconditioner.refreshes"] == 1  # after its second step


def test_previous_gradient_is_kept_and_is_this_one_at_first() -> None:
    ps = params((2,), (2,))
    optimizer = Optimizer(ps, Method(preconditioner=Count(), estimator=Difference()), lr=1.0)
    give(ps, 5.0, None)
    optimizer.step()
    assert ps[0][0].item() == 0.0
    give(ps, 7.0, 4.0)
    optimizer.step()
    assert [p[0].item() for p in ps] == [-2.0, 0.0]


def test_gradients_are_never_written() -> None:
    ps = params((2, 2), (2, 2), (3,))
    optimizer = Optimizer(ps, SUMMING, lr=1.0, weight_decay=0.1)
    give(ps, 1.0, 2.0, 3.0)
    for _ in range(3):
        optimizer.step()
    assert [float(p.grad.flatten()[0]) for p in ps] == [1.0, 2.0, 3.0]


def test_half_precision_parameters_are_worked_on_in_float32() -> None:
    ps = params((2, 2), dtype=torch.bfloat16)
    optimizer = Optimizer(ps, SUMMING, lr=0.5)
    give(ps, 1.0)
    optimizer.step()
    assert ps[0].dtype == torch.bfloat16
    assert float(ps[0].flatten()[0].detach()) == -0.5
    assert optimizer.state[ps[0]]["momentum.total"].dtype == torch.float32


def test_groups_schedulers_and_tensor_learning_rates() -> None:
    ps = params((2,), (3,))
    groups = [{"params": [ps[0]], "lr": 2.0}, {"params": [ps[1]], "method": SUMMING}]
    optimizer = Optimizer(groups, PLAIN, lr=torch.tensor(1.0))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(2):
        give(ps, 1.0, 1.0)
        optimizer.step()
        schedule.step()
    assert [p[0].item() for p in ps] == [-3.0, -2.0]  # -2-1 and -1 - (1+1)/2


def test_add_param_group_keeps_what_was_learned() -> None:
    ps = params((2,), (2,))
    optimizer = Optimizer(ps[:1], SUMMING, lr=1.0)
    give(ps, 1.0, 1.0)
    optimizer.step()
    optimizer.add_param_group({"params": [ps[1]]})
    optimizer.step()
    assert [p[0].item() for p in ps] == [-3.0, -1.0]


def test_closure_is_evaluated_with_gradients_and_returned() -> None:
    w = nn.Parameter(torch.tensor([3.0]))
    optimizer = Optimizer([w], Method(preconditioner=NeedsLoss()), lr=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 9.0
    assert float(w) == 0.0
    with pytest.raises(IncompatibleError, match="closure"):
        optimizer.step()


@dataclasses.dataclass(frozen=True)
class Named(Selector):
    part: str

    def selects(self, name: str, parameter: torch.Tensor) -> bool:
        return self.part in name


def test_route_chooses_by_name() -> None:
    ps = dict(zip(["head.weight", "body.weight"], params((2,), (2,)), strict=True))
    optimizer = Optimizer(ps.items(), Route([(Named("head"), SUMMING)], PLAIN), lr=1.0)
    for _ in range(2):
        give(list(ps.values()), 1.0, 1.0)
        optimizer.step()
    assert [p[0].item() for p in ps.values()] == [-3.0, -2.0]


def trajectory(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for k in steps:
        generator = torch.Generator().manual_seed(k)
        optimizer.zero_grad()
        model(torch.randn(5, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def make() -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    method = Method(preconditioner=Count(), momentum=Sum(), cadence=Cadence(3))
    return model, Optimizer(model.named_parameters(), method, lr=1e-2)


@pytest.mark.parametrize("weights_only", [True, False])
def test_a_run_resumed_from_state_dict_is_bitwise_the_same(weights_only: bool) -> None:
    model, optimizer = make()
    trajectory(model, optimizer, range(5))
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    trajectory(model, optimizer, range(5, 12))

    other, resumed = make()
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=weights_only)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    trajectory(other, resumed, range(5, 12))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(optimizer.state_dict()["state"].values(), resumed.state_dict()["state"].values(), strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_state_names_are_dotted_and_per_parameter() -> None:
    model, optimizer = make()
    trajectory(model, optimizer, range(1))
    state = optimizer.state_dict()["state"]
    assert len(state) == 4
    assert {"step", "clock", "momentum.total", "preconditioner.observed"} <= set(state[0])
    assert state[0]["momentum.total"].shape == (4, 4)


def test_loading_matches_by_name_in_another_order() -> None:
    model, optimizer = make()
    trajectory(model, optimizer, range(3))
    reordered = dict(reversed(list(model.named_parameters())))
    other = Optimizer(reordered.items(), SUMMING, lr=1e-2)
    other.load_state_dict(optimizer.state_dict())
    for param in model.parameters():
        assert torch.equal(other.state[param]["momentum.total"], optimizer.state[param]["momentum.total"])


def test_loading_keeps_float32_state_of_half_precision_parameters() -> None:
    ps = params((2, 2), dtype=torch.bfloat16)
    optimizer = Optimizer(ps, SUMMING, lr=1.0)
    give(ps, 1.0)
    optimizer.step()
    optimizer.state[ps[0]]["momentum.total"].fill_(1.0 + 2**-20)
    other = Optimizer(ps, SUMMING, lr=1.0)
    other.load_state_dict(optimizer.state_dict())
    assert float(other.state[ps[0]]["momentum.total"][0, 0]) == 1.0 + 2**-20


def test_copies_go_on_alone() -> None:
    model, optimizer = make()
    trajectory(model, optimizer, range(2))
    model2, optimizer2 = copy.deepcopy((model, optimizer))
    trajectory(model, optimizer, range(2, 4))
    trajectory(model2, optimizer2, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), model2.parameters(), strict=True))


def test_works_under_a_grad_scaler_and_skips_overflow() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = Optimizer([w], PLAIN, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.allclose(w.detach(), torch.full((2,), 0.9))
    w.grad = torch.full((2,), float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert torch.allclose(w.detach(), torch.full((2,), 0.9))
    assert scaler.get_scale() == 2.0


def test_a_closure_under_a_grad_scaler_gives_the_loss_and_gradients_without_the_scale() -> None:
    def trained(scaler: torch.amp.GradScaler, backward_again: bool) -> Tensor:
        w = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = optim.InducedMetric([w], embedding="log", lr=0.1)
        for k in range(4):

            def evaluate(k: int = k) -> Tensor:
                optimizer.zero_grad()
                loss = ((w - k) ** 2).sum() * (torch.inf if scaler.is_enabled() and k == 2 else 1.0)
                scaler.scale(loss).backward()
                return loss

            if scaler.is_enabled() or k != 2:
                loss = evaluate()
                scaler.step(optimizer, evaluate if backward_again else lambda loss=loss: loss)
                scaler.update()
        return w.detach()

    expected = trained(torch.amp.GradScaler("cpu", enabled=False), True)
    for backward_again in (True, False):
        torch.testing.assert_close(trained(torch.amp.GradScaler("cpu", init_scale=256.0), backward_again), expected)


def test_a_closure_does_not_scale_gradients_again_that_were_unscaled() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer, scaler = optim.InducedMetric([w], embedding="log", lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0)

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        scaler.scale(w.square().sum()).backward()
        return w.square().sum()

    loss = evaluate()
    scaler.unscale_(optimizer)
    scaler.step(optimizer, lambda: loss)
    scaler.update()
    evaluate()
    scaler.unscale_(optimizer)
    with pytest.raises(IncompatibleError, match="unscale_"):
        scaler.step(optimizer, evaluate)


def test_hooks_may_change_what_a_step_is_given() -> None:
    param = params((2,))
    optimizer = Optimizer(param, PLAIN, lr=1.0)
    losses: list[int] = []
    handle = optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: losses.append(1)), kwargs))
    optimizer.step()
    assert losses == [1]
    handle.remove()
    optimizer.step()
    assert losses == [1]


def test_a_profiler_sees_steps() -> None:
    optimizer = optim.AdamW(params((2,)))
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    names = [event.name for event in profile.events()]
    assert names.count("Optimizer.step#AdamW.step") == 1


def test_step_hooks_and_zero_grad() -> None:
    ps = params((2,))
    optimizer = Optimizer(ps, PLAIN, lr=1.0)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    give(ps, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    assert seen == ["pre", "post"]
    assert ps[0].grad is None


def test_empty_frozen_and_scalar_parameters() -> None:
    ps = params((0, 3), (), (2,))
    ps[2].requires_grad_(False)
    optimizer = Optimizer(ps, SUMMING, lr=1.0)
    ps[0].grad, ps[1].grad = torch.zeros(0, 3, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    optimizer.step()
    assert float(ps[1].detach()) == -1.0
    assert float(ps[2].sum()) == 0.0


def test_memory_estimate_is_exact_and_allocates_nothing() -> None:
    model, optimizer = make()
    estimate = estimate_memory(model, optimizer._rules[0].method)
    trajectory(model, optimizer, range(1))
    assert estimate == optimizer.state_bytes()
    assert optimizer.state_bytes() == sum(
        t.numel() * t.element_size() for slab in optimizer._slabs for _, t in named_tensors(slab.state)
    )


def test_methods_that_training_cannot_serve_are_refused_with_a_remedy() -> None:
    with pytest.raises(IncompatibleError, match=r"OPERATOR.*minimize"):
        Optimizer(params((2,)), Method(preconditioner=NeedsOperator()))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(BadInputError, match="lr"):
        Optimizer(params((2,)), PLAIN, lr=-1.0)
    with pytest.raises(BadInputError, match="weight_decay"):
        Optimizer(params((2,)), PLAIN, weight_decay=float("nan"))
    with pytest.raises(BadInputError, match="view_as_real"):
        Optimizer(params((2,), dtype=torch.complex64), PLAIN)
    with pytest.raises(BadInputError, match=r"precond\.recipes"):
        Optimizer(params((2,)), "soap")
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = Optimizer(embedding.parameters(), PLAIN, lr=1.0)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(BadInputError, match="sparse=False"):
        optimizer.step()


def test_public_names() -> None:
    assert precond.__version__
    assert precond.estimate_memory is precond.optim.estimate_memory


def test_memory_is_foreseen_by_name() -> None:
    """With the settings of the recipe, on the meta device, and with a remedy for names that train nothing."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False))
    real = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False))
    for net in (model, real):
        net[0].bias.requires_grad_(False)
    for state in ("full", "4-bit"):
        optimizer = precond.optim.SOAP(real.parameters(), state=state)
        real(torch.ones(2, 5)).sum().backward()
        optimizer.step()
        assert precond.estimate_memory(model, "soap", state=state) == optimizer.state_bytes()
    with pytest.raises(UnknownNameError, match="soap"):
        precond.estimate_memory(model, "soup")
    with pytest.raises(BadInputError, match="no colour"):
        precond.estimate_memory(model, "soap", colour=1)
    with pytest.raises(BadInputError, match="trains no network"):
        precond.estimate_memory(model, "cg")
    with pytest.raises(BadInputError, match="go with its name"):
        precond.estimate_memory(model, soap(), state="4-bit")


def test_a_model_in_place_of_its_parameters_is_named():
    with pytest.raises(BadInputError, match=r"model\.parameters\(\)"):
        optim.SOAP(nn.Linear(3, 3), lr=1e-3)
