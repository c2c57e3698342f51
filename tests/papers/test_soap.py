"""SOAP against a plain loop of the published algorithm, and its reductions to Adam."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import Method
from precond.optim import SOAP, AdamW, Optimizer
from precond.recipes.matrix import soap
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start


def rotate(v, bases, transpose):
    for i, q in enumerate(bases):
        if q is not None:
            v = np.moveaxis(np.tensordot(q.T if transpose else q, v, axes=(1, i)), 0, i)
    return v


def reference(
    w, stream, lr, betas=(0.95, 0.95), beta=None, eps=1e-8, weight_decay=0.01, every=10, max_dim=10000, vectors=False,
    normalize=False, side=None,
):  # fmt: skip
    """The published algorithm, one tensor at a time, with the momentum kept in the rotated basis."""
    beta = betas[1] if beta is None else beta
    kept = [(w.ndim >= 2 or vectors) and n <= max_dim and side in (None, i) for i, n in enumerate(w.shape)]
    factors = [np.zeros((n, n)) if keep else None for n, keep in zip(w.shape, kept, strict=True)]

    def absorb(g):
        for i, factor in enumerate(factors):
            if factor is not None:
                unfolded = np.moveaxis(g, i, 0).reshape(g.shape[i], -1)
                factors[i] = beta * factor + (1 - beta) * unfolded @ unfolded.T

    absorb(stream[0])
    bases = [None if f is None else np.linalg.eigh(f)[1][:, ::-1] for f in factors]
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream[1:], start=1):
        turned = rotate(g, bases, True)
        m = betas[0] * m + (1 - betas[0]) * turned
        v = betas[1] * v + (1 - betas[1]) * turned**2
        step = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        u = rotate(m / (np.sqrt(v) + eps), bases, False)
        u = u / (1e-30 + np.sqrt(np.mean(u**2))) if normalize else u
        w = w - step * u
        w = w - lr * weight_decay * w
        absorb(g)
        if t % every == 0:
            m = rotate(m, bases, False)
            for i, (factor, q) in enumerate(zip(factors, bases, strict=True)):
                if factor is not None:
                    order = np.argsort(-np.diag(q.T @ factor @ q), kind="stable")
                    v = np.take(v, order, axis=i)
                    bases[i] = np.linalg.qr(factor @ q[:, order])[0]
            m = rotate(m, bases, True)
    return w


def synchronous(**settings) -> Method:
    return soap(stagger=False, **settings)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"b1": 0.9, "b2": 0.99, "shampoo_beta": 0.8, "every": 1}, {"betas": (0.9, 0.99), "beta": 0.8, "every": 1}),
        ({"every": 3, "max_dim": 4, "eps": 1e-4}, {"every": 3, "max_dim": 4, "eps": 1e-4}),
    ],
)
def test_equals_the_published_algorithm(ours, theirs):
    # Square shapes alone: with fewer columns than rows the first factors have null spaces, whose basis is arbitrary.
    shapes = ((5, 5), (5, 5), (4, 4), (6,), (6,), (), (4, 2, 2), (3, 2, 2, 2))
    stream = gradients(41, shapes)
    found = run(lambda ps: Optimizer(ps, synchronous(**ours), lr=0.05, weight_decay=0.1), stream, start(shapes))
    expected = each(lambda w, gs: reference(w, gs, 0.05, weight_decay=0.1, **theirs), stream, start(shapes))
    assert_close(found, expected, 1e-10)


def test_published_options():
    """Merged axes, vectors that turn, normalized directions; one side, of the paper."""
    shapes = ((4, 2, 2), (6,), (5, 5))
    stream = gradients(21, shapes)
    stream = [[g.reshape(s) for g, s in zip(given, shapes, strict=True)] for given in stream]
    method = synchronous(merge=4, vectors=True, normalize=True, every=3)
    found = run(lambda ps: Optimizer(ps, method, lr=0.05, weight_decay=0.01), stream, start(shapes))
    merged = [(4, 4), (6,), (5, 5)]
    options = {"vectors": True, "normalize": True, "every": 3}
    expected = [
        reference(w.detach().numpy().reshape(m), [given[i].reshape(m) for given in stream], 0.05, **options).reshape(s)
        for i, (w, m, s) in enumerate(zip(start(shapes), merged, shapes, strict=True))
    ]
    assert_close([found[0], found[2]], [expected[0], expected[2]], 1e-9)
    assert np.isfinite(found[1]).all()  # a vector's first factor has a null space, whose basis is arbitrary

    tall = run(lambda ps: SOAP(ps, lr=0.05, one_sided=True), gradients(21, [(7, 4)]), start([(7, 4)]))
    (w,) = start([(7, 4)])
    by_hand = reference(w.detach().numpy(), [g for (g,) in gradients(21, [(7, 4)])], 0.05, side=1)
    assert_close(tall, [by_hand], 1e-9)


def test_a_basis_turns_only_when_it_has_become_too_bad():
    stream = gradients(30, [(4, 4), (4, 4)])

    def train(**settings):
        return run(lambda ps: Optimizer(ps, synchronous(**settings), lr=0.05), stream, start([(4, 4), (4, 4)]))

    assert_close(train(every=2, tolerance=1e-12), train(every=2), 1e-12)
    assert_close(train(every=2, tolerance=1.0), train(every=1000), 1e-12)
    some = train(every=2, tolerance=0.1)
    assert not np.allclose(some[0], train(every=2)[0])


def test_the_first_gradient_takes_no_step():
    params = start()
    after = run(lambda ps: SOAP(ps, lr=1.0), gradients(1), params)
    assert_close(after, [p.detach().numpy() for p in start()], 0.0)


def test_on_vectors_and_without_room_for_factors_it_is_adam():
    """``Q = I``: equal to Adam on the gradients after the first, but for the place of ``eps`` and of the decay."""
    stream = gradients(30)
    ours = run(lambda ps: SOAP(ps, lr=0.05, max_precond_dim=0, eps=0.0, weight_decay=0.0), stream, start())
    adam = run(lambda ps: AdamW(ps, lr=0.05, betas=(0.95, 0.95), eps=0.0, weight_decay=0.0), stream[1:], start())
    assert_close(ours, adam, 1e-12)


def test_trajectory_turns_with_the_problem():
    """Adam's does not: rotate the problem, and SOAP's iterates rotate along."""
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    stream = gradients(20, [(4, 4)])
    turned = [[left @ g @ right] for (g,) in stream]

    def moved(given):
        ours = run(lambda ps: Optimizer(ps, synchronous(every=1), lr=0.05), given, [torch.zeros(4, 4).double()])
        return ours[0]

    assert_close([moved(turned)], [left @ moved(stream) @ right], 1e-8)


def test_staggered_refreshes_change_the_time_of_a_turn_alone():
    """With one tensor there is nothing to stagger."""
    stream = gradients(25, [(5, 5)])
    apart = run(lambda ps: SOAP(ps, lr=0.05, weight_decay=0.0), stream, start([(5, 5)]))
    together = run(lambda ps: Optimizer(ps, synchronous(), lr=0.05), stream, start([(5, 5)]))
    assert_close(apart, together, 0.0)
    assert dataclasses.replace(soap().cadence, stagger=False) == synchronous().cadence


def test_headline_below_adam_on_a_kronecker_quadratic():
    problem = KroneckerQuadratic()
    ours = problem.best(
        lambda ps, lr: SOAP(ps, lr=lr, weight_decay=0.0), 10.0 ** np.array([-1.5, -1.0]), 500, linear_decay=True
    )
    adam = problem.best(
        lambda ps, lr: AdamW(ps, lr=lr, betas=(0.95, 0.95), weight_decay=0.0),
        10.0 ** np.arange(-2.0, -0.4, 0.5),
        500,
        linear_decay=True,
    )
    assert ours <= adam / 2
