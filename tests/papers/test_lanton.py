"""LANTON against a plain loop over all layers, with exact polar factors and nuclear norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.optim import LANTON
from precond.steps.noise_adaptive import NoiseAdaptive
from tests.papers.networks import SHAPES, assert_close, gradients, run, start

NAMES = [f"layer{i}.weight" for i in range(len(SHAPES) - 1)] + ["head.weight"]


def polar(b):
    u, _, vt = np.linalg.svd(b, full_matrices=False)
    return u @ vt


def group(i, shape):
    return "vector" if len(shape) < 2 else "table" if NAMES[i].startswith("head") else "hidden"


def reference(ws, stream, lr=0.02, betas=(0.95, 0.9), alpha=1.0, sign_lr=3e-4, weight_decay=0.0):
    groups = [group(i, w.shape) for i, w in enumerate(ws)]
    averages, noise, before = [np.zeros(w.shape) for w in ws], [0.0] * len(ws), stream[0]
    for gs in stream:
        quiet, directions = [], []
        for i, (g, kind) in enumerate(zip(gs, groups, strict=True)):
            averages[i] = betas[0] * averages[i] + (1 - betas[0]) * g
            if kind == "hidden":
                flat = (g.shape[0], -1)
                rows, columns = g.reshape(flat).shape
                scale = np.sqrt(rows / columns)
                dual = scale * np.linalg.norm((g - before[i]).reshape(flat), "nuc")
                directions.append(lr * scale * polar(averages[i].reshape(flat)).reshape(g.shape))
            else:
                dual = np.sum(np.abs(g - before[i]))
                directions.append(sign_lr * np.sign(averages[i]))
            noise[i] = betas[1] * noise[i] + (1 - betas[1]) * dual**2
            quiet.append(alpha / np.sqrt(alpha**2 + noise[i]))
        for i, kind in enumerate(groups):
            most = max(a for a, other in zip(quiet, groups, strict=True) if other == kind)
            ws[i] = (1 - lr * weight_decay) * ws[i] - np.sqrt(quiet[i] / most) * directions[i]
        before = gs
    return ws


@pytest.mark.parametrize("settings", [{}, {"betas": (0.8, 0.5), "alpha": 30.0, "sign_lr": 0.01, "weight_decay": 0.1}])
def test_equals_a_plain_loop(settings):
    stream = gradients(15)
    ours = run(lambda ps: LANTON(list(zip(NAMES, ps, strict=True)), ns_steps=0, **settings), stream, start())
    theirs = reference([w.detach().numpy().copy() for w in start()], stream, **settings)
    assert_close(ours, theirs, 1e-10)


def test_newton_schulz_noise_is_near_the_exact_one():
    stream = [Evidence(gradient=torch.randn(4, 12, 30, generator=torch.Generator().manual_seed(t))) for t in range(2)]
    noise = []
    for steps in (0, 5):
        part = NoiseAdaptive(steps=steps)
        state = part.init(torch.empty(4, 12, 30))
        part.contribute(state, Evidence(gradient=stream[0].gradient, previous=stream[1].gradient), torch.clone)
        noise.append(state.noise)
    torch.testing.assert_close(noise[0], noise[1], rtol=0.05, atol=0)


def test_equal_noise_changes_nothing():
    """Layers that see the same gradients are told apart by nothing: all keep the learning rate."""
    shape = (4, 3)
    stream = [[g[0], g[0].copy()] for g in gradients(10, [shape])]
    both = run(lambda ps: LANTON(ps, alpha=1e-3, ns_steps=0), stream, start([shape] * 2))
    plain = run(lambda ps: LANTON(ps, alpha=1e12, ns_steps=0), stream, start([shape] * 2))
    assert_close(both, plain, 1e-12)


def test_noisier_layers_move_less_and_groups_are_not_compared():
    rng = np.random.default_rng(0)
    shape, steps = (4, 4), 12
    mean = rng.standard_normal(shape)
    noise = [mean + 10.0 * rng.standard_normal(shape) for _ in range(steps)]
    params = start([shape, shape, (4,)])
    before = [p.detach().numpy().copy() for p in params]
    stream = [[mean, g, 100.0 * g[0]] for g in noise]
    ours = run(lambda ps: LANTON(ps, lr=0.02, ns_steps=0, sign_lr=0.02, betas=(0.0, 0.9)), stream, params)
    quiet, noisy, vector = (np.abs(a - b).sum() for a, b in zip(ours, before, strict=True))
    assert noisy < quiet / 2
    assert vector > 0, "the noisiest vector is the quietest of its own group"
    with pytest.raises(BadInputError, match="operator"):
        NoiseAdaptive(geometry="spectral")
