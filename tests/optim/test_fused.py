"""Short cuts of the driver, each against the long way on the same stream of gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from precond.core import Method
from precond.filters.adan import LookAhead
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.nesterov import Nesterov
from precond.optim import convoy as convoys
from precond.optim import core as cores
from precond.optim import fused_portions as portions
from precond.optim import slab as slabs
from precond.optim import slab_state as states
from precond.optim import whole_step as wholes
from precond.optim.optimizer import Optimizer
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.observing import Observing
from precond.preconditioners.sign import Sign
from precond.recipes.first_order import adamw, adan, lion, sgd
from precond.recipes.matrix import lean_soap, soap
from precond.recipes.registry import find
from precond.steps.decay import DecoupledAfter
from precond.steps.scaled import Scaled
from tests.papers.networks import gradients, start, with_gaps

FUSED = {
    "adamw": adamw(b1=0.8, b2=0.9),
    "adamw, scaled": dataclasses.replace(adamw(), step=Scaled(0.3)),
    "adamw, eps first": dataclasses.replace(adamw(), preconditioner=Diagonal(0.9, 0.1, eps_first=True)),
    "adamw, shrunk after": dataclasses.replace(adamw(), decay=DecoupledAfter()),
    "mars": find("mars_adamw").build().method_for("weight", torch.zeros(3, 4)),
    "mars, unclipped": find("mars_adamw").build(clip=None, gamma=0.5).method_for("weight", torch.zeros(3, 4)),
    "sgd": sgd(momentum=0.9),
    "sgd, nesterov": sgd(momentum=0.9, nesterov=True),
    "sgd, plain": sgd(momentum=0.0),
    "lion": lion(),
    "lion, scaled": dataclasses.replace(lion(b1=0.8, b2=0.7), preconditioner=Sign(0.3)),
    "adan": adan(),
    "adan, other decays": adan(b1=0.5, b2=0.7, b3=0.6, eps=1e-3),
}
NOT_FUSED = {
    "dampened": sgd(dampening=0.1),
    "shrunk after": dataclasses.replace(lion(), decay=DecoupledAfter()),
    "adan, not debiased": dataclasses.replace(adan(), preconditioner=Observing(LookAhead(), Diagonal(debias=False))),
    "adan, other lens": dataclasses.replace(adan(), preconditioner=Observing(Nesterov(), Diagonal())),
    "smoothed": dataclasses.replace(adamw(), smoothing=EMA()),
    "estimated": dataclasses.replace(adamw(), estimator=EMA()),
    "mars, from zero": find("mars_adamw").build(from_zero=True).method_for("weight", torch.zeros(3, 4)),
    "adagrad": dataclasses.replace(adamw(), preconditioner=Diagonal(beta=1.0)),
    "not debiased": dataclasses.replace(adamw(), momentum=EMA(debias=False)),
}


def trained(method: Method, stream, params, lr=0.05, groups=None) -> tuple[Optimizer, list[torch.Tensor], list[dict]]:
    optimizer = Optimizer(groups or params, method, lr=lr, weight_decay=0.1)
    for given in stream:
        for param, gradient in zip(params, given, strict=True):
            param.grad = None if gradient is None else torch.as_tensor(gradient).to(param.dtype)
        optimizer.step()
    return optimizer, [p.detach() for p in params], [optimizer.state[p] for p in params]


def alike(first, second) -> bool:
    """Whether two runs of `trained` counted the same work, and agree in parameters and states to rounding."""
    pairs = [*zip(first[1], second[1], strict=True)]
    for ours, theirs in zip(first[2], second[2], strict=True):
        assert ours.keys() == theirs.keys()
        pairs += [(ours[name], theirs[name]) for name in ours]
    close = all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in pairs)
    return close and first[0].work.counts() == second[0].work.counts()


def as_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let methods run as they are written."""
    monkeypatch.setattr(slabs, "fused_step", lambda method, dims: None)
    monkeypatch.setattr(cores, "adam_within", lambda method, turned: None)


@pytest.mark.parametrize("method", FUSED.values(), ids=FUSED.keys())
def test_a_fused_step_equals_the_parts(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = with_gaps(gradients(12))
    stream[5][0] = stream[5][0] * float("nan")  # a bad gradient stops nobody else
    fused = trained(method, stream, start())
    assert all(slab.fused is not None for slab in fused[0]._slabs)
    as_parts(monkeypatch)
    parts = trained(method, stream, start())
    assert all(slab.fused is None for slab in parts[0]._slabs)
    assert alike(fused, parts)


WITHIN = {
    "estimated": dataclasses.replace(adamw(b1=0.8, b2=0.9), estimator=EMA()),
    "smoothed": dataclasses.replace(adamw(b1=0.8, b2=0.9), smoothing=EMA()),
}


@pytest.mark.parametrize("method", WITHIN.values(), ids=WITHIN.keys())
def test_adam_as_one_kernel_within_a_step_equals_the_parts(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = with_gaps(gradients(12))
    stream[5][0] = stream[5][0] * float("nan")
    kernel = trained(method, stream, start())
    as_parts(monkeypatch)
    assert alike(kernel, trained(method, stream, start()))


VECTORS = [(5,), (3,), (5,), ()]


@pytest.mark.parametrize("recipe", [soap, lean_soap], ids=["soap", "lean_soap"])
def test_vectors_that_no_basis_turns_move_as_adam_does(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = with_gaps(gradients(12, VECTORS))
    stream[5][0] = stream[5][0] * float("nan")
    method = recipe(every=3)
    basis = dataclasses.replace(method.preconditioner.basis, vectors=True)
    turning = dataclasses.replace(method, preconditioner=dataclasses.replace(method.preconditioner, basis=basis))
    assert all(slab.fused is None for slab in trained(turning, stream, start(VECTORS))[0]._slabs)
    fused = trained(method, stream, start(VECTORS))
    assert all(slab.fused is not None for slab in fused[0]._slabs)
    assert len(fused[0]._layout.convoys) == 1
    as_parts(monkeypatch)
    parts = trained(method, stream, start(VECTORS))
    fused[0].work.refreshes = parts[0].work.refreshes  # of nothing, where the parts run
    assert alike(fused, parts)


@pytest.mark.parametrize("name", ["adamw", "sgd, nesterov", "lion", "adan"])
def test_long_tensors_take_all_passes_portion_by_portion(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = with_gaps(gradients(12))
    stream[5][0] = stream[5][0] * float("inf")
    monkeypatch.setattr(portions, "SMALL", 2)
    monkeypatch.setattr(portions, "_TOGETHER", 2)
    monkeypatch.setattr(portions, "_PORTION", 5)
    monkeypatch.setattr(convoys, "_STAYS", 2)
    fused = trained(FUSED[name], stream, start())
    as_parts(monkeypatch)
    assert alike(fused, trained(FUSED[name], stream, start()))


def test_several_tensors_that_caches_hold_take_each_pass_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "SMALL", 2)
    calls, sign = [], torch._foreach_sign_
    monkeypatch.setattr(torch, "_foreach_sign_", lambda tensors: (calls.append(len(tensors)), sign(tensors)))
    for together in (2**17, 2):
        calls.clear()
        monkeypatch.setattr(portions, "_TOGETHER", together)
        monkeypatch.setattr(convoys, "_takes_flat", lambda slab: False)
        trained(lion(), [[torch.ones(3, 4), torch.ones(2, 5)]], start([(3, 4), (2, 5)]))
        assert calls == ([2] if together > 2 else [1, 1])


@pytest.mark.parametrize("small", [2**14, 2])
@pytest.mark.parametrize("name", ["adamw", "lion", "adan"])
def test_large_gradients_are_not_taken_for_bad_ones(name: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as long as their squares can be added up; no average of squares would forget the others."""
    monkeypatch.setattr(portions, "SMALL", small)
    monkeypatch.setattr(portions, "_TOGETHER", small)
    monkeypatch.setattr(wholes, "_COPIED", small)
    stream = [
        [torch.full((3, 4), 5e18), torch.full((3, 4), 3e38)],
        [torch.full((3, 4), float("nan")), torch.ones(3, 4)],
    ]
    optimizer, params, _ = trained(FUSED[name], stream, start([(3, 4), (3, 4)], dtype=torch.float32), lr=1e-3)
    assert optimizer.work.skipped == 2
    assert [int(optimizer.state[param]["step"]) for param in optimizer.param_groups[0]["params"]] == [1, 1]
    assert all(bool(param.isfinite().all()) for param in params)


def test_the_fused_kernel_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: (calls.append(1), kernel(*a, **k)))
    trained(adamw(), gradients(3), start())
    assert calls


def test_a_learning_rate_may_be_a_tensor() -> None:
    stream = gradients(4)
    number = trained(adamw(), stream, start())
    assert alike(number, trained(adamw(), stream, start(), lr=torch.tensor(0.05, dtype=torch.float64)))
    assert not alike(number, trained(adamw(), stream, start(), lr=torch.tensor(0.06, dtype=torch.float64)))


@pytest.mark.parametrize("method", NOT_FUSED.values(), ids=NOT_FUSED.keys())
def test_other_methods_take_the_ordinary_path(method: Method) -> None:
    optimizer, _, _ = trained(method, gradients(2), start())
    assert all(slab.fused is None for slab in optimizer._slabs)


def test_parameters_that_are_not_contiguous_take_the_ordinary_path() -> None:
    stream = gradients(5, [(5, 3)])
    straight = trained(adamw(), stream, start([(5, 3)]))
    (base,) = start([(5, 3)])
    turned = base.detach().mT.contiguous().mT.requires_grad_()
    assert not turned.is_contiguous()
    assert alike(straight, trained(adamw(), stream, [turned]))


def test_half_precision_takes_the_ordinary_path(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    kernel = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: (moved.extend(a[0]), kernel(*a, **k)))
    _, params, _ = trained(adamw(), gradients(3), start(dtype=torch.bfloat16))
    assert all(bool(torch.isfinite(p).all()) for p in params)
    assert {direction.dtype for direction in moved} == {torch.float32}


SQUARE = ((4, 4), (4, 4), (3, 3), (6,), (), (2, 2, 2))


def before_the_step(method: Method) -> Method:
    return dataclasses.replace(method, cadence=dataclasses.replace(method.cadence, after=False))


@pytest.mark.parametrize("momentum", [EMA(0.9), Nesterov(0.9), HeavyBall(0.9)], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize(
    "recipe",
    [soap(every=3), before_the_step(soap(every=3)), lean_soap(every=3, factor_block=2, growth=None)],
    ids=["soap", "soap, refreshed before the step", "lean_soap"],
)
def test_momentum_in_the_coordinates_of_the_basis_is_the_same_momentum(
    recipe: Method, momentum, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = dataclasses.replace(recipe, momentum=momentum)
    stream = with_gaps(gradients(20, SQUARE))
    stream[4][1] = None  # from here on its neighbour in the slab is older
    within = trained(method, stream, start(SQUARE))
    assert all(slab.turned is not None for slab in within[0]._slabs)
    for module in (slabs, states):
        monkeypatch.setattr(module, "turned_momentum", lambda method: None)
    outside = trained(method, stream, start(SQUARE))
    assert all(slab.turned is None for slab in outside[0]._slabs)
    torch.testing.assert_close(within[1], outside[1], rtol=1e-9, atol=1e-10)


def test_a_basis_turns_after_the_step_whatever_the_cadence_says() -> None:
    method, early = soap(), before_the_step(soap())
    assert states.turned_momentum(early) is early.preconditioner
    assert states.turned_momentum(dataclasses.replace(method, momentum=None)) is None


def test_large_tensors_are_not_stacked_on_a_processor() -> None:
    large = [torch.zeros(512, 600) for _ in range(3)]
    small = [torch.zeros(4, 4) for _ in range(5)]
    params = [torch.nn.Parameter(p) for p in large + small]
    optimizer = Optimizer(params, dataclasses.replace(lion(), decay=DecoupledAfter()), lr=0.1)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert sorted(len(slab.params) for slab in optimizer._slabs) == [1, 1, 1, 5]


SHAPES = [(3, 4), (5,), (3, 4), (2, 2, 3), (), (6, 6)]


@pytest.mark.parametrize("name", ["adamw", "sgd, nesterov", "lion", "adan"])
def test_slabs_that_move_together_move_as_each_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = gradients(12, SHAPES)
    stream[2:5] = with_gaps(stream[:5])[2:5]  # so that members differ in age
    stream[6][1] = stream[6][1] * float("nan")  # one slab has a bad gradient, the others go on
    monkeypatch.setattr(wholes, "_COPIED", 20)  # some pass the check together, some by themselves

    def run(first: float, second: float):
        params = start(SHAPES)
        groups = [{"params": params[:3], "lr": first}, {"params": params[3:], "lr": second, "weight_decay": 0.3}]
        return trained(FUSED[name], stream, params, groups=groups)

    together = run(0.05, 0.02)
    found = {convoy.slabs[0].group: [] for convoy in together[0]._layout.convoys}
    for convoy in together[0]._layout.convoys:
        found[convoy.slabs[0].group].append(len(convoy.slabs))
    assert list(found.values()) == [[2], [3]]
    monkeypatch.setattr(convoys, "CACHED", 1)
    alone = run(0.05, 0.02)
    assert all(len(convoy.slabs) == 1 for convoy in alone[0]._layout.convoys)
    assert alike(together, alone)
    if name != "adan":  # it takes the step as one vector where all are of one age, and rounds otherwise than in a list
        assert all(torch.equal(a, b) for a, b in zip(together[1], alone[1], strict=True))
    assert together[0].work.skipped == 1
    assert [slab.steps for slab in together[0]._slabs] == [slab.state.step.tolist() for slab in together[0]._slabs]


@pytest.mark.parametrize("name", ["lion", "adan"])
def test_many_small_parameters_move_as_one_vector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = gradients(8, SHAPES)
    stream[4][2] = stream[4][2] * float("nan")  # the others go on, and later all of them together again
    together = trained(FUSED[name], stream, start(SHAPES))
    assert len(together[0]._layout.convoys) == 1
    names = {"lion": "momentum.average", "adan": "momentum.difference"}
    memory = {state[names[name]].untyped_storage().data_ptr() for state in together[2]}
    assert len(memory) == 1
    passes = []
    lerp = torch._foreach_lerp_
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda *a, **k: (passes.append(len(a[0])), lerp(*a, **k)))
    trained(FUSED[name], stream[:2], start(SHAPES))
    assert max(passes, default=1) == 1  # vectors, not lists of tensors
    as_parts(monkeypatch)
    assert alike(together, trained(FUSED[name], stream, start(SHAPES)))


def test_a_tensor_that_stays_in_a_cache_joins_the_vector_of_small_ones() -> None:
    shapes = [(64, 800), (64,), (300, 300)]
    optimizer, _, _ = trained(lion(), [[torch.ones(shape) for shape in shapes]], start(shapes))
    joined = [[tuple(param.shape) for param in convoy.params] for convoy in optimizer._layout.convoys]
    assert joined == [[(64, 800), (64,)], [(300, 300)]]


def test_slabs_of_one_method_take_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: (calls.append(len(a[0])), kernel(*a, **k)))
    trained(adamw(), gradients(2, SHAPES), start(SHAPES))
    assert calls == [len(SHAPES)] * 2


def test_slabs_beyond_a_cache_do_not_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoys, "CACHED", 30)
    optimizer, _, _ = trained(adamw(), gradients(1, SHAPES), start(SHAPES))
    assert [[slab.member_shape for slab in convoy.slabs] for convoy in optimizer._layout.convoys] == [
        [(3, 4), (5,)],
        [(2, 2, 3), ()],
        [(6, 6)],
    ]


@pytest.mark.parametrize("name", ["lion", "adan", "soap", "muon"])
def test_graphs_of_the_weights_before_a_step_are_out_of_date(name: str) -> None:
    param = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = Optimizer([param], find(name).build(), lr=0.1)
    for _ in range(2):  # the first may only prime
        param.grad = torch.ones(3, 4)
        loss = (param**3).sum()
        optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
