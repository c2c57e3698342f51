"""Decompositions that fail: jitter first, then float64, then the last good factor, counted and logged once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from precond import optim
from precond.core import IncompatibleError, Kind, RefreshError
from precond.math.factors.eigen import safe_eigh
from precond.math.factors.polar import polar_exact
from precond.optim import Optimizer
from precond.recipes.registry import all_recipes

TRAINERS = {name: recipe for name, recipe in all_recipes().items() if Kind.TRAINING in recipe.runs_on}
real_eigh = torch.linalg.eigh


class Eigh:
    """Stands in for `torch.linalg.eigh`, and raises for the calls that it is told to."""

    def __init__(self, fails: Callable[[int, Tensor], bool]) -> None:
        self.fails = fails
        self.seen: list[Tensor] = []

    def __call__(self, matrices: Tensor, *args: object, **kwargs: object) -> object:
        self.seen.append(matrices.clone())
        if self.fails(len(self.seen), matrices):
            raise torch.linalg.LinAlgError("linalg.eigh: the algorithm failed to converge")
        return real_eigh(matrices, *args, **kwargs)


def spoiled(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int, Tensor], bool]) -> Eigh:
    eigh = Eigh(fails)
    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    return eigh


def run(name: str, steps: int, bad_at: int = -1) -> tuple[list[Tensor], Optimizer]:
    recipe = TRAINERS[name]
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (5, 3), (4,))]
    optimizer = Optimizer([(str(i), p) for i, p in enumerate(params)], recipe.build(), lr=1e-3)
    for step in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator)
        if step == bad_at:
            for key, tensor in optimizer.state[params[0]].items():
                if ".factors." in key:
                    tensor.fill_(torch.nan)
        try:
            optimizer.step(lambda: torch.tensor(1.0))
        except RefreshError:  # some methods tolerate only so many failures in a row, and then say so
            break
    return [p.detach().clone() for p in params], optimizer


@pytest.fixture(scope="module")
def decomposing() -> list[str]:
    """The recipes that take eigendecompositions."""
    found = []
    for name in TRAINERS:
        with pytest.MonkeyPatch.context() as patch:
            eigh = spoiled(patch, lambda call, matrices: False)
            with contextlib.suppress(IncompatibleError):  # it needs more than gradients
                run(name, 2)
            if eigh.seen:
                found.append(name)
    return found


def test_some_recipes_decompose(decomposing: list[str]) -> None:
    assert {"soap", "shampoo", "lean-soap", "shampoo-squared"} <= set(decomposing)


@pytest.mark.parametrize("failing", [1, 2])
def test_jitter_and_then_float64_rescue_a_decomposition(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(3, 4, 4) * 1e6
    matrix = matrix @ matrix.mT
    values, _, failed = safe_eigh(matrix)
    eigh = spoiled(monkeypatch, lambda call, matrices: call <= failing)
    rescued, turned, again = safe_eigh(matrix)
    assert not bool(failed.any() | again.any())
    torch.testing.assert_close(rescued, values, rtol=1e-4, atol=1e-6 * float(values.max()))
    torch.testing.assert_close(
        turned @ torch.diag_embed(rescued) @ turned.mT, matrix, rtol=1e-3, atol=1e-3 * matrix.max()
    )
    first, second = eigh.seen[:2]
    assert bool((first.abs().sum(-1).amax(-1) <= 1.0 + 1e-6).all()), "a matrix was not scaled"
    assert bool((second.diagonal(dim1=-2, dim2=-1) > first.diagonal(dim1=-2, dim2=-1)).any()), "there was no jitter"
    if failing == 2:
        assert eigh.seen[2].dtype == torch.float64


def test_nothing_that_is_not_finite_reaches_the_decomposition(
    decomposing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    eigh = spoiled(monkeypatch, lambda call, matrices: False)
    for name in decomposing:
        params, optimizer = run(name, 14, bad_at=3)
        assert all(bool(p.isfinite().all()) for p in params[1:]), name
        if name in ("shampoo", "shampoo-squared", "soap", "lean-soap"):
            assert int(optimizer.state[optimizer.param_groups[0]["params"][0]]["failures"]) > 0, name
            assert int(optimizer.state[optimizer.param_groups[0]["params"][1]]["failures"]) == 0, name
    assert eigh.seen
    assert all(bool(matrices.isfinite().all()) for matrices in eigh.seen)


@pytest.mark.parametrize("failing", [1, 2, 5])
def test_recipes_survive_the_first_failures(
    failing: int, decomposing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of the first calls fail, training goes on; the counters tell when a factor had to stay."""
    for name in decomposing:
        with monkeypatch.context() as patch:
            spoiled(patch, lambda call, matrices: call <= failing)
            params, optimizer = run(name, 6)
        assert all(bool(p.isfinite().all()) for p in params), name
        if failing <= 2:  # the jitter, or else float64, is good enough
            assert optimizer.work.refresh_failures == 0, name


def test_without_any_decomposition_the_last_factors_stay_and_that_is_counted_and_logged_once(
    decomposing: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in decomposing:
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
            spoiled(patch, lambda call, matrices: True)
            params, optimizer = run(name, 6)
        assert all(bool(p.isfinite().all()) for p in params), name
        assert optimizer.work.refresh_failures > 0, name
        counted = [int(state["failures"]) for state in optimizer.state.values()]
        assert sum(counted) > 0, name
        assert len(caplog.records) == 1, name
        assert "last good factors stay" in caplog.text
        before = sum(counted)
        restored = optimizer.state_dict()["state"]
        assert sum(int(state["failures"]) for state in restored.values()) == before, name


def test_a_polar_factor_without_singular_values() -> None:
    matrices = torch.randn(2, 5, 3)
    expected = polar_exact(matrices)

    def fails(*args: object, **kwargs: object) -> None:
        raise torch.linalg.LinAlgError("linalg.svd: the algorithm failed to converge")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "svd", fails)
        factor = polar_exact(matrices)
    torch.testing.assert_close(factor, expected, rtol=1e-4, atol=1e-4)


def test_a_failure_names_its_parameter() -> None:
    """Two parameters in one slab; the factor of one is broken."""
    params = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
    optimizer = optim.Shampoo(params)
    for step in range(4):
        for param in params:
            param.grad = torch.randn(4, 3)
        if step == 2:
            optimizer.state[params[1]]["preconditioner.factors.0"].fill_(torch.inf)
        optimizer.step()
    assert [int(optimizer.state[p]["failures"]) for p in params] == [0, 2]
    assert optimizer.work.refresh_failures == 2
