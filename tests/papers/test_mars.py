"""MARS before AdamW, Lion, Shampoo and Muon, against plain loops, and what its approximate form amounts to."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.filters.mars import Mars
from precond.optim import MARS, MARSM, AdamW, Optimizer
from precond.recipes.variance_reduced import mars_adamw, mars_m
from tests.papers.networks import assert_close, each, gradients, run, start, with_gaps
from tests.papers.test_muon import newton_schulz


def adamw(w, stream, lr, b1, b2, eps=1e-8, weight_decay=0.0):
    m = v = 0.0
    for t, g in enumerate(stream, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w * (1 - lr * weight_decay) - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def corrected(stream, gamma, beta, from_zero=False, clip=1.0):
    previous, result = np.zeros_like(stream[0]) if from_zero else stream[0], []
    for g in stream:
        c = g + gamma * beta / (1 - beta) * (g - previous)
        previous = g
        result.append(c if clip is None else c / max(1.0, np.linalg.norm(c) / clip))
    return result


def flat(w):
    return w.reshape(w.shape[0], -1)


def reference(w, stream, lr, kind, gamma=0.025, from_zero=False, weight_decay=0.0, lr_1d=3e-3, beta=0.95):
    if w.ndim < 2:
        return adamw(w, stream, lr_1d, 0.9, 0.95, weight_decay=weight_decay)
    return descended(w, corrected(stream, gamma, beta, from_zero), lr, kind, beta, weight_decay)


def descended(w, stream, lr, kind, beta=0.95, weight_decay=0.0):
    """What the four methods make of corrected gradients of a matrix."""
    if kind == "mars-adamw":
        return adamw(w, stream, lr, beta, 0.99, weight_decay=weight_decay)
    m, (rows, columns) = np.zeros_like(w), flat(w).shape
    for c in stream:
        m = beta * m + (1 - beta) * c
        if kind == "mars-lion":
            u = np.sign(m)
        elif kind == "mars-shampoo":
            u = np.sqrt(max(1, rows / columns)) * newton_schulz(flat(m)).reshape(w.shape)
        else:
            u = 0.2 * np.sqrt(max(rows, columns)) * newton_schulz(flat(m)).reshape(w.shape)
        w = w - lr * weight_decay * w - lr * u
    return w


@pytest.mark.parametrize("kind", ["mars-adamw", "mars-lion", "mars-shampoo"])
@pytest.mark.parametrize("settings", [{}, {"gamma": 0.4, "from_zero": True, "weight_decay": 0.2, "lr_1d": 0.01}])
def test_equals_a_plain_loop(kind, settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: MARS(ps, lr=0.02, mars_type=kind, **settings), stream, start())
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, kind, **settings), stream, start()), 1e-11)


@pytest.mark.parametrize("settings", [{}, {"gamma": 0.4, "from_zero": True, "weight_decay": 0.0}])
def test_mars_m_equals_a_plain_loop(settings):
    stream = with_gaps(gradients(20))
    ours = run(lambda ps: MARSM(ps, lr=0.02, **settings), stream, start())
    settings = {"weight_decay": 0.1, "lr_1d": 0.02, **settings}
    assert_close(ours, each(lambda w, gs: reference(w, gs, 0.02, "mars-m", **settings), stream, start()), 1e-11)


def test_without_correction_and_clipping_it_is_adamw():
    stream = gradients(20)
    ours = run(lambda ps: Optimizer(ps, mars_adamw(gamma=0.0, clip=None, b1=0.9, b2=0.95), lr=0.01), stream, start())
    theirs = run(lambda ps: AdamW(ps, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0), stream, start())
    assert_close(ours, theirs, 1e-12)


def test_unclipped_it_is_quasi_hyperbolic_momentum():
    """The average of the corrected gradients is ``gamma g + (1 - gamma) average(g)``, from the first step on."""
    gamma, beta, stream = 0.3, 0.9, [g[0] for g in gradients(15)]
    average = corrected_average = np.zeros_like(stream[0])
    for g, c in zip(stream, corrected(stream, gamma, beta, from_zero=True, clip=None), strict=True):
        average = beta * average + (1 - beta) * g
        corrected_average = beta * corrected_average + (1 - beta) * c
        assert np.allclose(corrected_average, gamma * g + (1 - gamma) * average, rtol=0, atol=1e-12)

    method = mars_m(gamma=gamma, momentum=beta, clip=None, from_zero=True, steps=0)
    ours = run(lambda ps: Optimizer(ps, method, lr=1.0), [[g] for g in stream], start([stream[0].shape]))
    w, average = start([stream[0].shape])[0].detach().numpy().copy(), np.zeros_like(stream[0])
    for g in stream:
        average = beta * average + (1 - beta) * g
        u, _, vt = np.linalg.svd(gamma * g + (1 - gamma) * average, full_matrices=False)
        w = w - 0.2 * np.sqrt(max(g.shape)) * u @ vt
    assert_close(ours, [w], 1e-9)


def test_the_efficient_form_of_mars_m_is_the_unclipped_one_from_zero():
    stream = gradients(15)
    plain = mars_m(gamma=0.3, clip=None, from_zero=True)
    ours = run(lambda ps: MARSM(ps, lr=0.02, gamma=0.3, efficient=True, weight_decay=0.0), stream, start())
    assert_close(ours, run(lambda ps: Optimizer(ps, plain, lr=0.02), stream, start()), 1e-9)
    with pytest.raises(BadInputError, match="efficient"):
        MARSM(start(), efficient=True, is_approx=False)


def test_headline_the_correction_reduces_variance_only_where_the_batch_is_the_same():
    """On a noisy quadratic the exact correction lowers the error of the average, the approximate one raises it."""
    rng = np.random.default_rng(0)
    d, beta, lr, curvature = 50, 0.95, 0.01, np.linspace(0.1, 1.0, 50)

    def error(gamma, exact):
        w = w_before = np.ones(d)
        part, m, g_before, total = Mars(gamma, beta), np.zeros(d), None, 0.0
        for _ in range(400):
            noise = 0.3 * rng.standard_normal((2, d))
            curved = curvature + noise[0]  # the noise is in the Hessian and in the linear term
            g = curved * w + noise[1]
            other = curved * w_before + noise[1] if exact else (g if g_before is None else g_before)
            evidence = Evidence(previous=torch.tensor(other)[None])
            c = part.push(part.init(evidence.previous), torch.tensor(g)[None], evidence)[0].numpy()
            m = beta * m + (1 - beta) * c
            total += float(np.sum((m - curvature * w) ** 2))
            w_before, g_before = w, g
            w = w - lr * m
        return total

    plain = np.mean([error(0.0, True) for _ in range(8)])
    assert np.mean([error(1.0, True) for _ in range(8)]) < plain
    assert np.mean([error(1.0, False) for _ in range(8)]) > 2 * plain


def test_refuses_what_it_cannot_be():
    with pytest.raises(BadInputError, match="mars-lion"):
        MARS([torch.zeros(2, 2)], mars_type="mars-muon")
    with pytest.raises(BadInputError, match="lr_1d"):
        MARS([torch.zeros(2, 2)], lr=0.0)
    with pytest.raises(BadInputError, match="beta"):
        Mars(beta=1.0)


@pytest.mark.parametrize("kind", ["mars-adamw", "mars-lion", "mars-shampoo", "mars-m"])
def test_the_exact_form_compares_gradients_of_one_batch(kind):
    """Two parameters that interact, so that the other gradient must be taken with both of them at their old weights."""
    rng = np.random.default_rng(3)
    batches = [(rng.standard_normal((4, 6)), rng.standard_normal((3, 6))) for _ in range(12)]
    gamma, lr = 0.6, 0.02

    def loss(w, v, x, y):
        return ((v[:, None] + w @ x - y) ** 2).sum()

    def by_hand(w, v, x, y):
        e = 2 * (v[:, None] + w @ x - y)
        return e @ x.T, e.sum(1)

    w, v = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.float64)
    v.requires_grad_()
    optimizer = MARSM if kind == "mars-m" else lambda ps, **kw: MARS(ps, mars_type=kind, **kw)
    optimizer = optimizer([w, v], lr=lr, gamma=gamma, weight_decay=0.0, is_approx=False)
    for x, y in [(torch.tensor(x), torch.tensor(y)) for x, y in batches]:

        def closure(x=x, y=y):
            optimizer.zero_grad()
            value = loss(w, v, x, y)
            value.backward()
            return value

        optimizer.step(closure)

    a, b = np.zeros((3, 4)), np.zeros(3)
    old = a, b
    corrections, plain = [], []
    for x, y in batches:
        (g, gb), (h, _) = by_hand(a, b, x, y), by_hand(*old, x, y)
        c = g + gamma * 0.95 / 0.05 * (g - h)
        corrections.append(c / max(1.0, np.linalg.norm(c)))
        plain.append(gb)
        old = a, b
        a = _uncorrected(np.zeros((3, 4)), corrections, lr, kind)
        b = adamw(np.zeros(3), plain, lr if kind == "mars-m" else 3e-3, 0.9, 0.95)
    assert_close([w.detach().numpy(), v.detach().numpy()], [a, b], 1e-10)


def _uncorrected(w, stream, lr, kind):
    """The methods on gradients that are corrected and clipped already."""
    if kind == "mars-adamw":
        return adamw(w, stream, lr, 0.95, 0.99)
    m = np.zeros_like(w)
    for c in stream:
        m = 0.95 * m + 0.05 * c
        if kind == "mars-lion":
            w = w - lr * np.sign(m)
        else:
            scale = 0.2 * np.sqrt(max(w.shape)) if kind == "mars-m" else np.sqrt(max(1, w.shape[0] / w.shape[1]))
            w = w - lr * scale * newton_schulz(m)
    return w


def test_on_a_fixed_batch_the_exact_form_is_the_approximate_one():
    def train(**options):
        w = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
        optimizer = MARS([w], lr=0.02, gamma=0.3, **options)

        def closure():
            optimizer.zero_grad()
            value = (w.cos() * torch.arange(12.0, dtype=torch.float64).view(3, 4)).sum()
            value.backward()
            return value

        for _ in range(10):
            optimizer.step(closure)
        return [w.detach().numpy()]

    assert_close(train(is_approx=False), train(), 1e-12)


@pytest.mark.parametrize("kind", ["mars-adamw", "mars-lion"])
def test_vectors_may_be_corrected_too(kind):
    """With optimize_1d a vector takes the steps that it takes as a row of a matrix."""
    ends = []
    for shape, optimize in (((6,), True), ((6, 1), False), ((6,), False)):
        weight = torch.nn.Parameter(torch.ones(shape, dtype=torch.float64))
        optimizer = MARS([weight], lr=0.01, mars_type=kind, optimize_1d=optimize)
        for step in range(4):
            generator = torch.Generator().manual_seed(step)
            weight.grad = torch.randn(6, generator=generator, dtype=torch.float64).reshape(shape)
            optimizer.step()
        ends.append(weight.detach().reshape(-1).clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    with pytest.raises(BadInputError, match="optimize_1d"):
        MARS([weight], mars_type="mars-shampoo", optimize_1d=True)


@pytest.mark.parametrize("kind", ["mars-adamw", "mars-lion", "mars-shampoo", "mars-m"])
def test_corrected_gradients_are_clipped_as_one_vector(kind):
    """As the paper has it: one norm for all matrices, so that none changes its weight against the others."""
    stream, gamma, lr, beta = with_gaps(gradients(12)), 0.4, 0.02, 0.95
    options = {"gamma": gamma, "weight_decay": 0.0, "clip_together": True}
    make = MARSM if kind == "mars-m" else functools.partial(MARS, mars_type=kind, lr_1d=lr)
    ours = run(lambda ps: make(ps, lr=lr, **options), stream, start())
    matrices = [i for i, w in enumerate(start()) if w.ndim > 1]
    clipped, before, largest = [[None] * len(given) for given in stream], {}, 0.0
    for t, given in enumerate(stream):
        there = [i for i in matrices if given[i] is not None]
        estimates = {i: given[i] + gamma * beta / (1 - beta) * (given[i] - before.get(i, given[i])) for i in there}
        before |= {i: given[i] for i in there}
        norm = np.sqrt(sum(float(np.sum(c**2)) for c in estimates.values()))
        largest = max(largest, norm)
        for i, c in estimates.items():
            clipped[t][i] = c / max(1.0, norm)
    assert largest > 2.0, "nothing was clipped"
    for i, w in enumerate(start()):
        w, given = w.detach().numpy().copy(), clipped if i in matrices else stream
        own = [gs[i] for gs in given if gs[i] is not None]
        theirs = descended(w, own, lr, kind) if i in matrices else adamw(w, own, lr, 0.9, 0.95)
        assert_close([ours[i]], [theirs], 1e-11)
