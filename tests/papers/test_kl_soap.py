"""KL-SOAP against a plain loop with full factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import IncompatibleError
from precond.optim import KLSOAP, Optimizer
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.kullback_leibler import KLKronecker
from precond.preconditioners.within import Within
from precond.recipes.kullback_leibler import kl_soap
from tests.papers.networks import KroneckerQuadratic, assert_close, gradients, run, start


def reference(w, stream, lr, b1=0.95, b2=0.95, eps=1e-8, every=10, first=0.1, gain=4000, weight_decay=0.0):
    """Adam in the bases of factors that are weighted by one another, all in the matrix's own coordinates."""
    rows, columns = w.shape
    left, right = (1 - b2) / columns * stream[0] @ stream[0].T, (1 - b2) / rows * stream[0].T @ stream[0]
    ql, qr = np.linalg.eigh(left)[1][:, ::-1], np.linalg.eigh(right)[1][:, ::-1]
    dl, dr = np.full(rows, first), np.full(columns, first)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream[1:], start=1):
        within = ql.T @ g @ qr
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * within**2
        scale = np.sqrt(1 - b2**t) / (1 - b1**t)
        w = w - lr * scale * ql @ (ql.T @ m @ qr / (np.sqrt(v) + eps)) @ qr.T
        w = w - lr * weight_decay * w
        left = b2 * left + (1 - b2) / columns * g @ qr @ np.diag(1 / dr) @ qr.T @ g.T
        right = b2 * right + (1 - b2) / rows * g.T @ ql @ np.diag(1 / dl) @ ql.T @ g
        dl, dr = (
            np.maximum(b2 * dl + (1 - b2) / columns * (within**2 / dr).sum(1), max(10, min(rows, gain)) ** -2.0),
            np.maximum(b2 * dr + (1 - b2) / rows * (within.T**2 / dl).sum(1), max(10, min(columns, gain)) ** -2.0),
        )
        if t % every == 0:
            ql, qr = np.linalg.qr(left @ ql)[0], np.linalg.qr(right @ qr)[0]
    return w


@pytest.mark.parametrize("settings", [{}, {"b1": 0.5, "b2": 0.9, "every": 3, "eps": 1e-3}, {"every": 1, "first": 1.0}])
def test_equals_adam_in_the_bases_of_fitted_factors(settings):
    shapes = ((5, 5), (5, 5), (4, 4))  # other shapes begin with null spaces, whose basis is arbitrary
    stream = gradients(31, shapes)
    method = kl_soap(stagger=False, **{("start" if k == "first" else k): v for k, v in settings.items()})
    found = run(lambda ps: Optimizer(ps, method, lr=0.02, weight_decay=0.1), stream, start(shapes))
    expected = [
        reference(w.detach().numpy(), [given[i] for given in stream], 0.02, weight_decay=0.1, **settings)
        for i, w in enumerate(start(shapes))
    ]
    assert_close(found, expected, 1e-9)


def test_groups_may_have_decays_of_their_own():
    shapes = ((4, 4),)
    stream = gradients(12, shapes)
    found = run(lambda ps: KLSOAP([{"params": ps, "betas": (0.8, 0.9)}], weight_decay=0.0), stream, start(shapes))
    expected = reference(start(shapes)[0].detach().numpy(), [given[0] for given in stream], 3e-3, b1=0.8, b2=0.9)
    assert_close(found, [expected], 1e-9)


def test_headline_beats_adam_where_curvature_is_a_kronecker_product():
    problem = KroneckerQuadratic()
    lrs = 10.0 ** np.arange(-3, 0.1, 0.5)
    ours = problem.best(lambda ps, lr: Optimizer(ps, kl_soap(), lr=lr), lrs, 200, linear_decay=True)
    adam = problem.best(lambda ps, lr: torch.optim.Adam(ps, lr=lr, betas=(0.95, 0.95)), lrs, 200, linear_decay=True)
    assert ours < adam


def test_what_does_not_fit_is_refused():
    with pytest.raises(IncompatibleError, match="coordinates"):
        Within(Diagonal(), Diagonal())
    with pytest.raises(IncompatibleError, match="elementwise"):
        Within(KLKronecker(), Kronecker())


def test_vectors_and_excluded_names_get_adamw_with_settings_of_their_own():
    """The decays and ``eps`` of the matrices, at a learning rate that keeps its ratio."""
    shapes, names = ((4,), (3, 3)), ("bias", "embed.weight")
    stream = gradients(12, shapes)

    def make(params):
        optimizer = KLSOAP(
            list(zip(names, params, strict=True)), lr=0.02, betas=(0.8, 0.9), eps=0.01, adamw_lr=0.005,
            exclude=("embed*",), weight_decay=0.1,
        )  # fmt: skip
        optimizer.param_groups[0]["lr"] *= 2.0
        return optimizer

    expected = []
    for i, w in enumerate(start(shapes)):
        w, m, v = w.detach().numpy().copy(), 0.0, 0.0
        for t, given in enumerate(stream, start=1):
            m, v = 0.8 * m + 0.2 * given[i], 0.9 * v + 0.1 * given[i] ** 2
            w = w - 0.01 * 0.1 * w - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 0.01)
        expected.append(w)
    assert_close(run(make, stream, start(shapes)), expected, 1e-11)
