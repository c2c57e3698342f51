"""KL-Shampoo against a plain loop with full factors, and what its factors estimate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Cadence, Evidence
from precond.optim import KLShampoo, Optimizer
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.kullback_leibler import KLKronecker
from precond.recipes.kullback_leibler import kl_shampoo
from tests.papers.networks import KroneckerQuadratic, assert_close, gradients, run, start


def along(v, matrix, mode):
    return np.moveaxis(np.tensordot(matrix, v, axes=(1, mode)), 0, mode)


def gram(v, mode):
    unfolded = np.moveaxis(v, mode, 0).reshape(v.shape[mode], -1)
    return unfolded @ unfolded.T * v.shape[mode] / v.size


def reference(w, stream, lr, b1=0.9, b2=0.98, eps=1e-8, every=10, first=0.1, gain=4000, weight_decay=0.0):
    """The published algorithm with the factors in the tensor's own coordinates, as printed there."""
    modes = range(w.ndim)
    factors = [(1 - b2) * gram(stream[0], i) for i in modes]
    bases = [np.linalg.eigh(s)[1][:, ::-1] for s in factors]
    inverse_roots = [np.full(n, first**-0.5) for n in w.shape]
    limit = [max(10, min(n, gain)) for n in w.shape]
    m = np.zeros_like(w)
    for t, g in enumerate(stream[1:], start=1):
        m = b1 * m + (1 - b1) * g
        turned = m
        for i in modes:
            turned = along(turned, bases[i].T, i)
        scale = np.ones(())
        for i in modes:
            scale = scale[..., None] * inverse_roots[i]
        u = turned * scale / (1 + scale * eps)
        for i in modes:
            u = along(u, bases[i], i)
        w = w - lr * u
        w = w - lr * weight_decay * w
        new = []
        for i in modes:
            white = g
            for j in modes:
                if j != i:
                    white = along(white, np.diag(inverse_roots[j]) @ bases[j].T, j)
            factors[i] = b2 * factors[i] + (1 - b2) * gram(white, i)
            diagonal = np.diag(bases[i].T @ gram(white, i) @ bases[i])
            values = b2 / inverse_roots[i] ** 2 + (1 - b2) * diagonal
            new.append(np.minimum(values**-0.5, limit[i]))
        inverse_roots = new
        if t % every == 0:
            bases = [np.linalg.qr(s @ q)[0] for s, q in zip(factors, bases, strict=True)]
    return w


@pytest.mark.parametrize(
    "settings",
    [{}, {"b1": 0.5, "b2": 0.9, "every": 3, "eps": 1e-3}, {"every": 1, "first": 1.0, "b2": 0.8, "gain": 10}],
)
def test_equals_the_published_algorithm(settings):
    # Square shapes: otherwise the first factors have null spaces, whose basis is arbitrary.
    shapes = ((5, 5), (5, 5), (4, 4), (2, 2))
    stream = gradients(31, shapes)
    ours = {("start" if k == "first" else k): v for k, v in settings.items()}
    method = kl_shampoo(stagger=False, **ours)
    found = run(lambda ps: Optimizer(ps, method, lr=0.02, weight_decay=0.1), stream, start(shapes))
    expected = [
        reference(w.detach().numpy(), [given[i] for given in stream], 0.02, weight_decay=0.1, **settings)
        for i, w in enumerate(start(shapes))
    ]
    assert_close(found, expected, 1e-9)


def test_tensors_have_one_factor_for_each_axis():
    shapes = ((2, 2, 2), (2, 2, 2))
    stream = gradients(21, shapes)
    found = run(lambda ps: Optimizer(ps, kl_shampoo(stagger=False, every=4), lr=0.02), stream, start(shapes))
    expected = [
        reference(w.detach().numpy(), [given[i] for given in stream], 0.02, every=4)
        for i, w in enumerate(start(shapes))
    ]
    assert_close(found, expected, 1e-9)


def divergence(truth, estimate):
    """Kullback-Leibler divergence of normal distributions, up to scale: what the factors minimize."""
    solved = np.linalg.solve(estimate, truth)
    return 0.5 * (np.trace(solved) - np.linalg.slogdet(solved)[1] - len(truth))


def test_headline_factors_come_nearer_to_the_covariance_than_those_of_shampoo():
    """On gradients whose covariance is a sum of Kronecker products, scaled as suits Shampoo's factors best."""
    rng = np.random.default_rng(27)
    rows, columns = 4, 3

    def spd(n):
        q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        return q * 10.0 ** rng.uniform(-3, 0, n) @ q.T

    truth = sum(np.kron(spd(rows), spd(columns)) for _ in range(3))
    samples = (rng.standard_normal((1500, 12)) @ np.linalg.cholesky(truth).T).reshape(-1, rows, columns)
    part = KLKronecker(beta=0.995)
    state = part.init(torch.zeros(1, rows, columns, dtype=torch.float64))
    shampoo = Kronecker(beta=0.995, eps=0.0)
    other = shampoo.init(torch.zeros(1, rows, columns, dtype=torch.float64))
    part.prime(state, Evidence(torch.tensor(samples[:1])))
    for sample in samples[1:]:
        evidence = Evidence(torch.tensor(sample)[None])
        part.observe(state, evidence)
        shampoo.observe(other, evidence)
        part.refresh(state)
    left, right = ((q[0] * value[0] @ q[0].mT).numpy() for q, value in zip(state.bases, state.values, strict=True))
    ours = divergence(truth, np.kron(left, right))
    left, right = (factor[0].numpy() for factor in other.factors)
    theirs = divergence(truth, np.kron(left, right) / np.trace(left))
    assert ours < 0.8 * theirs


def test_headline_beats_shampoo_without_grafting():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(-3, 0.1, 0.5)
    ours = problem.best(lambda ps, lr: Optimizer(ps, kl_shampoo(b2=0.95), lr=lr), lrs, 200, linear_decay=True)
    base = kl_shampoo(b2=0.95).rules[0][1]
    plain = dataclasses.replace(base, preconditioner=Kronecker(0.95, exponent=-0.5), cadence=Cadence(every=10))
    theirs = problem.best(lambda ps, lr: Optimizer(ps, plain, lr=lr), lrs, 200, linear_decay=True)
    assert ours < theirs


def test_gains_are_bounded_and_zero_gradients_move_nothing():
    params = start([(3, 2)])
    ours = run(lambda ps: KLShampoo(ps, weight_decay=0.0), [[np.zeros((3, 2))]] * 40, params)
    assert_close(ours, [p.detach().numpy() for p in start([(3, 2)])], 0.0)
    part = KLKronecker(beta=0.5, gain=20.0)
    state = part.init(torch.zeros(1, 30, 2, dtype=torch.float64))
    for _ in range(100):
        part.observe(state, Evidence(torch.zeros(1, 30, 2, dtype=torch.float64)))
    assert math.isclose(float(state.values[0].min()), 20.0**-2)
    assert math.isclose(float(state.values[1].min()), 10.0**-2)


def test_refusals():
    with pytest.raises(BadInputError, match="beta"):
        KLKronecker(beta=1.0)
    with pytest.raises(BadInputError, match="betas"):
        KLShampoo([torch.zeros(2, 2)], betas=(0.9, 1.0))


def test_eigenvalues_of_vectors_side_by_side_are_their_own():
    part, like = KLKronecker(beta=0.5, start=1.0), torch.zeros(2, 3, dtype=torch.float64)
    state = part.init(like)
    gradient = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    part.observe(state, Evidence(gradient=gradient))
    torch.testing.assert_close(state.values[0], 0.5 + 0.5 * gradient.square())
