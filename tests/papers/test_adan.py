"""Adan against a plain loop, and its reduction to Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.optim import Adan
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps


def reference(w, stream, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0):
    b1, b2, b3 = betas
    m, v, n = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    previous = stream[0]
    for t, g in enumerate(stream, start=1):
        difference = g - previous
        previous = g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * difference
        n = b3 * n + (1 - b3) * (g + b2 * difference) ** 2
        update = (m / (1 - b1**t) + b2 * v / (1 - b2**t)) / (np.sqrt(n / (1 - b3**t)) + eps)
        w = (w - lr * update) / (1 + lr * weight_decay)
    return w


@pytest.mark.parametrize("settings", [{}, {"betas": (0.9, 0.5, 0.95), "eps": 1e-3, "weight_decay": 0.2}])
def test_equals_a_plain_loop(settings):
    stream = gradients(40)
    ours = run(lambda ps: Adan(ps, lr=0.05, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.05, **settings), stream, start()), 1e-12)


def test_the_previous_gradient_is_the_last_one_a_parameter_had():
    stream = with_gaps(gradients(30))
    ours = run(lambda ps: Adan(ps, lr=0.05), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.05), stream, start()), 1e-12)


def test_without_differences_it_is_adam_with_proximal_decay():
    stream = gradients(20)

    def adam(w, gs):
        m = v = 0.0
        for t, g in enumerate(gs, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            w = (w - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)) / (1 + 0.05 * 0.1)
        return w

    ours = run(lambda ps: Adan(ps, lr=0.05, betas=(0.9, 0.0, 0.99), weight_decay=0.1), stream, start())
    assert_close(ours, each(adam, stream, start()), 1e-12)


def test_gradients_are_left_as_they_were():
    params, stream = start(), gradients(3)
    run(lambda ps: Adan(ps, lr=0.05), stream, params)
    for param, gradient in zip(params, stream[-1], strict=True):
        assert np.array_equal(param.grad.numpy(), gradient)


def test_gradients_are_clipped_over_all_parameters_before_anything_else():
    """Their differences, too, are those of clipped gradients; parameters without a gradient do not count."""
    stream = with_gaps(gradients(25))
    norms = [np.sqrt(sum(np.sum(g**2) for g in given if g is not None)) for given in stream]
    limit = float(np.median(norms))
    clipped = [
        [None if g is None else g * min(1.0, limit / norm) for g in given]
        for given, norm in zip(stream, norms, strict=True)
    ]
    ours = run(lambda ps: Adan(ps, lr=0.05, max_grad_norm=limit), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.05), clipped, start()), 1e-12)


def test_clipping_survives_huge_and_bad_gradients():
    params = start([(3,), (2,)])
    optimizer = Adan(params, lr=0.1, betas=(0.0, 0.0, 0.0), max_grad_norm=1.0)
    for value in (1e150, 1e200, np.inf):  # the second has squares that are not finite
        params[0].grad, params[1].grad = torch.full((3,), value, dtype=torch.float64), torch.ones(2).double()
        optimizer.step()
    assert all(bool(p.isfinite().all()) for p in params)
    assert optimizer.work.skipped == 2
    with pytest.raises(BadInputError, match="positive"):
        Adan(params, max_grad_norm=-1.0)
