"""Muon against a plain loop, and the properties of its orthogonalization."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.optim import Muon
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start, with_gaps


def newton_schulz(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def reference(w, stream, lr, momentum=0.95, nesterov=True, weight_decay=0.0, scale="spectral", adamw_lr=3e-4, steps=5):
    if w.ndim < 2:
        m = v = 0.0
        for t, g in enumerate(stream, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
            w = w * (1 - adamw_lr * weight_decay)
            w = w - adamw_lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-10)
        return w
    average = np.zeros_like(w)
    for g in stream:
        average = momentum * average + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * average if nesterov else average
        u = u.reshape(u.shape[0], -1)
        rows, columns = u.shape
        factor = np.sqrt(max(1, rows / columns)) if scale == "spectral" else 0.2 * np.sqrt(max(rows, columns))
        w = w * (1 - lr * weight_decay) - lr * factor * newton_schulz(u, steps).reshape(w.shape)
    return w


@pytest.mark.parametrize(
    "settings",
    [{}, {"nesterov": False, "weight_decay": 0.2}, {"scale": "rms", "momentum": 0.8, "adamw_lr": 1e-2}],
)
def test_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(30))
    ours = run(lambda ps: Muon(ps, lr=0.02, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, **settings), stream, start()), 1e-11)


@pytest.mark.parametrize(("scale", "adjust"), [("spectral", "original"), ("rms", "match_rms_adamw")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equals_torch_where_it_is_kept_from_bfloat16(monkeypatch, scale, adjust, nesterov):
    """Norms have a floor added here and taken as a minimum there, which is all that tells them apart."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    shapes = [(5, 3), (3, 6), (4, 4)]
    stream, common = gradients(30, shapes), {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    ours = run(lambda ps: Muon(ps, scale=scale, **common), stream, start(shapes))
    theirs = run(lambda ps: torch.optim.Muon(ps, adjust_lr_fn=adjust, **common), stream, start(shapes))
    assert_close(ours, theirs, 1e-5)


def test_float32_stays_near_float64():
    stream = gradients(20)
    ours = run(lambda ps: Muon(ps, lr=0.02), stream, start(dtype=torch.float32))
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02), stream, start()), 2e-5)


def test_exact_polar_factor_is_the_limit_of_the_recipe():
    g = gradients(1, [(4, 6)])[0][0]
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    ours = run(lambda ps: Muon(ps, lr=1.0, ns_steps=0, momentum=0.0), [[g]], start([(4, 6)]))
    assert_close(ours, [start([(4, 6)])[0].detach().numpy() - u @ vt], 1e-13)


def test_embeddings_and_output_layers_go_to_adamw_by_name():
    shape, stream = (4, 3), gradients(3, [(4, 3)] * 3)
    names = ["embed.weight", "layers.0.heads.weight", "head.weight"]
    params = start([shape] * 3)
    ours = run(lambda ps: Muon(list(zip(names, ps, strict=True)), lr=0.02, adamw_lr=0.001), stream, params)
    moved = [np.abs(a - b.detach().numpy()).max() for a, b in zip(ours, start([shape] * 3), strict=True)]
    assert moved[0] <= 0.0031
    assert moved[2] <= 0.0031
    assert moved[1] > 0.02


def test_aux_learning_rate_follows_a_schedule():
    w = start([(3,)])[0]
    before = w.detach().clone()
    optimizer = Muon([w], lr=0.02, adamw_lr=0.001)
    optimizer.param_groups[0]["lr"] = 0.01
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert torch.allclose(before - w.detach(), torch.full_like(w, 0.0005), rtol=1e-8)


def test_refuses_a_zero_learning_rate_and_an_unknown_scale():
    with pytest.raises(BadInputError, match="positive"):
        Muon([torch.zeros(2, 2)], lr=0.0)
    with pytest.raises(BadInputError, match="spectral"):
        Muon([torch.zeros(2, 2)], scale="frobenius")


def test_headline_beats_momentum_on_a_kronecker_quadratic():
    """On an ill-conditioned problem with the structure of a layer, orthogonalized momentum gets far below SGD's."""
    problem = KroneckerQuadratic()
    ours = problem.best(
        lambda ps, lr: Muon(ps, lr=lr, scale="rms", ns_steps=0),
        10.0 ** np.arange(-1.0, 0.1, 0.5),
        300,
        linear_decay=True,
    )
    theirs = problem.best(  # the last learning rate is the largest stable one
        lambda ps, lr: torch.optim.SGD(ps, lr=lr, momentum=0.95), (0.5, 1.0, 2.0, 3.0, 3.9), 300, linear_decay=True
    )
    assert ours < theirs / 5
