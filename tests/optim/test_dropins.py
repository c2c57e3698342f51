"""The drop-in classes: same defaults as their recipes, and usable as any torch optimizer."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch

import precond.optim
from precond.core import BadInputError
from precond.optim import (
    ASGO,
    DASGO,
    KLSOAP,
    LANTON,
    MARS,
    MARSM,
    MFAC,
    PSGDLRA,
    SGD,
    SOAP,
    AdamW,
    Adan,
    DistributedShampoo,
    InducedMetric,
    KLShampoo,
    LeanSOAP,
    Lion,
    LowRankMFAC,
    Muon,
    Optimizer,
    PSGDAffine,
    PSGDKron,
    ScalableShampoo,
    Shampoo,
    Shampoo4bit,
    Shampoo4bitCholesky,
    ShampooSquared,
    SparseMFAC,
    TurboMuon,
    layout,
)
from precond.recipes.registry import find

NAMES = {
    SGD: "sgd",
    AdamW: "adamw",
    Adan: "adan",
    InducedMetric: "induced-metric",
    Lion: "lion",
    Muon: "muon",
    TurboMuon: "turbo-muon",
    ASGO: "asgo",
    DASGO: "dasgo",
    DistributedShampoo: "distributed-shampoo",
    KLShampoo: "kl-shampoo",
    KLSOAP: "kl-soap",
    LANTON: "lanton",
    MARS: "mars-adamw",
    MARSM: "mars-m",
    MFAC: "m-fac",
    SparseMFAC: "sparse-m-fac",
    LowRankMFAC: "low-rank-m-fac",
    PSGDAffine: "psgd-affine",
    PSGDKron: "psgd-kron",
    PSGDLRA: "psgd-lra",
    ScalableShampoo: "scalable-shampoo",
    Shampoo: "shampoo",
    Shampoo4bit: "shampoo-4bit",
    Shampoo4bitCholesky: "shampoo-4bit-cholesky",
    ShampooSquared: "shampoo-squared",
    SOAP: "soap",
}

WINDOWS = (MFAC, LowRankMFAC, SparseMFAC)
"""These solve small systems in double precision, and the last keeps entries in two bytes, as it says."""


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(48, 6), torch.nn.GELU(), torch.nn.Linear(6, 2)
    )


def train(net, optimizer, steps=30):
    torch.manual_seed(1)
    x = torch.randn(32, 1, 6, 6)
    y = (x.mean((1, 2, 3)) > 0).long()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("cls", NAMES, ids=NAMES.get)
def test_defaults_are_those_of_the_recipe(cls):
    recipe = find(NAMES[cls])
    built = recipe.build(**({"momentum": 0.0} if cls is SGD else {}))  # torch.optim.SGD has no momentum by default
    one, two = model(), model()
    ours = train(one, cls(one.named_parameters(), **({"lr": recipe.lr} if cls is SGD else {})))
    theirs = train(two, Optimizer(two.named_parameters(), built, lr=recipe.lr, weight_decay=recipe.weight_decay))
    assert ours == theirs


@pytest.mark.parametrize("cls", NAMES, ids=NAMES.get)
def test_trains_copies_and_pickles(cls):
    net = model()
    lr = 1e-3 if cls in WINDOWS else 0.01
    optimizer = cls(net.parameters(), lr=lr)
    losses = train(net, optimizer)
    assert losses[-1] < losses[0]
    other = model()
    other.load_state_dict(net.state_dict())
    resumed = cls(other.parameters(), lr=lr)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    assert train(net, copy.copy(optimizer), 5) == train(other, resumed, 5)


@pytest.mark.parametrize("cls", NAMES, ids=NAMES.get)
def test_bfloat16_parameters_keep_float32_state(cls):
    net = model().bfloat16()
    optimizer = cls(net.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, 1, 6, 6).bfloat16()).square().mean().backward()
        optimizer.step()
    floats = [t for state in optimizer.state.values() for t in state.values() if t.is_floating_point()]
    allowed = {torch.float32} | ({torch.float64, torch.bfloat16} if cls in WINDOWS else set())
    assert {t.dtype for t in floats} <= allowed
    assert all(p.isfinite().all() for p in net.parameters())


def test_public_names():
    assert set(precond.optim.__all__) <= set(dir(precond.optim))
    for name in precond.optim.__all__:
        assert getattr(precond.optim, name).__name__ == name
    with pytest.raises(AttributeError, match="Adagrad"):
        _ = precond.optim.Adagrad


@pytest.mark.parametrize("cls", [SOAP, LeanSOAP, KLSOAP, KLShampoo, Shampoo, DistributedShampoo])
def test_refreshes_of_all_tensors_come_together_where_asked(cls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the company of other tensors changes nothing, as in the published codes, which take one after the other."""
    monkeypatch.setattr(layout, "TOGETHER", 0.0)

    def moved(count: int, stagger: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.float64)) for _ in range(count)]
        optimizer = cls(params, lr=0.01, precondition_frequency=4, stagger=stagger)
        generator = torch.Generator().manual_seed(1)
        for _ in range(9):
            gradient = torch.randn(4, 4, generator=generator, dtype=torch.float64)
            for param in params:
                param.grad = gradient.clone()
            optimizer.step()
        return [param.detach() for param in params]

    (alone,) = moved(1, True)
    assert all(torch.allclose(weight, alone, rtol=1e-10, atol=1e-12) for weight in moved(3, False))
    assert not all(torch.allclose(weight, alone, rtol=1e-6) for weight in moved(3, True))


def test_importing_the_package_loads_no_recipe():
    code = "import sys, precond.optim; print([m for m in sys.modules if m.startswith('precond.recipes')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_refusals():
    w = [torch.zeros(2, 2, requires_grad=True)]
    with pytest.raises(BadInputError, match="lr"):
        AdamW(w, lr=-1.0)
    with pytest.raises(BadInputError, match="betas"):
        Adan(w, betas=(0.9, 0.99))


@pytest.mark.parametrize("cls", NAMES)
def test_numbers_that_cannot_be_meant_are_refused(cls) -> None:
    taken = inspect.signature(cls).parameters
    wrong = {"lr": -1.0, "weight_decay": -0.1, "momentum": 1.0, "eps": -1e-8, "betas": (1.0,)}
    if cls in (DASGO, Shampoo4bit, Shampoo4bitCholesky):  # added to matrices, whose eigenvalues are raised anyway
        wrong.pop("eps")
    assert wrong.keys() & taken.keys()
    for name, value in wrong.items():
        if name in taken:
            with pytest.raises(BadInputError):
                cls([torch.nn.Parameter(torch.ones(2, 2))], **{name: value})


NUMBERS = [
    (cls, key)
    for cls in (getattr(precond.optim, name) for name in precond.optim.__all__)
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
    for key, parameter in inspect.signature(cls).parameters.items()
    if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
]


@pytest.mark.parametrize(("cls", "key"), NUMBERS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_what_is_no_number_is_refused_before_the_first_step(cls: Any, key: str) -> None:
    for value in ("fast", math.nan):
        with pytest.raises(ValueError, match=r"number|must|a share"):
            cls([torch.nn.Parameter(torch.ones(3, 2))], **{key: value})


def test_numbers_mean_what_they_say() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    for value, said in ((2.5, "every of soap must be a whole number"), (True, "whole number"), (None, "not None")):
        with pytest.raises(BadInputError, match=said):
            SOAP([weight], precondition_frequency=value)
    SOAP([weight], max_precond_dim=1e4)
    SOAP([weight], max_precond_dim=math.inf)
    with pytest.raises(BadInputError, match="lr_1d"):
        MARS([weight], lr_1d=-1.0)
    with pytest.raises(BadInputError, match="betas"):
        AdamW([weight], betas=(0.9, "slow"))
    with pytest.raises(BadInputError, match="identity"):
        PSGDKron([weight], preconditioner_init_scale=-1.0)


@pytest.mark.parametrize(
    ("cls", "rest"),
    [
        (Muon, {}), (TurboMuon, {}), (LANTON, {}), (MARS, {}), (ASGO, {"adamw_lr": 1e-3}), (DASGO, {"adamw_lr": 1e-3}),
        (KLSOAP, {"adamw_lr": 1e-3}),
    ],
)  # fmt: skip
def test_a_checkpoint_brings_both_learning_rates_along(cls: Any, rest: dict[str, float]) -> None:
    def run(params: list[torch.nn.Parameter], optimizer: Any) -> None:
        for _ in range(2):
            for param in params:
                param.grad = param.detach().cos()
            optimizer.step()

    first = [torch.nn.Parameter(torch.linspace(-1.0, 2.0, 12).view(4, 3)), torch.nn.Parameter(torch.ones(3))]
    trained = cls(first, lr=1e-2, **rest)
    run(first, trained)
    second = [torch.nn.Parameter(param.detach().clone()) for param in first]
    other = cls(second, lr=0.5, **rest)  # as a script may that sets it anew afterwards
    other.load_state_dict(copy.deepcopy(trained.state_dict()))
    run(first, trained)
    run(second, other)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
