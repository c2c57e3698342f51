"""Scalable Shampoo against a plain loop with exact roots, its merging of axes, and its delayed roots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precond.core import BadInputError
from precond.math.factors.root_methods import Eigen
from precond.math.tensors.shapes import merge_dims
from precond.optim import Optimizer, ScalableShampoo
from precond.recipes.kronecker import scalable_shampoo
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start, with_gaps
from tests.papers.test_shampoo import power

MERGED = {
    (5, 3): (5, 3),
    (4, 7): (4, 7),
    (6,): (6,),
    (3,): (3,),
    (): (1,),
    (1, 5): (5,),
    (5, 1): (5,),
    (4, 2, 3, 3): (8, 9),
    (3, 2, 2): (6, 2),
}
"""The test's shapes, merged by hand up to 9."""


def reference(
    w, stream, lr, momentum=0.9, nesterov=True, beta=1.0, eps=1e-6, graft="sgd", every=1, first=1, ridge=0.0,
    weight_decay=0.0, exponent=None,
):  # fmt: skip
    shape, inner = w.shape, MERGED[w.shape]
    w = w.reshape(inner)
    factors = [eps * np.eye(n) for n in inner]
    velocity, squares = np.zeros(inner), np.zeros(inner)
    for t, g in enumerate(stream, start=1):
        g = g.reshape(inner)
        squares += g**2
        d = g if graft == "sgd" else g / (np.sqrt(squares) + 1e-6)
        u = g
        if len(inner) > 1:
            for i, n in enumerate(inner):
                unfolded = np.moveaxis(g, i, 0).reshape(n, -1)
                factors[i] = beta * factors[i] + (1.0 if beta == 1.0 else 1.0 - beta) * unfolded @ unfolded.T
            if t == 1 or t % every == 0:
                largest = [np.linalg.eigvalsh(f)[-1] for f in factors]
                roots = [
                    power(f + ridge * top * np.eye(len(f)), exponent or -1 / (2 * len(inner)))
                    for f, top in zip(factors, largest, strict=True)
                ]
            for i, root in enumerate(roots):
                u = np.moveaxis(np.tensordot(root, u, axes=(1, i)), 0, i)
        u = d if t < first else u * np.linalg.norm(d) / np.linalg.norm(u)
        velocity = momentum * velocity + u
        w = (1 - lr * weight_decay) * w - lr * (u + momentum * velocity if nesterov else velocity)
    return w.reshape(shape)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"graft": "adagrad", "nesterov": False, "beta": 0.9, "eps": 1e-3},
        {"momentum": 0.5, "exponent": -0.5, "eps": 1e-2},
    ],
)
def test_equals_a_plain_loop(options):
    stream = with_gaps(gradients(15))
    method = scalable_shampoo(block=9, root=Eigen(), **options)
    ours = run(lambda ps: Optimizer(ps, method, lr=0.1, weight_decay=0.1), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.1, weight_decay=0.1, **options), stream, start()), 1e-8)


def test_with_newton_roots_and_a_ridge():
    stream = gradients(15)
    ours = run(lambda ps: ScalableShampoo(ps, block_size=9, matrix_eps=1e-4), stream, start())
    theirs = each(lambda w, gs: reference(w, gs, 0.1, eps=1e-4, ridge=1e-4), stream, start())
    assert_close(ours, theirs, 1e-4)


def test_roots_may_be_taken_later_and_less_often():
    stream = gradients(12)
    method = scalable_shampoo(block=9, root=Eigen(), every=5, start=4)
    method = dataclasses.replace(method, cadence=dataclasses.replace(method.cadence, stagger=False))
    ours = run(lambda ps: Optimizer(ps, method, lr=0.1), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.1, every=5, first=4), stream, start()), 1e-8)


def test_single_precision_roots_stay_near_double():
    stream = gradients(15)
    ours = run(lambda ps: ScalableShampoo(ps, block_size=9), stream, start(dtype=torch.float32))
    theirs = run(lambda ps: ScalableShampoo(ps, block_size=9), stream, start())
    assert_close(ours, theirs, 5e-3)


@pytest.mark.parametrize(
    ("dims", "limit", "merged"),
    [
        ((1, 2, 512, 1, 2048, 1, 3, 4), 1024, (1024, 2048, 12)),
        ((64, 16, 3, 3), 128, (64, 48, 3)),
        ((1, 1), 128, (1,)),
        ((), 128, (1,)),
        ((300,), 128, (300,)),
        ((5, 300, 2), 128, (5, 300, 2)),
    ],
)
def test_axes_are_merged_from_left_to_right(dims, limit, merged):
    assert merge_dims(dims, limit) == merged


@settings(max_examples=50, deadline=None)
@given(dims=st.lists(st.integers(1, 40), max_size=6), limit=st.integers(1, 100))
def test_merging_keeps_the_number_of_entries(dims, limit):
    merged = merge_dims(dims, limit)
    assert np.prod(merged) == np.prod(dims)
    assert all(dim <= limit or dim in dims for dim in merged)


def test_tiles_have_factors_of_their_own():
    """A matrix cut in two is two matrices with one norm to graft."""
    stream = gradients(8, [(4, 6)])
    method = scalable_shampoo(block=3, root=Eigen(), graft="sgd", momentum=0.0)
    ours = run(lambda ps: Optimizer(ps, method, lr=0.1), stream, start([(4, 6)]))
    w = start([(4, 6)])[0].detach().numpy().copy()
    factors = {(i, j): [1e-6 * np.eye(2), 1e-6 * np.eye(3)] for i in range(2) for j in range(2)}
    for (g,) in stream:
        u = np.zeros_like(g)
        for (i, j), (left, right) in factors.items():
            tile = (slice(2 * i, 2 * i + 2), slice(3 * j, 3 * j + 3))
            left += g[tile] @ g[tile].T
            right += g[tile].T @ g[tile]
            u[tile] = power(left, -0.25) @ g[tile] @ power(right, -0.25)
        w -= 0.1 * u * np.linalg.norm(g) / np.linalg.norm(u)
    assert_close(ours, [w], 1e-9)


def test_headline_fewer_steps_than_momentum_even_with_delayed_roots():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(-2.5, 0.1, 0.5)
    method = scalable_shampoo(graft="adagrad", every=10)
    ours = problem.best(lambda ps, lr: Optimizer(ps, method, lr=lr), lrs, 150)
    sgd = problem.best(
        lambda ps, lr: torch.optim.SGD(ps, lr=lr, momentum=0.9, nesterov=True), (0.3, 1.0, 2.0, 3.0), 150
    )
    assert ours < sgd / 10


def test_zero_gradients_move_nothing_and_unknown_grafts_are_refused():
    ours = run(lambda ps: ScalableShampoo(ps, block_size=2), [[np.zeros((3, 2))]] * 3, start([(3, 2)]))
    assert np.array_equal(ours[0], start([(3, 2)])[0].detach().numpy())
    with pytest.raises(BadInputError, match="adagrad"):
        ScalableShampoo([torch.zeros(2, 2)], graft="adam")
