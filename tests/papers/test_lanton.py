"""LANTON against a plain loop over all layers, with exact polar factors and nuclear norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence, IncompatibleError
from precond.optim import LANTON, Optimizer
from precond.recipes.noise_adaptive import lanton
from precond.recipes.variance_reduced import mars_m
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


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_noise_against_another_batch_equals_a_plain_loop(weight_decay):
    """The paper's second option: two batches at the same weights, of which the first is followed."""
    rng = np.random.default_rng(4)
    batches = [rng.standard_normal(4) for _ in range(20)]
    curvatures = [10.0 ** rng.uniform(-1, 1, shape) for shape in SHAPES]
    lr, beta1, beta2, alpha, sign_lr = 0.02, 0.9, 0.8, 3.0, 0.01

    def forces(i, batch):
        return np.cos(np.arange(np.prod(SHAPES[i], dtype=int)) * batch[i % 4] + batch[0]).reshape(SHAPES[i])

    params, upcoming = start(), iter(batches)
    optimizer = LANTON(
        list(zip(NAMES, params, strict=True)), lr=lr, betas=(beta1, beta2), alpha=alpha, sign_lr=sign_lr, ns_steps=0,
        weight_decay=weight_decay, independent=True,
    )  # fmt: skip

    def closure():
        batch = next(upcoming)
        optimizer.zero_grad()
        parts = [
            (0.5 * torch.tensor(c) * p**2 + torch.tensor(forces(i, batch)) * p).sum()
            for i, (p, c) in enumerate(zip(params, curvatures, strict=True))
        ]
        loss = torch.stack(parts).sum()
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)

    ws = [w.detach().numpy().copy() for w in start()]
    groups = [group(i, w.shape) for i, w in enumerate(ws)]
    averages, noise = [np.zeros(w.shape) for w in ws], [0.0] * len(ws)
    for t in range(10):
        quiet, directions = [], []
        for i, (w, c, kind) in enumerate(zip(ws, curvatures, groups, strict=True)):
            one, two = (c * w + forces(i, batch) for batch in batches[2 * t : 2 * t + 2])
            averages[i] = beta1 * averages[i] + (1 - beta1) * one
            if kind == "hidden":
                rows = one.shape[0]
                scale = np.sqrt(rows / (one.size / rows))
                dual = scale * np.linalg.norm((one - two).reshape(rows, -1), "nuc")
                directions.append(lr * scale * polar(averages[i].reshape(rows, -1)).reshape(one.shape))
            else:
                dual = np.abs(one - two).sum()
                directions.append(sign_lr * np.sign(averages[i]))
            noise[i] = beta2 * noise[i] + (1 - beta2) * dual**2
            quiet.append(alpha / np.sqrt(alpha**2 + noise[i]))
        for i, kind in enumerate(groups):
            most = max(a for a, other in zip(quiet, groups, strict=True) if other == kind)
            ws[i] = (1 - lr * weight_decay) * ws[i] - np.sqrt(quiet[i] / most) * directions[i]
    assert_close([p.detach().numpy() for p in params], ws, 1e-10)
    assert next(upcoming, None) is None, "two batches are drawn a step"


def test_noise_beyond_all_numbers_leaves_a_factor():
    part, v = NoiseAdaptive(geometry="entries"), torch.full((2, 100), 1e18)
    state = part.init(v)
    v[1] = 1.0
    contribution = part.contribute(state, Evidence(gradient=v, previous=torch.zeros(2, 100)), torch.clone)
    factors = part.share(state, Evidence(), part.combine(contribution))
    assert bool(factors.isfinite().all())
    assert factors[0] < 1e-3
    assert factors[1] == 1.0


def test_two_batches_need_a_closure_that_draws_them():
    params = start()
    with pytest.raises(IncompatibleError, match="two batches"):
        LANTON(params, independent=True).step()
    with pytest.raises(IncompatibleError, match="no closure"):
        Optimizer(
            [
                {"params": params[:1], "method": lanton(independent=True)},
                {"params": params[1:], "method": mars_m(exact=True)},
            ]
        )


def test_the_second_batch_is_drawn_with_further_random_numbers():
    """The same draws would give the same batch, and no noise."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = LANTON([weight], independent=True)

    def closure():
        optimizer.zero_grad()
        loss = (weight @ torch.randn(4, 5)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(optimizer.state[weight]["rule.noise"]) > 0.0
