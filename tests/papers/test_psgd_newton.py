"""PSGD with the Newton criterion: fits to Hessian products against plain loops, and training with them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Evidence, IncompatibleError, map_tensors
from precond.optim import Optimizer, PSGDNewton
from precond.preconditioners.fitted_affine import FittedAffine
from precond.preconditioners.fitted_kron import FittedKron
from precond.recipes.psgd_newton import psgd_newton
from tests.papers.test_psgd import EPS, drawn, spectral
from tests.papers.test_psgd_affine import fit


def probes(steps, shape, seed=0):
    """Return pairs of a vector and its product with one indefinite Hessian."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    hessian = rng.standard_normal((n, n))
    hessian = hessian + hessian.T
    vs = [rng.standard_normal(shape) for _ in range(steps)]
    return hessian, [(v, (hessian @ v.ravel()).reshape(shape)) for v in vs]


def observed(part, pairs):
    v, _ = pairs[0]
    state = part.init(torch.empty(1, *v.shape, dtype=torch.float64))
    for v, h in pairs:
        part.observe(state, Evidence(probe=(torch.tensor(v)[None], torch.tensor(h)[None])))
    return state


def test_kronecker_factors_equal_a_plain_loop():
    shape, lr, damping = (4, 3), 0.2, 1e-9
    _, pairs = probes(20, shape)
    part = FittedKron(lr=lr, damping=damping, max_skew=10.0, criterion="newton")
    state = observed(part, pairs)

    v, h = pairs[0]
    scale = np.mean(v**2) ** 0.25 * (np.mean(h**4) + damping**4) ** (-1 / 8)
    qs, bounds = [scale**0.5 * np.eye(n) for n in shape], [0.0, 0.0]
    for step, (v, h) in enumerate(pairs):
        h = h + (damping + EPS * np.abs(h)) * drawn(shape, step)
        ps = [q.T @ q for q in qs]
        ph, new = ps[0] @ h @ ps[1], []
        for i, q in enumerate(qs):
            x, y = (ph, v) if i == 0 else (ph.T, v.T)
            t1, t2 = x @ x.T, y @ y.T
            bounds[i] = max(0.9 * bounds[i] + 0.1 * spectral(t1 + t2), spectral(t1 + t2))
            q = q - lr / bounds[i] * (t1 - t2) @ q
            r = q.T - q
            r = r / (spectral(r) + np.finfo(np.float64).tiny)
            slope, bend = np.trace(r @ q), np.trace(r @ r @ q)
            a = min(-slope / bend, 0.125) if bend < 0 else 0.125
            new.append(q + a * (r @ q + a / 2 * r @ r @ q))
        qs = new
    for ours, theirs in zip(state.factors, qs, strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-8)


def test_triangular_factors_equal_a_plain_loop():
    shape, lr, damping = (4, 3), 0.2, 1e-9
    _, pairs = probes(20, shape)
    state = observed(FittedAffine(lr=lr, damping=damping, criterion="newton"), pairs)
    v, h = pairs[0]
    scale = np.mean(v**2) ** 0.25 * (np.mean(h**4) + damping**4) ** (-1 / 8)
    left, right, bounds = scale**0.5 * np.eye(4), scale**0.5 * np.eye(3), [0.0, 0.0, True, True]
    for step, pair in enumerate(pairs):
        left, right = fit(left, right, bounds, pair, step, lr, damping)
    np.testing.assert_allclose(state.left[0], left, rtol=1e-8)
    np.testing.assert_allclose(state.right[0], right, rtol=1e-8)


@pytest.mark.parametrize("fitted", [FittedAffine, functools.partial(FittedKron, max_skew=8.0)], ids=["affine", "kron"])
def test_headline_the_absolute_value_of_an_indefinite_hessian_is_inverted(fitted):
    n, steps = 8, 800
    hessian, pairs = probes(steps, (n,))
    values, vectors = np.linalg.eigh(hessian)
    assert values.min() < 0 < values.max()
    state = fitted(criterion="newton").init(torch.empty(1, n, dtype=torch.float64))
    for t, (v, h) in enumerate(pairs):
        part = fitted(lr=0.5 * 0.02 ** (t / steps), criterion="newton")
        part.observe(state, Evidence(probe=(torch.tensor(v)[None], torch.tensor(h)[None])))
    repeated = map_tensors(lambda x: x.expand(n, *x.shape[1:]), state)
    p = part.apply(repeated, torch.eye(n, dtype=torch.float64)).numpy()
    absolute = vectors @ np.diag(np.abs(values)) @ vectors.T
    assert np.linalg.norm(p @ absolute - np.eye(n)) / np.sqrt(n) < 0.25


def test_minimize_feeds_exact_probes():
    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    x0 = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    method = psgd_newton(form="affine", fit_lr=0.5)
    result = precond.minimize(rosenbrock, x0, method=method, lr=1.0, max_iterations=800, tol=1e-3)
    assert result.converged
    one, two = (precond.minimize(rosenbrock, x0, method=method, lr=1.0, max_iterations=9) for _ in range(2))
    assert one.work.hvps == one.iterations == 9, "one probe a step"
    assert torch.equal(one.x, two.x), "what is drawn must depend on the step alone"


class Bowl(torch.nn.Module):
    """A quadratic in a matrix and a vector, whose Hessian has condition 1000."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.ones(6, 6, dtype=torch.float64))
        self.vector = torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
        self.left = torch.logspace(0, 1.5, 6, dtype=torch.float64)[:, None]

    def forward(self):
        return (
            0.5 * (self.left * self.matrix.square() * self.left.T).sum()
            + 0.5 * (self.left[:, 0] * self.vector**2).sum()
        )


@pytest.mark.parametrize("form", ["kron", "affine", "lra"])
def test_training_makes_its_probes_by_evaluating_the_batch_twice(form):
    bowl, calls = Bowl(), []
    optimizer = PSGDNewton(bowl.named_parameters(), lr=0.5, form=form, preconditioner_lr=0.5)

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = bowl()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(200)]
    assert len(calls) == 2 * 200
    assert losses[-1] < 1e-4 * losses[0]
    plain, sgd = Bowl(), []
    descent = torch.optim.SGD(plain.parameters(), lr=1e-3)  # 1 / the largest eigenvalue
    for _ in range(200):
        descent.zero_grad()
        loss = plain()
        loss.backward()
        descent.step()
        sgd.append(loss.item())
    assert losses[-1] < 1e-2 * sgd[-1]


def test_refuses_a_step_without_a_closure_and_unknown_forms():
    w = torch.zeros(2, 2, requires_grad=True)
    w.grad = torch.ones_like(w)
    with pytest.raises(IncompatibleError, match="closure"):
        Optimizer([w], psgd_newton()).step()
    with pytest.raises(BadInputError, match="'kron', 'affine' or 'lra'"):
        psgd_newton(form="dense")
    with pytest.raises(BadInputError, match="criterion"):
        FittedKron(criterion="fisher")
