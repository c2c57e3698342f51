"""ASGO and DASGO against plain loops with exact roots, and what one side amounts to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.math.factors.root_methods import CoupledQuintics, Eigen
from precond.optim import ASGO, DASGO, Optimizer
from precond.recipes.one_sided import asgo
from precond.steps.match_rms import MatchRMS
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start, with_gaps
from tests.papers.test_mars import adamw


def inverse_sqrt(v):
    values, vectors = np.linalg.eigh(v)
    return vectors / np.sqrt(np.maximum(values, 1e-15 * values.max())) @ vectors.T


def reference(w, stream, lr, momentum=0.9, beta2=0.8, weight_decay=0.1, adamw_lr=None, diagonal=False, eps=1e-8):
    if w.ndim < 2:
        return adamw(w, stream, lr if adamw_lr is None else adamw_lr, 0.9, 0.95, weight_decay=weight_decay)
    rows, columns = w.shape[0], w.size // w.shape[0]
    m, v = np.zeros((rows, columns)), 0.0
    for g in stream:
        g = g.reshape(rows, columns)
        m = momentum * m + (1 - momentum) * g
        if diagonal:
            v = beta2 * v + (1 - beta2) * np.array([sum(g[i, j] ** 2 for i in range(rows)) for j in range(columns)])
            u = m / np.sqrt(v + eps)
        elif rows < columns:
            v = beta2 * v + (1 - beta2) * g @ g.T
            u = inverse_sqrt(v) @ m
        else:
            v = beta2 * v + (1 - beta2) * g.T @ g
            u = m @ inverse_sqrt(v)
        u = u * 0.2 * np.sqrt(rows * columns) / np.linalg.norm(u)
        w = (1 - lr * weight_decay) * w - lr * u.reshape(w.shape)
    return w


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "beta2": 0.95, "weight_decay": 0.0, "adamw_lr": 1e-3}])
def test_asgo_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: ASGO(ps, lr=0.02, matalg_steps=30, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, **settings), stream, start()), 1e-8)


def test_ten_steps_of_the_root_are_enough():
    stream = gradients(20)
    ours = run(lambda ps: ASGO(ps, lr=0.02), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02), stream, start()), 1e-5)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "beta2": 0.9, "eps": 1e-2, "weight_decay": 0.0}])
def test_dasgo_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: DASGO(ps, lr=0.02, **settings), stream, start())
    settings = {"beta2": 0.95, "diagonal": True, **settings}
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, **settings), stream, start()), 1e-11)


def test_without_memory_it_is_the_polar_factor():
    (g,) = gradients(1, [(4, 6)])[0]
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    method = asgo(momentum=0.0, beta=0.0, root=Eigen())
    ours = run(lambda ps: Optimizer(ps, method, lr=1.0), [[g]], start([(4, 6)]))
    assert_close(ours, [start([(4, 6)])[0].detach().numpy() - 0.2 * np.sqrt(24) * u @ vt / 2.0], 1e-10)


def test_roots_may_be_taken_less_often():
    stream = gradients(7, [(4, 6)])
    method = asgo(every=3, root=CoupledQuintics(30), momentum=0.0)
    (_, hidden), *_ = method.rules
    hidden = dataclasses.replace(hidden, cadence=dataclasses.replace(hidden.cadence, stagger=False))
    ours = run(lambda ps: Optimizer(ps, hidden, lr=0.1), stream, start([(4, 6)]))
    w, v = start([(4, 6)])[0].detach().numpy().copy(), np.zeros((4, 4))
    for t, (g,) in enumerate(stream, start=1):
        v = 0.8 * v + 0.2 * g @ g.T
        if t == 1 or t % 3 == 0:
            root = inverse_sqrt(v)
        u = root @ g
        w = w - 0.1 * 0.2 * np.sqrt(24) * u / np.linalg.norm(u)
    assert_close(ours, [w], 1e-9)


def test_headline_far_below_its_diagonal_form_on_a_kronecker_quadratic():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(-1.5, 0.1, 0.5)
    full = problem.best(lambda ps, lr: ASGO(ps, lr=lr, beta2=0.95, weight_decay=0.0), lrs, 200, linear_decay=True)
    diagonal = problem.best(lambda ps, lr: DASGO(ps, lr=lr, weight_decay=0.0), lrs, 200, linear_decay=True)
    assert full < diagonal / 10


def test_zero_gradients_move_nothing_and_sizes_are_checked():
    for cls in (ASGO, DASGO):
        ours = run(lambda ps, cls=cls: cls(ps, weight_decay=0.0), [[np.zeros((3, 2))]] * 3, start([(3, 2)]))
        assert np.array_equal(ours[0], start([(3, 2)])[0].detach().numpy())
    with pytest.raises(BadInputError, match="positive"):
        MatchRMS(0.0)
    with pytest.raises(ValueError, match="Eigen"):
        CoupledQuintics()(torch.eye(2)[None], 4)
