"""Compiled optimizers: the same steps, nothing compiled unasked, and nothing compiled again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from precond import optim
from precond.core import BadInputError
from precond.optim import SOAP, LeanSOAP, Lion, Optimizer


def _cls(name: str) -> Any:
    return getattr(optim, name)


DROPINS = [
    name
    for name in optim.__all__
    if isinstance(_cls(name), type) and issubclass(_cls(name), Optimizer) and name != "Optimizer"
]
AS_THEY_ARE = {
    "one kernel already": {"AdamW", "SGD", "Lion", "Adan", "MARS"},
    "states in fewer bits": {"Shampoo4bit", "Shampoo4bitCholesky"},
    "all parameters as one vector": {"MFAC", "SparseMFAC", "PSGDLRA"},
    "draws, and decisions by values": {"PSGDKron", "PSGDAffine", "PSGDNewton", "LowRankMFAC"},
}
SHAPES = {"up.weight": (6, 6), "down.weight": (6, 6), "norm.weight": (6,)}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(
    build: Callable[..., Optimizer], backend: CompileCounterWithBackend | None
) -> tuple[list[torch.Tensor], list[int]]:
    """Train with a learning rate that changes and gradients that go missing; return parameters and graphs by step."""
    named = [
        (name, torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)))
        for i, (name, shape) in enumerate(SHAPES.items())
    ]
    optimizer = build(named, lr=0.01, compile=backend or False)
    step = 0

    def closure() -> torch.Tensor:
        for i, (_, param) in enumerate(named):
            generator = torch.Generator().manual_seed(10 * step + i)
            gradient = torch.randn(param.shape, generator=generator, dtype=torch.float64) + 0.3 * param.detach()
            param.grad = None if step in (4, 5) and i in (0, 2) else gradient
        return torch.ones((), dtype=torch.float64)

    graphs = []
    for step in range(8):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step % 3)
        optimizer.param_groups[0]["weight_decay"] = 0.1 * (step % 2)
        optimizer.step(closure)
        graphs.append(backend.frame_count if backend is not None else 0)
    return [param.detach() for _, param in named], graphs


def soap_every_third(params: Any, **settings: Any) -> Optimizer:
    return SOAP(params, precondition_frequency=3, **settings)


def with_rare_statistics(params: Any, **settings: Any) -> Optimizer:
    return LeanSOAP(params, precondition_frequency=4, factor_block_size=4, statistics_frequency=2, **settings)


def graphs_of(build: Callable[..., Optimizer]) -> list[int]:
    """Train with and without compilation, to the same point; return the graphs compiled after each step."""
    torch._dynamo.utils.counters.clear()
    compiled, graphs = trained(build, CompileCounterWithBackend("eager"))
    plain, _ = trained(build, None)
    torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-10)
    return graphs


@pytest.mark.parametrize("name", DROPINS)
def test_compiled_steps_are_the_same_and_nothing_is_compiled_after_the_second(name: str) -> None:
    graphs = graphs_of(_cls(name))
    assert (graphs[1] > 0) is not any(name in names for names in AS_THEY_ARE.values())
    assert graphs[1:] == graphs[1:2] * 7
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("build", [soap_every_third, with_rare_statistics])
def test_refreshes_and_rare_statistics_compile_nothing_either(build: Callable[..., Optimizer]) -> None:
    graphs = graphs_of(build)
    assert graphs[1] > 0
    assert graphs[1:] == graphs[1:2] * 7
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_backend_that_rewrites_the_graph_agrees() -> None:
    compiled, _ = trained(soap_every_third, CompileCounterWithBackend("aot_eager"))
    torch.testing.assert_close(compiled, trained(soap_every_third, None)[0], rtol=1e-9, atol=1e-10)


def test_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)
    trained(SOAP, None)
    with pytest.raises(TypeError):
        trained(SOAP, CompileCounterWithBackend("eager"))


def test_the_classes_take_the_argument_and_keep_it() -> None:
    params = [torch.nn.Parameter(torch.ones(3, 3))]
    assert pickle.loads(pickle.dumps(SOAP(params, compile="eager")))._backend == "eager"
    assert SOAP(params, compile=True)._backend == "inductor"
    assert Lion(params)._backend is None
    with pytest.raises(BadInputError, match="compile"):
        SOAP(params, compile=3)


def test_every_slab_is_compiled_however_many_there_are() -> None:
    """Compilers keep eight graphs of a function, so that slabs of more shapes need functions of their own."""
    backend = CompileCounterWithBackend("eager")
    named = [(f"{n}.weight", torch.nn.Parameter(torch.ones(n, n))) for n in range(2, 13)]
    optimizer = SOAP(named, compile=backend)
    counts = []
    for _ in range(3):
        for _, param in named:
            param.grad = torch.randn(param.shape)
        optimizer.step()
        counts.append(backend.frame_count)
    assert counts[1] == counts[2] == 2 * len(named)
