"""Cotangents pulled back through a graph: against Jacobians by differences, with and without torch's engine."""

import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precond.math.machine import backward
from precond.solvers.squares.jacobians import AutogradJacobian


def curve(x):
    return torch.stack((x[0] ** 2 * x[1], torch.sin(x[2]), x.exp().sum(), x[1] * x[2]))


def dense(x, h=1e-6):
    columns = [(curve(x + h * e) - curve(x - h * e)) / (2 * h) for e in torch.eye(3).double()]
    return torch.stack(columns, 1)


@pytest.fixture(params=["engine", "autograd.grad"])
def way(request, monkeypatch):
    if request.param == "engine":
        assert backward._found is not None  # the version of torch that is tested has it
    else:
        monkeypatch.setattr(backward, "_found", None)


def test_one_and_many_are_products_with_the_transposed_jacobian(way):
    leaf = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64, requires_grad=True)
    output, v = curve(leaf), torch.randn(5, 4, dtype=torch.float64)
    expected = v @ dense(leaf.detach())
    torch.testing.assert_close(backward.pull_many(output, leaf, v), expected, rtol=1e-7, atol=1e-8)
    for row, there in zip(v, expected, strict=True):  # the graph stays
        torch.testing.assert_close(backward.pull(output, leaf, row), there, rtol=1e-7, atol=1e-8)


def test_what_does_not_depend_gives_nothing(way):
    leaf, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    output = 2 * other
    assert backward.pull(output, leaf, torch.ones(2)) is None
    assert backward.pull_many(output, leaf, torch.ones(3, 2)) is None


def test_a_minimization_does_not_load_computer_algebra():
    code = (
        "import sys, torch, precond\n"
        "x = torch.zeros(3, dtype=torch.float64)\n"
        "precond.minimize(lambda x: ((x - 1) ** 4).sum(), x)\n"
        "precond.minimize(lambda x: (x ** 2).sum(), x, constraints=lambda x: x[:1] * x[1] - 1 - x[2])\n"
        "assert 'sympy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Batches(TorchDispatchMode):
    """Counts batches of products that share a matrix."""

    def __init__(self):
        super().__init__()
        self.shared = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.shared += any(each.stride(0) == 0 and len(each) > 1 for each in args)
        return func(*args, **(kwargs or {}))


SEEN = torch.linspace(-1, 1, 40 * 30, dtype=torch.float64).view(40, 30).cos()


@pytest.mark.parametrize(
    ("function", "apart"),
    [
        (lambda x: torch.tanh(SEEN @ x), True),
        (lambda x: torch.tanh(x @ SEEN.T), False),
        (lambda x: torch.tanh(SEEN @ torch.outer(x, x[:3])).flatten(), True),
        (lambda x: torch.tanh(torch.outer(x[:3], x) @ SEEN.T).flatten(), False),
        (lambda x: torch.nn.functional.linear(torch.stack([x, x**2]), SEEN, SEEN[:, 0]).flatten(), False),
        (lambda x: torch.linalg.multi_dot([SEEN, SEEN.T, SEEN, x]) + (SEEN @ x) ** 2, True),
    ],
)
def test_many_products_with_one_matrix_are_one(way, function, apart, monkeypatch):
    leaf = torch.linspace(-0.5, 0.5, 30, dtype=torch.float64).requires_grad_()
    output = function(leaf)
    v = torch.randn(25, len(output), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.autograd.grad(output, leaf, row, retain_graph=True)[0] for row in v])
    counts = []
    for large in (2**60, 0):
        monkeypatch.setattr(backward, "LARGE", large)
        with Batches() as batches:
            found = backward.pull_many(output, leaf, v)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        counts.append(batches.shared)
    assert counts[1] == 0
    assert (counts[0] > 0) == apart


def test_only_graphs_with_products_of_matrices_are_looked_at(monkeypatch):
    monkeypatch.setattr(backward, "LARGE", 0)
    monkeypatch.setattr(backward, "_shared", lambda: pytest.fail("nothing is multiplied"))
    leaf = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert backward.pull_many(curve(leaf), leaf, torch.eye(4, dtype=torch.float64)) is not None


class Blind(torch.autograd.Function):
    """Squares, whose backward pass torch cannot see through: with a graph for ``J' u`` it would be missing."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.from_numpy((2 * grad.detach() * x.detach()).numpy())


@pytest.mark.parametrize("m", [2, 3, 5, 20])
def test_jacobians_by_autograd_are_those_by_differences(m):
    def residual(x, square=torch.square):
        return torch.stack([square(x[0]) * x[1], x[2].sin() * x[0], x.prod(), square(x).sum(), x[1].exp()] * 4)[:m]

    x = torch.tensor([0.4, -0.8, 1.3], dtype=torch.float64)
    columns = [(residual(x + 1e-6 * e) - residual(x - 1e-6 * e)) / 2e-6 for e in torch.eye(3).double()]
    for function in (residual, lambda x: residual(x, Blind.apply)):
        found = AutogradJacobian(function).at(function, x, function(x))
        torch.testing.assert_close(found, torch.stack(columns, 1), rtol=1e-7, atol=1e-8)
        assert not found.requires_grad
