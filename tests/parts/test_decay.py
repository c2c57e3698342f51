"""Weight decay: where it enters, in every precision."""

from __future__ import annotations

import pytest
import torch

from precond.steps.decay import Coupled, Decoupled, DecoupledAfter, Proximal

EXPECTED = {
    Decoupled(): lambda w, u, lr, d: (1 - lr * d) * w - lr * u,
    DecoupledAfter(): lambda w, u, lr, d: (1 - lr * d) * (w - lr * u),
    Proximal(): lambda w, u, lr, d: (w - lr * u) / (1 + lr * d),
    Coupled(): lambda w, u, lr, d: w - lr * u,
}


@pytest.mark.parametrize("decay", EXPECTED, ids=lambda decay: type(decay).__name__)
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64)])
@pytest.mark.parametrize("factor", [0.0, 0.25])
def test_moves(decay, lr, factor):
    weights, updates = [torch.ones(2), torch.tensor(3.0)], [torch.tensor([1.0, -2.0]), torch.tensor(0.5)]
    kept = [u.clone() for u in updates]
    expected = [EXPECTED[decay](w, u, 0.5, factor) for w, u in zip(weights, updates, strict=True)]
    held = list(weights)
    decay.move(weights, updates, lr, factor)
    for w, e, same in zip(weights, expected, held, strict=True):
        assert w is same
        assert torch.allclose(w, e)
    assert all(torch.equal(u, k) for u, k in zip(updates, kept, strict=True))
    decay.move([], [], lr, factor)


@pytest.mark.parametrize("decay", EXPECTED, ids=lambda decay: type(decay).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_rounded_once(decay, dtype):
    w = torch.linspace(-2, 2, 64).to(dtype)
    u = torch.linspace(1, -3, 64)
    expected = EXPECTED[decay](w.float(), u, 1e-2, 0.3).to(dtype)
    decay.move([w], [u], 1e-2, 0.3)
    assert torch.equal(w, expected)


def test_coupled_decay_adds_the_gradient_of_the_penalty():
    g, w = torch.tensor([1.0]), torch.tensor([2.0])
    assert torch.equal(Coupled().regularize(g, w, 0.5), torch.tensor([2.0]))
    assert torch.equal(g, torch.tensor([1.0]))
    assert Coupled().regularize(g, None, 0.5) is g
    assert Coupled().reads_weights
    assert not Decoupled().reads_weights
