"""SGD against a plain loop and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Method
from precond.optim import SGD
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps

SETTINGS = [
    {"momentum": 0.0},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1},
]


def reference(w, stream, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    velocity = None
    for g in stream:
        g = g + weight_decay * w
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        w = w - lr * (g + momentum * velocity if nesterov else velocity)
    return w


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_a_plain_loop(settings):
    stream = gradients(30)
    ours = run(lambda ps: SGD(ps, lr=0.05, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.05, **settings), stream, start()), 1e-13)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_equals_torch_also_where_gradients_are_missing(settings, dtype, tolerance):
    stream = with_gaps(gradients(30))
    ours = run(lambda ps: SGD(ps, lr=0.05, **settings), stream, start(dtype=dtype))
    theirs = run(lambda ps: torch.optim.SGD(ps, lr=0.05, **settings), stream, start(dtype=dtype))
    assert_close(ours, theirs, tolerance)


def test_momentum_is_the_accelerator_it_should_be():
    """On a quadratic of condition 100, the optimal heavy ball needs far fewer steps than gradient descent."""

    def steps(momentum, lr):
        w = torch.ones(2, dtype=torch.float64, requires_grad=True)
        curvature = torch.tensor([1.0, 100.0], dtype=torch.float64)
        optimizer = SGD([w], lr=lr, momentum=momentum)
        for k in range(2000):
            if float(w.detach().norm()) < 1e-6:
                return k
            w.grad = curvature * w.detach()
            optimizer.step()
        return 2000

    root = np.sqrt(100.0)
    plain = steps(0.0, 2 / 101)
    heavy = steps(((root - 1) / (root + 1)) ** 2, 4 / (1 + root) ** 2)
    assert heavy < plain / 4


def test_nesterov_needs_momentum():
    with pytest.raises(BadInputError, match="positive momentum"):
        SGD([torch.zeros(1)], nesterov=True)


def test_without_momentum_nothing_is_kept():
    optimizer = SGD([torch.zeros(3, requires_grad=True)], lr=0.1)
    assert isinstance(optimizer._rules[0].method, Method)
    assert not optimizer._rules[0].method.filters
