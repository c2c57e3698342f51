"""Compiled optimizers: the same steps, nothing compiled unasked, and nothing compiled again."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from precond.core import BadInputError, Method
from precond.optim import SOAP, Lion, Optimizer
from precond.recipes.first_order import adan
from precond.recipes.matrix import lean_soap, shampoo, soap
from precond.recipes.variance_reduced import mars_adamw

SHAPES = [(6, 6), (6, 6), (5, 3), (6,), (3, 2, 2)]
METHODS = {
    "soap": soap(every=3),
    "lean_soap": lean_soap(every=4, factor_block=4, statistics=1),
    "lean_soap, rare statistics": lean_soap(every=4, factor_block=4, statistics=2),
    "shampoo": shampoo(every=3, momentum=0.9),
    "mars": mars_adamw(),
}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(method: Method, backend: CompileCounterWithBackend | None) -> tuple[list[torch.Tensor], list[int]]:
    """Train with a learning rate that changes and gradients that go missing; return parameters and graphs by step."""
    params = [
        torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64))
        for i, shape in enumerate(SHAPES)
    ]
    optimizer = Optimizer(params, method, lr=0.01, weight_decay=0.1, compile=backend or False)
    graphs = []
    for step in range(10):
        generator = torch.Generator().manual_seed(step)
        for i, param in enumerate(params):
            gradient = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            param.grad = None if step in (4, 5) and i in (0, 3) else gradient
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step % 3)
        optimizer.param_groups[0]["weight_decay"] = 0.1 * (step % 2)
        optimizer.step()
        graphs.append(backend.frame_count if backend is not None else 0)
    return [param.detach() for param in params], graphs


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_compiled_steps_are_the_same_and_nothing_is_compiled_after_the_second(method: Method) -> None:
    compiled, graphs = trained(method, CompileCounterWithBackend("eager"))
    plain, _ = trained(method, None)
    torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-10)
    assert graphs[1] > 0
    assert graphs[1:] == graphs[1:2] * 9
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_backend_that_rewrites_the_graph_agrees() -> None:
    compiled, _ = trained(soap(every=3), CompileCounterWithBackend("aot_eager"))
    torch.testing.assert_close(compiled, trained(soap(every=3), None)[0], rtol=1e-9, atol=1e-10)


def test_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)
    trained(soap(), None)
    with pytest.raises(TypeError):
        trained(soap(), CompileCounterWithBackend("eager"))


def test_steps_that_are_fused_already_are_left_alone() -> None:
    counter = CompileCounterWithBackend("eager")
    trained(adan(), counter)
    assert counter.frame_count == 0


def test_the_classes_take_the_argument_and_keep_it() -> None:
    params = [torch.nn.Parameter(torch.ones(3, 3))]
    assert pickle.loads(pickle.dumps(SOAP(params, compile="eager")))._backend == "eager"
    assert SOAP(params, compile=True)._backend == "inductor"
    assert Lion(params)._backend is None
    with pytest.raises(BadInputError, match="compile"):
        SOAP(params, compile=3)
