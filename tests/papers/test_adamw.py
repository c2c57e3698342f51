"""AdamW against a plain loop and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.optim import AdamW
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps

SETTINGS = [
    {},
    {"betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
    {"betas": (0.0, 0.9), "weight_decay": 0.0},
]


def reference(w, stream, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    m = v = 0.0
    for t, g in enumerate(stream, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w * (1 - lr * weight_decay)
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(40))
    ours = run(lambda ps: AdamW(ps, lr=0.03, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.03, **settings), stream, start()), 1e-13)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_equals_torch_to_rounding(settings, foreach, dtype, tolerance):
    stream = with_gaps(gradients(40))
    ours = run(lambda ps: AdamW(ps, lr=0.03, **settings), stream, start(dtype=dtype))
    theirs = run(lambda ps: torch.optim.AdamW(ps, lr=0.03, foreach=foreach, **settings), stream, start(dtype=dtype))
    assert_close(ours, theirs, tolerance)


def test_decay_does_not_pass_through_the_preconditioner():
    """The paper's point: the decay of a weight does not depend on the size of its gradients."""
    small, large = (
        run(lambda ps: AdamW(ps, lr=0.1, weight_decay=0.5), [[np.array([scale])]] * 5, start([(1,)]))[0]
        for scale in (1.0, 1e4)
    )
    assert abs(small - large) < 1e-6
    still = run(lambda ps: AdamW(ps, lr=0.1, weight_decay=0.5), [[np.array([0.0])]] * 5, start([(1,)]))[0]
    assert np.allclose(still, start([(1,)])[0].detach() * 0.95**5, rtol=1e-14)


def test_bfloat16_weights_take_decay_that_is_below_their_rounding_together_with_the_step():
    """One rounding per step: the decay is not lost on its own."""
    w = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    optimizer = AdamW([w], lr=2e-3, weight_decay=1.0)  # the step and the decay are 2e-3 each; spacing below 1 is 3.9e-3
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert w.item() < 1.0


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9)])
def test_refuses_decays_out_of_range(betas):
    with pytest.raises(BadInputError, match="betas"):
        AdamW([torch.zeros(1)], betas=betas)


def test_learning_rate_may_be_a_tensor():
    stream = gradients(10)
    ours = run(lambda ps: AdamW(ps, lr=torch.tensor(0.03, dtype=torch.float64)), stream, start())
    assert_close(ours, run(lambda ps: AdamW(ps, lr=0.03), stream, start()), 1e-14)
