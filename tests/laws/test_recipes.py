"""Every recipe keeps the laws: what it declares is there, and what it builds runs."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch
from torch import nn

from precond.core import (
    Builds,
    Choice,
    CompositeIteration,
    FixedPointIteration,
    IncompatibleError,
    Iteration,
    Kind,
    Method,
    Preconditioner,
    ProgramIteration,
    Recipe,
    Route,
)
from precond.optim.memory import estimate_memory
from precond.optim.optimizer import Optimizer
from precond.recipes.registry import all_recipes
from tests.laws.feed import spd

RECIPES = all_recipes()
TRAINERS = {name: recipe for name, recipe in RECIPES.items() if Kind.TRAINING in recipe.runs_on}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
every_trainer = pytest.mark.parametrize("recipe", TRAINERS.values(), ids=TRAINERS.keys())

BUILT = {
    Builds.METHOD: (Method, Route),
    Builds.ITERATION: (Iteration,),
    Builds.PRECONDITIONER: (Preconditioner,),
    Builds.PROGRAM: (ProgramIteration,),
    Builds.COMPOSITE: (CompositeIteration,),
    Builds.FIXED_POINT: (FixedPointIteration,),
}


@every_recipe
def test_says_where_it_comes_from(recipe: Recipe) -> None:
    assert recipe.paper.title
    assert recipe.paper.authors
    assert 1800 < recipe.paper.year < 2100
    assert recipe.paper.arxiv or recipe.paper.venue, "a paper needs an arXiv id or a venue"
    for text in (recipe.purpose, recipe.claim):
        assert text.strip().endswith("."), "purpose and claim are sentences"
    assert "Deviations:" in recipe.text, "the docstring must list the deviations from the paper, or say there are none"


@every_recipe
def test_builds_what_it_says(recipe: Recipe) -> None:
    assert isinstance(recipe.build(), BUILT[recipe.builds])
    assert recipe.runs_on, "a recipe that runs on nothing cannot race"


@every_recipe
def test_its_example_runs(recipe: Recipe) -> None:
    import precond

    matrix = scipy.sparse.csr_array(spd(12, 0).numpy())
    at_hand = {"precond": precond, "torch": torch, "model": nn.Linear(4, 3), "A": matrix, "b": torch.ones(12).double()}
    exec(compile(recipe.example, f"<example of {recipe.name}>", "exec"), at_hand)


@every_recipe
def test_its_search_space_is_its_own(recipe: Recipe) -> None:
    defaults = recipe.defaults  # raises KeyError for a dimension that is no argument
    for name, dimension in recipe.space.items():
        values = dimension.values if isinstance(dimension, Choice) else [dimension.at(0.0), dimension.at(0.999999)]
        default = defaults[name]
        assert default is not None, f"{name} has no default"
        if name not in ("lr", "weight_decay"):
            for value in values:
                assert isinstance(recipe.build(**{name: value}), BUILT[recipe.builds])
        if isinstance(dimension, Choice):
            assert default in values, f"the default {name}={default} is not among {values}"
        elif default:  # zero lies outside of every logarithmic range
            assert values[0] <= default <= values[1], f"the default {name}={default} lies outside of {values}"


class Net(nn.Module):
    """Weights, biases, a convolution, a scalar: every shape that a model may have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.LayerNorm(12)
        self.first = nn.Linear(12, 6)
        self.second = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x).flatten(1))
        return self.scale * self.second(torch.tanh(self.first(x)))


def make(recipe: Recipe, dtype: torch.dtype = torch.float32) -> tuple[Net, Optimizer]:
    torch.manual_seed(0)
    net = Net().to(dtype)
    return net, Optimizer(net.named_parameters(), recipe.build(), lr=1e-3, weight_decay=recipe.weight_decay)


def train(net: Net, optimizer: Optimizer, steps: range) -> list[float]:
    """Take steps on a regression whose batch depends on the step alone, and return the losses."""
    losses = []
    dtype = net.scale.dtype
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 1, 4, 4, generator=generator).to(dtype)

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (net(x) - x.flatten(1)[:, :6]).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


@every_trainer
def test_trains_every_shape(recipe: Recipe) -> None:
    net, optimizer = make(recipe)
    before = {name: p.clone() for name, p in net.named_parameters()}
    losses = train(net, optimizer, range(12))
    assert all(torch.isfinite(torch.tensor(losses)))

    def still_there() -> list[str]:
        return [name for name, p in net.named_parameters() if torch.equal(p, before[name])]

    for step in range(12, 400):  # a method may move a few entries at a time
        if not still_there():
            break
        train(net, optimizer, range(step, step + 1))
    still = still_there()
    assert not still, f"parameters that never moved: {still}"


@every_trainer
def test_takes_bfloat16(recipe: Recipe) -> None:
    net, optimizer = make(recipe, torch.bfloat16)
    train(net, optimizer, range(4))
    for name, param in net.named_parameters():
        assert param.dtype == torch.bfloat16
        assert bool(torch.isfinite(param).all()), name


@every_trainer
def test_resumes_bit_for_bit(recipe: Recipe) -> None:
    net, optimizer = make(recipe)
    train(net, optimizer, range(5))
    saved_net = {k: v.clone() for k, v in net.state_dict().items()}
    saved = torch.load(_roundtrip(optimizer.state_dict()), weights_only=True)
    expected = train(net, optimizer, range(5, 10))

    again, resumed = make(recipe)
    again.load_state_dict(saved_net)
    resumed.load_state_dict(saved)
    assert train(again, resumed, range(5, 10)) == expected
    for ours, theirs in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@every_trainer
def test_declared_memory_is_measured_memory(recipe: Recipe) -> None:
    net, optimizer = make(recipe)
    train(net, optimizer, range(2))
    assert optimizer.state_bytes() == estimate_memory(net, recipe.build())


@every_recipe
def test_a_method_that_cannot_train_says_so(recipe: Recipe) -> None:
    built = recipe.build()
    if not isinstance(built, Method | Route) or Kind.TRAINING in recipe.runs_on:
        return
    with pytest.raises(IncompatibleError, match="minimize"):
        Optimizer(Net().named_parameters(), built)


def _roundtrip(state: dict) -> object:
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
