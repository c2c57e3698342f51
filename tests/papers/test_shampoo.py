"""Shampoo against a plain loop with dense unfoldings, and full-matrix AdaGrad for vectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.optim import Optimizer, Shampoo
from precond.preconditioners import kronecker
from precond.recipes.matrix import shampoo
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start, with_gaps


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * values**exponent @ vectors.T


def reference(
    w, stream, lr, momentum=0.0, beta=1.0, epsilon=1e-4, weight_decay=0.0, every=1, max_dim=8192, grafting="none"
):
    shape = w.shape
    w = w.reshape(shape or (1,))
    modes = [i for i in range(w.ndim) if w.shape[i] <= max_dim]
    factors = {i: epsilon * np.eye(w.shape[i]) for i in modes}
    velocity, squares = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream, start=1):
        g = g.reshape(w.shape)
        squares += g**2
        for i in modes:
            unfolded = np.moveaxis(g, i, 0).reshape(w.shape[i], -1)
            factors[i] = beta * factors[i] + (1.0 if beta == 1.0 else 1.0 - beta) * unfolded @ unfolded.T
        if t == 1 or t % every == 0:
            roots = {i: power(factors[i], -1.0 / (2 * len(modes))) for i in modes}
        update = g
        for i in modes:
            update = np.moveaxis(np.tensordot(roots[i], update, axes=(1, i)), 0, i)
        if grafting == "sgd":
            update = update * np.linalg.norm(g) / np.linalg.norm(update)
        if grafting == "adagrad":
            update = update * np.linalg.norm(g / (np.sqrt(squares) + 1e-10)) / np.linalg.norm(update)
        velocity = momentum * velocity + update
        w = (1 - lr * weight_decay) * w - lr * velocity
    return w.reshape(shape)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"beta": 0.9, "epsilon": 1e-2, "grafting": "sgd"},
        {"grafting": "adagrad", "epsilon": 1e-3},
    ],
)
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: Shampoo(ps, lr=0.1, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.1, **settings), stream, start()), 1e-9)


def test_roots_may_be_taken_less_often_and_long_axes_left_out():
    stream = gradients(20)
    method = shampoo(every=5, max_dim=4, momentum=0.5)
    method = dataclasses.replace(method, cadence=dataclasses.replace(method.cadence, stagger=False))
    ours = run(lambda ps: Optimizer(ps, method, lr=0.1), stream, start())
    theirs = each(lambda w, gs: reference(w, gs, 0.1, every=5, max_dim=4, momentum=0.5), stream, start())
    assert_close(ours, theirs, 1e-9)


def test_on_vectors_it_is_full_matrix_adagrad():
    stream = gradients(20, [(16,)])
    w, outer = start([(16,)])[0].detach().numpy().copy(), 1e-4 * np.eye(16)
    for (g,) in stream:
        outer += np.outer(g, g)
        w -= 0.1 * power(outer, -0.5) @ g
    assert_close(run(lambda ps: Shampoo(ps, lr=0.1), stream, start([(16,)])), [w], 1e-10)


def test_the_factors_bound_full_matrix_adagrad():
    """Lemma 8 of the paper: ``eps I + sum vec(G) vec(G)^T <= r (L^(1/2) kron R^(1/2))`` for ranks at most ``r``."""
    rng = np.random.default_rng(0)
    m, n, rank, eps = 5, 4, 2, 1e-2
    full, left, right = rank * eps * np.eye(m * n), eps * np.eye(m), eps * np.eye(n)
    for _ in range(6):
        g = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
        full += np.outer(g.ravel(), g.ravel())
        left += g @ g.T
        right += g.T @ g
    gap = rank * np.kron(power(left, 0.5), power(right, 0.5)) - full
    assert np.linalg.eigvalsh(gap).min() > -1e-10


def test_headline_far_below_adagrad_on_a_kronecker_quadratic():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(0.0, 1.6, 0.5)
    ours = problem.best(lambda ps, lr: Shampoo(ps, lr=lr), lrs, 100)
    adagrad = problem.best(lambda ps, lr: torch.optim.Adagrad(ps, lr=lr), lrs, 100)
    assert ours < 1e-3 * adagrad


def test_zero_gradients_move_nothing_and_unknown_grafts_are_refused():
    ours = run(lambda ps: Shampoo(ps, grafting="adagrad"), [[np.zeros((3, 2))]] * 3, start([(3, 2)]))
    assert np.array_equal(ours[0], start([(3, 2)])[0].detach().numpy())
    with pytest.raises(BadInputError, match="adagrad"):
        Shampoo([torch.zeros(2, 2)], grafting="lion")


def test_the_first_roots_of_a_long_axis_are_those_of_the_whole_factor(monkeypatch):
    """While the factors hold few gradients the roots are taken from a low-rank form, and give the same steps."""
    shapes = ((3, 40), (24, 2, 2))
    stream = gradients(9, shapes)
    calls = []
    taken = kronecker.low_rank_inverse_root
    monkeypatch.setattr(kronecker, "low_rank_inverse_root", lambda *a, **k: calls.append(1) or taken(*a, **k))
    found = run(lambda ps: Optimizer(ps, shampoo(), lr=0.05), stream, start(shapes))
    assert 6 < len(calls) < 18
    expected = each(lambda w, given: reference(w, given, 0.05), stream, start(shapes))
    assert_close(found, expected, 1e-7)
