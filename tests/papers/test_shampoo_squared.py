"""The square of Shampoo's preconditioner against a plain loop, and against the best Kronecker product."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import Evidence
from precond.optim import ShampooSquared
from precond.preconditioners.kronecker import Kronecker
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps
from tests.papers.test_shampoo import power


def reference(w, stream, lr, momentum=0.0, beta=1.0, epsilon=1e-4, weight_decay=0.0):
    shape = w.shape
    w = w.reshape(shape or (1,))
    k = w.ndim
    factors = [epsilon * np.eye(n) for n in w.shape]
    velocity = np.zeros_like(w)
    for g in stream:
        g = update = g.reshape(w.shape)
        for i in range(k):
            unfolded = np.moveaxis(g, i, 0).reshape(w.shape[i], -1)
            factors[i] = beta * factors[i] + (1.0 if beta == 1.0 else 1.0 - beta) * unfolded @ unfolded.T
            update = np.moveaxis(np.tensordot(power(factors[i], -0.5), update, axes=(1, i)), 0, i)
        trace = np.prod([np.trace(f) for f in factors]) ** (1 / k)
        velocity = momentum * velocity + trace ** ((k - 1) / 2) * update
        w = (1 - lr * weight_decay) * w - lr * velocity
    return w.reshape(shape)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "beta": 0.9, "epsilon": 1e-2, "weight_decay": 0.1}])
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(15))
    ours = run(lambda ps: ShampooSquared(ps, lr=0.1, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.1, **settings), stream, start()), 1e-7)


def test_the_units_are_those_of_adagrad():
    """Multiplying all gradients by a number changes nothing but the weight of ``eps``."""
    stream = gradients(10, [(4, 3), (2, 3, 2)])
    larger = [[100 * g for g in given] for given in stream]
    ours = run(lambda ps: ShampooSquared(ps, epsilon=1e-12), stream, start([(4, 3), (2, 3, 2)]))
    theirs = run(lambda ps: ShampooSquared(ps, epsilon=1e-12), larger, start([(4, 3), (2, 3, 2)]))
    assert_close(ours, theirs, 1e-6)


def test_headline_its_factors_are_nearly_the_best_kronecker_product():
    rng = np.random.default_rng(0)
    m, n, samples = 8, 6, 400
    left, right = (rng.standard_normal((d, d)) * 10.0 ** rng.uniform(-1, 0, d) for d in (m, n))
    part = Kronecker(eps=1e-12)
    state = part.init(torch.empty(1, m, n, dtype=torch.float64))
    second = np.zeros((m, n, m, n))
    for _ in range(samples):
        g = left @ rng.standard_normal((m, n)) @ right
        part.observe(state, Evidence(gradient=torch.tensor(g)[None]))
        second += np.einsum("ij,kl->ijkl", g, g)
    l, r = (factor[0].numpy() for factor in state.factors)
    rearranged = second.transpose(0, 2, 1, 3).reshape(m * m, n * n)
    assert np.allclose(rearranged @ np.eye(n).ravel(), l.ravel()), "one half-step of power iteration from the identity"
    assert np.allclose(np.eye(m).ravel() @ rearranged, r.ravel())

    def cosine(a, b):
        return a.ravel() @ rearranged @ b.ravel() / (np.linalg.norm(rearranged) * np.linalg.norm(a) * np.linalg.norm(b))

    optimal = np.linalg.svd(rearranged, compute_uv=False)[0] / np.linalg.norm(rearranged)
    squared, own = cosine(l, r), cosine(power(l, 0.5), power(r, 0.5))
    assert squared >= 0.99 * optimal
    assert own < 0.98 * squared


def test_the_scaled_factors_have_the_size_of_the_second_moment():
    """With one gradient of rank one the preconditioned gradient has the norm of AdaGrad's on one number: 1."""
    part = Kronecker(eps=1e-8, exponent=-0.5, trace_scale=True)
    rng = np.random.default_rng(0)
    for shape in ((5,), (4, 3), (2, 3, 4)):
        vectors = [rng.standard_normal(d) for d in shape]
        g = vectors[0]
        for v in vectors[1:]:
            g = np.multiply.outer(g, v)
        state = part.init(torch.empty(1, *shape, dtype=torch.float64))
        part.observe(state, Evidence(gradient=torch.tensor(g)[None]))
        part.refresh(state)
        assert float(part.apply(state, torch.tensor(g)[None]).norm()) == pytest.approx(1.0, rel=1e-4)
