"""Every recipe, and every drop-in class, survives every case of the conformance matrix."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from precond import optim
from tests.test_benchmarks import load

program = load("conformance")
cases = program.conformance_cases
ALL = program.all_cases()
RECIPES = {contestant.name.split()[1]: contestant.maker() for contestant in program.ours()}
CLASSES = {name: getattr(optim, name) for name in optim.__all__}
DROP_INS = {
    name: cls
    for name, cls in CLASSES.items()
    if isinstance(cls, type) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
}
SLOW = {
    (name, "100000x4") for name in ("scalable-shampoo", "distributed-shampoo", "shampoo-4bit", "shampoo-4bit-cholesky")
}
"""Half a minute and more for the roots of hundreds of tiles: left to `benchmarks/conformance.py`."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings of skipped gradients are what they should be."""
    logging.getLogger("precond").setLevel(logging.ERROR)
    yield
    logging.getLogger("precond").setLevel(logging.NOTSET)


@pytest.mark.parametrize(("group", "case", "function"), ALL, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_survives(recipe: str, group: str, case: str, function: object) -> None:
    if (recipe, case) in SLOW:
        pytest.skip("too slow for a test")
    assert cases.verdict(function, RECIPES[recipe]) == "pass"


@pytest.mark.parametrize("name", DROP_INS)
def test_every_drop_in_survives(name: str) -> None:
    """The classes run the methods of the recipes; what they add is how they are built, saved and copied.

    Whether they make progress is judged of the recipes, at learning rates of their own.
    """

    def make(named: object) -> torch.optim.Optimizer:
        known = inspect.signature(DROP_INS[name]).parameters
        small = {"memory": 16, "damping": 0.1} if "memory" in known else {}  # windows as small as the problems
        return type(name, (DROP_INS[name],), {"wants_closure": True})(named, lr=1e-2, **small)

    for case, function in cases.CASES["saving"].items():
        if case != "converted mid-run":
            assert cases.verdict(function, make) == "pass", case


class Careless(torch.optim.SGD):
    """Gradient descent that guards against nothing."""

    fault = ""

    def step(self, closure: object = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    gradient = torch.zeros_like(p) if p.grad is None else p.grad
                    if self.fault == "divides":
                        gradient = gradient / gradient.norm()
                    if self.fault == "factors":
                        gradient = torch.linalg.solve(gradient @ gradient.T, gradient)
                    if self.fault == "momentum without gradient":
                        gradient = gradient + 0.01
                    if self.fault == "scales gradients":
                        gradient.mul_(0.5)
                    p.sub_(group["lr"] * gradient)


FAULTS = {
    "": {"inf spike", "NaN spike", "NaN at first"},
    "divides": {"all zero", "zero at first", "sometimes"},
    "factors": {"rank one", "1-d", "0-d"},
    "momentum without gradient": {"always", "all", "sometimes"},
    "scales gradients": {"accumulation"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_cases_bite(fault: str) -> None:
    """An optimizer with a fault fails the cases that are about it."""

    def make(named: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        optimizer = Careless([p for _, p in named], lr=0.1)
        optimizer.fault = fault
        return optimizer

    functions = {name: function for _, name, function in ALL}
    for name in FAULTS[fault]:
        assert cases.verdict(functions[name], make) != "pass", name


def test_positions_are_not_names() -> None:
    """What is saved by position cannot be loaded into another order, and the case says so."""
    functions = {name: function for _, name, function in ALL}

    def make(named: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for _, p in named])

    assert "raised" in cases.verdict(functions["other order"], make)


def test_the_page_shows_every_verdict() -> None:
    found = {(group, case): "pass" for group, case, _ in ALL}
    first = ALL[0][:2]
    broken = {**found, first: "raised ValueError: a | b".replace("|", "/")}
    text = program.pages_of({"good": found, "bad": broken})
    assert f"| good | {len(ALL)} |" in text
    assert f"| bad | {len(ALL) - 1} |" in text
    assert "raised ValueError (1)" in text
    assert "1. raised ValueError: a / b" in text


def test_a_process_that_dies_or_hangs_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next case runs in a new process."""
    count = len(ALL)
    calls: list[int] = []

    def listen(name: str, after: int, seconds: float) -> tuple[list[list[str]], str]:
        calls.append(after)
        lines = [[group, case, "pass"] for group, case, _ in ALL[after:]]
        return (lines[:2], "no answer in 1 s") if after == 0 else (lines, "")

    monkeypatch.setattr(program, "_listen", listen)
    found = program.verdicts("somebody", 1)
    assert calls == [0, 3]
    assert list(found.values()).count("pass") == count - 1
    assert found[ALL[2][0], ALL[2][1]] == "no answer in 1 s"
