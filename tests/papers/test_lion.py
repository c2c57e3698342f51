"""Lion against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from precond.optim import Lion
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps


def reference(w, stream, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = np.zeros_like(w)
    for g in stream:
        c = betas[0] * m + (1 - betas[0]) * g
        w = w - lr * (np.sign(c) + weight_decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
    return w


@pytest.mark.parametrize("settings", [{}, {"betas": (0.95, 0.98), "weight_decay": 1.0}, {"betas": (0.0, 0.5)}])
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(40))
    ours = run(lambda ps: Lion(ps, lr=0.01, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.01, **settings), stream, start()), 1e-13)


def test_every_entry_moves_by_the_learning_rate_and_keeps_one_tensor_of_state():
    params = start()
    before = [p.detach().clone().numpy() for p in params]
    optimizers = []
    after = run(lambda ps: optimizers.append(Lion(ps, lr=0.01)) or optimizers[0], gradients(1), params)
    for old, new in zip(before, after, strict=True):
        assert np.allclose(np.abs(new - old), 0.01, rtol=1e-12)
    kept = {name: tensor for state in optimizers[0].state.values() for name, tensor in state.items()}
    assert [name for name, tensor in kept.items() if tensor.is_floating_point()] == ["momentum.average"]


def test_a_zero_gradient_moves_nothing():
    ours = run(lambda ps: Lion(ps, lr=0.01), [[np.zeros(3)]] * 3, start([(3,)]))
    assert np.array_equal(ours[0], start([(3,)])[0].detach().numpy())
