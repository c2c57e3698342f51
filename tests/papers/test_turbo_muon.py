"""Turbo-Muon against a plain loop, and what its row scaling promises and costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.math.factors.polar import (
    FIVE_QUINTICS,
    MUON,
    POLAR_EXPRESS,
    TURBO,
    TURBO_FIVE,
    NewtonSchulz,
    polar,
    polar_exact,
)
from precond.optim import Muon, TurboMuon
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps

QUINTICS = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def turbo(g, steps):
    x = g.T if g.shape[0] > g.shape[1] else g.copy()
    rows = [max(sum(abs(x[i] @ x[j]) for j in range(len(x))), 1e-7) for i in range(len(x))]
    x = np.array([x[i] / np.sqrt(rows[i]) for i in range(len(x))])
    for a, b, c in QUINTICS[-steps:]:
        s = x @ x.T
        x = a * x + b * s @ x + c * s @ s @ x
    return x.T if g.shape[0] > g.shape[1] else x


def reference(w, stream, lr, momentum=0.95, nesterov=True, weight_decay=0.0, ns_steps=4):
    if w.ndim < 2:
        m = v = 0.0
        for t, g in enumerate(stream, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
            w = w * (1 - 3e-4 * weight_decay) - 3e-4 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-10)
        return w
    average = np.zeros_like(w)
    for g in stream:
        average = momentum * average + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * average if nesterov else average
        u = u.reshape(u.shape[0], -1)
        factor = np.sqrt(max(1, u.shape[0] / u.shape[1]))
        w = w * (1 - lr * weight_decay) - lr * factor * turbo(u, ns_steps).reshape(w.shape)
    return w


@pytest.mark.parametrize("settings", [{}, {"nesterov": False, "weight_decay": 0.2}, {"ns_steps": 5}])
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: TurboMuon(ps, lr=0.02, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, **settings), stream, start()), 1e-11)


def test_scaled_rows_have_a_spectral_norm_of_at_most_one():
    """With the polynomial x the iteration returns the scaled matrix itself."""
    scale_only = NewtonSchulz(((1.0, 0.0, 0.0),), scaling="aol")
    generator = torch.Generator().manual_seed(0)
    for size in (1e-2, 1.0, 1e6):
        x = size * torch.randn(200, 6, 9, generator=generator, dtype=torch.float64).pow(3)
        scaled = polar(x, 1, scale_only)
        assert torch.linalg.matrix_norm(scaled, 2).max() <= 1 + 1e-9
        assert torch.allclose(polar(x.mT, 1, scale_only), scaled.mT)
    orthogonal = torch.linalg.qr(torch.randn(9, 6, generator=generator, dtype=torch.float64)).Q.mT
    assert torch.allclose(polar(3 * orthogonal, 1, scale_only), orthogonal), "orthogonal rows are met exactly"


def error(x, steps, iteration):
    rank = min(x.shape)
    return float((polar(x, steps, iteration) - polar_exact(x)).norm()) / rank**0.5


def test_headline_four_steps_are_as_near_as_five_on_gaussian_matrices():
    x = torch.randn(128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    four, five = error(x, 4, TURBO), error(x, 5, FIVE_QUINTICS)
    assert four < 1.1 * five
    assert four < 0.7 * error(x, 4, NewtonSchulz(FIVE_QUINTICS.coefficients[1:])), "the scaling does the work"


def test_nearly_low_rank_matrices_want_the_fifth_step():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(96, 8, generator=generator) @ torch.randn(8, 192, generator=generator) / 8**0.5
    x = (low + 0.05 * torch.randn(96, 192, generator=generator)).double()
    assert error(x, 5, TURBO_FIVE) < error(x, 5, FIVE_QUINTICS) < error(x, 4, TURBO)


def test_polar_express_converges_where_muon_stops():
    x = torch.randn(32, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert error(x, 10, POLAR_EXPRESS) < 1e-10
    assert error(x, 10, MUON) > 0.05
    ours = run(
        lambda ps: Muon(ps, lr=1.0, ns_steps=12, momentum=0.0, iteration=POLAR_EXPRESS),
        [[x.numpy()]],
        start([(32, 48)]),
    )
    assert_close(ours, [start([(32, 48)])[0].detach().numpy() - polar_exact(x).numpy()], 1e-10)


def test_rows_of_zeros_stay_zero_and_bad_iterations_are_refused():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[2] = 0.0
    factor = polar(x, 4, TURBO)
    assert torch.equal(factor[2], torch.zeros(6, dtype=torch.float64))
    assert factor.isfinite().all()
    with pytest.raises(ValueError, match="triples"):
        NewtonSchulz(())
    with pytest.raises(ValueError, match="aol"):
        NewtonSchulz(((1.0, 0.0, 0.0),), scaling="columns")
