"""4-bit Shampoo against a plain loop with a quantizer of its own, and what the paper says of eigenvectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Full, Role
from precond.math.factors.bjorck import bjorck
from precond.math.tensors.codes import dynamic_tree, linear_square
from precond.optim import Optimizer, Shampoo4bit
from precond.recipes.low_bit import shampoo_4bit
from precond.storage.blocks import Blocks
from precond.storage.off_diagonal import OffDiagonal
from tests.papers.low_bit import (
    DYNAMIC,
    LINEAR_2,
    Base,
    as_matrix,
    nearest,
    repaired,
    rounded_columns,
    rounded_off_diagonal,
)  # fmt: skip
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start

LARGE = ((64, 64), (128, 64), (6,), (65, 70), (64, 2, 6, 6))


def reference(
    w, stream, lr, base="adamw", beta=0.95, eps=1e-6, t1=2, t2=4, book=LINEAR_2, repairs=(1, 4), weight_decay=0.0,
    **options,
):  # fmt: skip
    inner = Base(w, base, lr, weight_decay, **options)
    matrix = as_matrix(w)
    sides = () if matrix is None else matrix.shape
    low = [n * n >= 4096 for n in sides]
    vectors, values, roots = ([np.eye(n) for n in sides], [eps * np.ones(n) for n in sides], [np.eye(n) for n in sides])
    for t, g in enumerate(stream, start=1):
        u = g
        if sides:
            g2 = g.reshape(matrix.shape)
            for i, gram in enumerate((g2 @ g2.T, g2.T @ g2)):
                if t % t1 == 0:
                    v = repaired(vectors[i], repairs[0] if low[i] else 0)
                    a = beta * v @ np.diag(values[i]) @ v.T + (1 - beta) * gram
                    v = np.linalg.qr(a @ v)[0]
                    values[i] = np.diag(v.T @ a @ v).copy()
                    vectors[i] = v
                if t % t2 == 0:
                    v = repaired(vectors[i], repairs[1] if low[i] else 0)
                    s = np.maximum(values[i], 0)
                    roots[i] = v @ np.diag((s + eps * s.max()) ** -0.25) @ v.T
            u = (roots[0] @ g2 @ roots[1].T).reshape(g.shape)
            for i in (0, 1):  # what was computed rests after the step
                if low[i] and t % t1 == 0:
                    vectors[i] = rounded_columns(vectors[i], book)
                if low[i] and t % t2 == 0:
                    roots[i] = rounded_off_diagonal(roots[i], book)
            u = u * np.linalg.norm(g) / np.linalg.norm(u)
        inner.step(u)
    return inner.w


def synchronous(**options):
    method = shampoo_4bit(observe_every=2, every=4, **options)
    return dataclasses.replace(method, cadence=dataclasses.replace(method.cadence, stagger=False))


@pytest.mark.parametrize("options", [{}, {"base": "sgdm", "nesterov": True}, {"b1": 0.8, "b2": 0.9, "beta": 0.5}])
def test_small_tensors_follow_the_published_algorithm(options):
    stream = gradients(17)
    ours = run(lambda ps: Optimizer(ps, synchronous(**options), lr=0.01, weight_decay=0.1), stream, start())
    theirs = each(lambda w, gs: reference(w, gs, 0.01, weight_decay=0.1, **options), stream, start())
    assert_close(ours, theirs, 1e-6)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [({}, {}), ({"code": "dynamic-tree", "before_turning": 2}, {"book": DYNAMIC, "repairs": (2, 4)})],
)
def test_large_matrices_are_quantized_as_published(options, theirs):
    stream = gradients(9, LARGE)
    ours = run(lambda ps: Optimizer(ps, synchronous(**options), lr=0.01), stream, start(LARGE))
    expected = each(lambda w, gs: reference(w, gs, 0.01, **theirs), stream, start(LARGE))
    assert_close(ours, expected, 1e-6)
    exact = dataclasses.replace(synchronous(**options), storage=Full())
    unrounded = run(lambda ps: Optimizer(ps, exact, lr=0.01), stream, start(LARGE))
    assert np.abs(unrounded[0] - ours[0]).max() > 1e-4, "nothing was quantized"


def test_state_takes_four_bits_and_a_half_for_each_entry_of_a_factor():
    (w,) = start([(256, 256)], torch.float32)
    optimizer = Shampoo4bit([w])
    w.grad = torch.ones_like(w)
    optimizer.step()
    scales_and_codes = 2 * 2 * (256 * 256 / 2 + 4 * 256 * 256 / 64)
    diagonals_values_adam = 2 * 2 * 4 * 256 + 2 * 4 * 256 * 256
    counters = optimizer.state_bytes() - scales_and_codes - diagonals_values_adam
    assert counters in range(8, 100, 8)
    assert (
        optimizer.state[w]["preconditioner.direction.inner.inner.factors.0.vectors.columns.codes"].dtype == torch.uint8
    )


def test_tables_are_those_of_the_paper():
    assert np.allclose(linear_square(4).entries, LINEAR_2)
    assert np.allclose(dynamic_tree(4).entries, DYNAMIC)
    x = torch.linspace(-1, 1, 2001).double()
    for ours, theirs in ((linear_square(4), LINEAR_2), (dynamic_tree(4), DYNAMIC)):
        decoded = ours.decode(ours.encode(x), torch.float64).numpy()
        assert np.allclose(np.abs(decoded - x.numpy()), np.abs(nearest(x.numpy(), theirs) - x.numpy()), atol=1e-12)


def spectrum(n=256, condition=1e4):
    rng = np.random.default_rng(0)
    q = torch.tensor(np.linalg.qr(rng.standard_normal((n, n)))[0])
    return q, torch.logspace(0, -np.log10(condition), n, dtype=torch.float64)


def error_of_root(vectors, values, root):
    exact = vectors * values.pow(-0.25) @ vectors.mT
    return float((root - exact).norm() / exact.norm())


def root_from(vectors, values):
    return vectors * values.pow(-0.25) @ vectors.mT


def test_headline_quantized_eigenvectors_keep_the_root_that_a_quantized_factor_loses():
    q, s = spectrum()

    def quantized(table):
        return Blocks.of(q.mT.unsqueeze(0), table, 64).decode()[0].mT

    direct = OffDiagonal().rest((q * s @ q.mT).unsqueeze(0), Role.ROOT).decode()[0]
    values, vectors = torch.linalg.eigh(direct)
    of_factor = error_of_root(q, s, root_from(vectors, values.clamp(min=1e-6)))
    plain = error_of_root(q, s, root_from(quantized(linear_square()), s))
    once = error_of_root(q, s, root_from(bjorck(quantized(linear_square()), 1), s))
    tree = error_of_root(q, s, root_from(bjorck(quantized(dynamic_tree()), 1), s))
    assert once < 0.08
    assert once < 0.6 * plain
    assert once < tree
    assert of_factor > 5 * once


def test_headline_trains_as_with_thirty_two_bits_and_better_than_its_base():
    problem = KroneckerQuadratic(64, 64)
    lrs = (0.01, 0.03, 0.1)
    method = shampoo_4bit(observe_every=5, every=10)
    exact = dataclasses.replace(method, storage=Full())
    four, full = (
        problem.best(lambda ps, lr, m=m: Optimizer(ps, m, lr=lr), lrs, 120, linear_decay=True) for m in (method, exact)
    )
    adamw = problem.best(lambda ps, lr: torch.optim.AdamW(ps, lr=lr, weight_decay=0), lrs, 120, linear_decay=True)
    assert four < 1.5 * full
    assert four < 0.5 * adamw


def test_refusals():
    with pytest.raises(BadInputError, match="adamw"):
        shampoo_4bit(base="adam")
    with pytest.raises(BadInputError, match="linear-2"):
        shampoo_4bit(code="linear")
