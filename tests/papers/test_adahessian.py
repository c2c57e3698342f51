"""AdaHessian against the paper's equations in plain NumPy, and what its estimate is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import Evidence, Scope
from precond.filters.hessian_diagonal import HessianDiagonal
from precond.math.draws import signs
from precond.optim import AdaHessian, Optimizer
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.observing import Observing
from precond.recipes.hutchinson import adahessian


def quartic(seed, shape):
    """Return a function with full, changing Hessians, its gradient and its products, in NumPy."""
    rng, n = np.random.default_rng(seed), int(np.prod(shape))
    a = rng.standard_normal((n, n))
    a = a @ a.T / n

    def gradient(w):
        return (a @ w.ravel() + w.ravel() ** 3).reshape(w.shape)

    def product(w, z):
        return (a @ z.ravel() + 3 * w.ravel() ** 2 * z.ravel()).reshape(w.shape)

    def torch_function(w):
        flat = w.flatten()
        return flat @ torch.tensor(a) @ flat / 2 + (flat**4).sum() / 4

    return torch_function, gradient, product, rng.standard_normal(shape)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 2, 3, 2)])
def test_matches_the_equations(shape, monkeypatch):
    """With kernels of four axes averaged, signs that are handed to both, and decay."""
    function, gradient, product, start = quartic(0, shape)
    drawn = []

    def recorded(steps, like, stream=0):
        drawn.append(signs(steps, like, stream))
        return drawn[-1]

    monkeypatch.setattr("precond.optim.probe.signs", recorded)
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = Optimizer([weight], adahessian(b1=0.8, b2=0.9, eps=1e-3), lr=0.05, weight_decay=0.1)

    def closure():
        optimizer.zero_grad()
        loss = function(weight)
        loss.backward()
        return loss

    for _ in range(12):
        optimizer.step(closure)

    w, m, v = start, np.zeros(shape), np.zeros(shape)
    for t, z in enumerate(drawn, 1):
        assert set(z.unique().tolist()) <= {-1.0, 1.0}
        d = np.abs(z[0].numpy() * product(w, z[0].numpy()))
        if len(shape) == 4:
            d = np.broadcast_to(d.mean(axis=(2, 3), keepdims=True), shape)
        m = 0.8 * m + 0.2 * gradient(w)
        v = 0.9 * v + 0.1 * d**2
        step = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        w = w - 0.05 * (step + 0.1 * w)
    assert len(drawn) == 12
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-5)


def test_one_step_solves_a_diagonal_quadratic():
    """Any signs give a diagonal Hessian exactly, so that the step is Newton's; `minimize` has exact products."""
    h = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    method = adahessian(b1=0.0, b2=0.0, eps=0.0)
    result = precond.minimize(lambda x: (h * (x - 2) ** 2).sum() / 2, torch.ones(3).double(), method=method, lr=1.0)
    assert (result.iterations, result.work.hvps >= 1) == (1, True)
    np.testing.assert_allclose(result.x, 2.0, rtol=1e-12)


def test_the_mean_square_of_an_estimate_is_that_of_a_row():
    rng = np.random.default_rng(0)
    hessian = torch.tensor(rng.standard_normal((4, 4)))
    hessian = hessian + hessian.T
    z = torch.tensor(rng.choice([-1.0, 1.0], size=(20_000, 4)))
    lens = HessianDiagonal()
    seen = lens.push(lens.init(z), torch.zeros_like(z), Evidence(probe=(z, z @ hessian)))
    np.testing.assert_allclose(seen.square().mean(0), hessian.square().sum(1), rtol=0.03)


def test_what_is_not_finite_is_taken_for_zero():
    z = torch.ones(2, 3)
    product = torch.tensor([[1.0, torch.inf, -2.0], [torch.nan, 0.5, 1.0]])
    lens = HessianDiagonal()
    seen = lens.push(lens.init(z), z, Evidence(probe=(z, product)))
    assert seen.tolist() == [[1.0, 0.0, 2.0], [0.0, 0.5, 1.0]]


def test_a_preconditioner_looks_at_as_much_as_the_filter_before_it():
    """Means over kernels need whole tensors, so that the method may not be run on parts of one."""
    assert Observing(HessianDiagonal(), Diagonal()).scope is Scope.MATRIX
    assert adahessian().scope is Scope.MATRIX


def test_the_class_is_the_recipe():
    weights = [torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    curvatures = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    one = AdaHessian([weights[0]], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)
    two = Optimizer([weights[1]], adahessian(b1=0.8, b2=0.9, eps=1e-3), lr=0.1, weight_decay=0.1)
    for weight, optimizer in zip(weights, (one, two), strict=True):

        def closure(weight=weight, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (curvatures * weight**2).sum() / 2
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
    assert torch.equal(*weights)
    assert (AdaHessian([weights[0]]).defaults["lr"], AdaHessian([weights[0]]).defaults["eps"]) == (0.15, 1e-4)
