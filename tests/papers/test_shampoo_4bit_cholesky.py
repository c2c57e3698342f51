"""4-bit Shampoo by Cholesky factors against a plain loop with a quantizer of its own, and what the paper says of it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from precond.core import Full, Role
from precond.math.tensors.codes import linear_square
from precond.optim import Optimizer, Shampoo4bitCholesky
from precond.recipes.low_bit import shampoo_4bit_cholesky
from precond.storage.compensated import Compensated
from precond.storage.off_diagonal import OffDiagonal
from tests.papers.low_bit import Base, as_matrix, rounded, rounded_off_diagonal
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start
from tests.papers.test_shampoo_4bit import LARGE, error_of_root, root_from, spectrum


def order(n: int) -> list[tuple[int, int]]:
    """Return the entries in the order of sixteen strips of rows, each as far as the diagonal."""
    edges = [n * i // 16 for i in range(17)]
    return [(i, j) for start, end in itertools.pairwise(edges) for i in range(start, end) for j in range(end)]


def round_triangle(c: np.ndarray) -> np.ndarray:
    """Round the entries of a strict lower triangle block by block."""
    where = order(len(c))
    flat = rounded(np.array([c[i, j] if i > j else 0.0 for i, j in where]))
    out = np.zeros_like(c)
    for (i, j), value in zip(where, flat, strict=True):
        if i > j:
            out[i, j] = value
    return out


def reference(
    w, stream, lr, base="adamw", beta=0.95, eps=1e-6, beta_error=0.95, t1=2, t2=4, weight_decay=0.0, **options
):
    inner = Base(w, base, lr, weight_decay, **options)
    matrix = as_matrix(w)
    sides = () if matrix is None else matrix.shape
    factors, errors = [np.sqrt(eps) * np.eye(n) for n in sides], [np.zeros((n, n)) for n in sides]
    roots = [np.eye(n) for n in sides]
    for t, g in enumerate(stream, start=1):
        u = g
        if sides:
            g2 = g.reshape(matrix.shape)
            for i, gram in enumerate((g2 @ g2.T, g2.T @ g2)):
                n = sides[i]
                if t % t1 == 0:
                    a = beta * factors[i] @ factors[i].T + (1 - beta) * gram + eps * np.eye(n)
                    c = np.linalg.cholesky(a)
                    factors[i] = c
                if t % t2 == 0:
                    values, vectors = np.linalg.eigh(factors[i] @ factors[i].T)
                    roots[i] = vectors @ np.diag((values + 1e-6 * values[-1]) ** -0.25) @ vectors.T
            u = (roots[0] @ g2 @ roots[1].T).reshape(g.shape)
            for i in (0, 1):  # what was computed rests after the step
                if sides[i] ** 2 >= 4096 and t % t1 == 0:
                    c = factors[i]
                    wanted = np.tril(c, -1) + errors[i]
                    kept = round_triangle(wanted)
                    errors[i] = round_triangle(beta_error * errors[i] + (1 - beta_error) * (wanted - kept))
                    factors[i] = kept + np.diag(np.diag(c))
                if sides[i] ** 2 >= 4096 and t % t2 == 0:
                    roots[i] = rounded_off_diagonal(roots[i])
            u = u * np.linalg.norm(g) / np.linalg.norm(u)
        inner.step(u)
    return inner.w


def synchronous(**options):
    method = shampoo_4bit_cholesky(observe_every=2, every=4, **options)
    return dataclasses.replace(method, cadence=dataclasses.replace(method.cadence, stagger=False))


@pytest.mark.parametrize("options", [{}, {"base": "sgdm", "beta": 0.5}])
def test_small_tensors_follow_the_algorithm(options):
    stream = gradients(17)
    ours = run(lambda ps: Optimizer(ps, synchronous(**options), lr=0.01, weight_decay=0.1), stream, start())
    theirs = each(lambda w, gs: reference(w, gs, 0.01, weight_decay=0.1, **options), stream, start())
    assert_close(ours, theirs, 1e-3)


@pytest.mark.parametrize("beta_error", [0.95, 0.2])
def test_large_matrices_are_quantized_with_feedback(beta_error):
    stream = gradients(9, LARGE)
    method = synchronous(beta_error=beta_error, eps=1e-3)
    ours = run(lambda ps: Optimizer(ps, method, lr=0.01), stream, start(LARGE))
    expected = each(lambda w, gs: reference(w, gs, 0.01, beta_error=beta_error, eps=1e-3), stream, start(LARGE))
    assert_close(ours, expected, 2e-5)
    without = run(lambda ps: Optimizer(ps, synchronous(beta_error=1.0, eps=1e-3), lr=0.01), stream, start(LARGE))
    assert np.abs(without[0] - ours[0]).max() > 4e-4, "no error was fed back"


def test_factor_and_error_take_little_more_than_the_room_of_one_square():
    (w,) = start([(256, 256)], torch.float32)
    optimizer = Shampoo4bitCholesky([w])
    w.grad = torch.ones_like(w)
    optimizer.step()
    square = 256 * 256 / 2 + 4 * 256 * 256 / 64
    triangles = 2 * (256 * 256 * 17 / 32 / 64) * (32 + 4)  # 16 strips of 16 rows, in blocks of 64
    diagonals_adam = 2 * 2 * 4 * 256 + 2 * 4 * 256 * 256
    counters = optimizer.state_bytes() - 2 * (square + triangles) - diagonals_adam
    assert counters in range(8, 100, 8)


def test_feedback_recovers_what_rounding_alone_keeps_losing():
    """The factor that is encoded again and again is right in the mean, not only near."""
    torch.manual_seed(0)
    a = torch.randn(1, 64, 64, dtype=torch.float64)
    lower = torch.linalg.cholesky(a @ a.mT + 64 * torch.eye(64))

    def mean(decay):
        resting = Compensated(linear_square(4), 64, 0, decay).rest(lower, Role.TRIANGULAR)
        total = torch.zeros_like(lower)
        for _ in range(200):
            resting.encode(lower)
            total += resting.decode() / 200
        return float((total - lower).norm() / lower.norm())

    assert mean(0.0) < 0.5 * mean(1.0)


def test_headline_cholesky_factors_keep_the_root_that_a_quantized_factor_loses():
    q, s = spectrum()
    a = q * s @ q.mT
    direct = OffDiagonal().rest(a.unsqueeze(0), Role.ROOT).decode()[0]
    lower = torch.linalg.cholesky(a)
    back = Compensated(least=0).rest(lower.unsqueeze(0), Role.TRIANGULAR).decode()[0]

    def error(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return error_of_root(q, s, root_from(vectors, values.clamp(min=1e-6)))

    assert error(back @ back.mT) < 0.5 * error(direct)


def test_headline_trains_as_with_thirty_two_bits():
    problem = KroneckerQuadratic(64, 64)
    lrs = (0.01, 0.03, 0.1)
    method = shampoo_4bit_cholesky(observe_every=5, every=10)
    exact = dataclasses.replace(method, storage=Full())
    four, full = (
        problem.best(lambda ps, lr, m=m: Optimizer(ps, m, lr=lr), lrs, 120, linear_decay=True) for m in (method, exact)
    )
    adamw = problem.best(lambda ps, lr: torch.optim.AdamW(ps, lr=lr, weight_decay=0), lrs, 120, linear_decay=True)
    assert four < 2 * full
    assert four < 0.7 * adamw
