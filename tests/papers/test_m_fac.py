"""M-FAC against dense matrices and the recursion of the paper, and natural gradients on a logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError, Evidence
from precond.optim import MFAC, Optimizer
from precond.preconditioners.fisher_window import FisherWindow
from precond.recipes.windowed import m_fac
from tests.papers.networks import assert_close, gradients, run, start, with_gaps


def feed(part, state, gradient):
    part.observe(state, Evidence(gradient=gradient))
    return part.refresh(state)


def dynamic(window, x, damping):
    """The recursion of the paper for ``F^-1 x``, vector by vector: ``window`` holds the gradients in its rows."""
    m, applied = len(window), []

    def inverse(v):
        return v / damping - sum((a @ v) / (m + g @ a) * a for g, a in zip(window, applied, strict=False))

    for g in window:
        applied.append(inverse(g))  # noqa: PERF401  # the next inverse needs this one
    return inverse(x)


@pytest.mark.parametrize(("damping", "divisor"), [(1e-1, "memory"), (1e-2, "memory"), (1e-2, "seen")])
def test_equals_the_dense_inverse_and_the_recursion(damping, divisor):
    n, m, rng = 200, 32, np.random.default_rng(0)
    part, stream = FisherWindow(m, damping, divisor=divisor), rng.standard_normal((2 * m + 7, n))
    state = part.init(torch.empty(1, n, dtype=torch.float64))
    for t, g in enumerate(stream):
        feed(part, state, torch.tensor(g)[None])
        if t in (0, 5, m - 1, m, 2 * m + 6):
            window = stream[max(0, t + 1 - m) : t + 1]
            padded = window if divisor == "seen" else np.vstack([window, np.zeros((m - len(window), n))])
            x = rng.standard_normal(n)
            exact = np.linalg.solve(damping * np.eye(n) + padded.T @ padded / len(padded), x)
            ours = part.apply(state, torch.tensor(x)[None])[0].numpy()
            assert np.linalg.norm(ours - exact) <= 1e-10 * np.linalg.norm(exact)
            assert np.linalg.norm(ours - dynamic(padded, x, damping)) <= 1e-10 * np.linalg.norm(exact)


def reference(params, stream, lr, m, damping, momentum=0.0, weight_decay=0.0, clip=np.inf, seen=True):
    """All parameters as one vector; one without a gradient stays where it is, and counts as zero."""
    sizes, shapes = [p.size for p in params], [p.shape for p in params]
    cuts = np.cumsum(sizes)[:-1]
    w, n = np.concatenate([p.ravel() for p in params]), sum(sizes)
    window, v = [], np.zeros(n)
    for given in stream:
        moving = np.concatenate([np.full(size, g is not None) for size, g in zip(sizes, given, strict=True)])
        g = np.concatenate([np.zeros(s) if x is None else x.ravel() for s, x in zip(sizes, given, strict=True)])
        g = g + weight_decay * w * moving
        g = g * min(1.0, clip / np.linalg.norm(g))
        window = [*window, g][-m:]
        fisher = damping * np.eye(n) + sum(np.outer(x, x) for x in window) / (len(window) if seen else m)
        v = momentum * v + (1 - momentum) * np.linalg.solve(fisher, g)
        w = np.where(moving, w - lr * v, w)
    return [piece.reshape(shape) for piece, shape in zip(np.split(w, cuts), shapes, strict=True)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"momentum": 0.9, "weight_decay": 0.1, "clip": 3.0}, {"momentum": 0.9, "weight_decay": 0.1, "clip": 3.0}),
    ],
)
def test_all_parameters_are_one_vector(ours, theirs):
    stream, params = with_gaps(gradients(20)), start()
    before = [p.detach().numpy().copy() for p in params]
    moved = run(lambda ps: MFAC(ps, lr=1e-3, ngrads=8, damp=0.1, **ours), stream, params)
    assert_close(moved, reference(before, stream, 1e-3, 8, 0.1, **theirs), 1e-9)


def test_the_published_divisor_makes_the_first_direction_longer():
    stream, params = gradients(9), start()
    before = [p.detach().numpy().copy() for p in params]
    method = m_fac(memory=6, damping=0.1, divisor="memory")
    moved = run(lambda ps: Optimizer(ps, method, lr=1e-3), stream, params)
    assert_close(moved, reference(before, stream, 1e-3, 6, 0.1, seen=False), 1e-9)


def test_a_shift_adds_to_the_damping():
    part = FisherWindow(4, 0.1)
    state = part.init(torch.empty(1, 6, dtype=torch.float64))
    other = FisherWindow(4, 0.6)
    shifted = other.init(torch.empty(1, 6, dtype=torch.float64))
    for seed in range(6):
        g = torch.randn(1, 6, generator=torch.Generator().manual_seed(seed)).double()
        feed(part, state, g)
        feed(other, shifted, g)
    torch.testing.assert_close(part.apply(state, g, shift=0.5), other.apply(shifted, g), rtol=1e-12, atol=0)


def test_gradients_that_cannot_be_factored_are_left_out_and_counted():
    part = FisherWindow(3, 0.1)
    state = part.init(torch.empty(2, 4, dtype=torch.float64))
    feed(part, state, torch.ones(2, 4, dtype=torch.float64))
    before = part.apply(state, torch.ones(2, 4, dtype=torch.float64))
    bad = torch.stack([torch.full((4,), torch.nan), torch.zeros(4)]).double()
    assert feed(part, state, bad).failures == 1
    after = part.apply(state, torch.ones(2, 4, dtype=torch.float64))
    assert torch.equal(before[0], after[0])
    assert state.count.tolist() == [1, 2]
    assert part.refresh(state).failures == 0, "nothing waits any more"


def test_refuses_bad_sizes():
    with pytest.raises(BadInputError, match="at least 1"):
        FisherWindow(0)
    with pytest.raises(BadInputError, match="divisor"):
        FisherWindow(divisor="all")
    with pytest.raises(BadInputError, match="damping"):
        FisherWindow(damping=0.0)


def test_headline_natural_gradients_beat_gradient_descent():
    """Logistic regression on features of very different sizes, the best of a grid of learning rates for both."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((400, 30)) * np.logspace(0, -2, 30))
    y = (x @ torch.tensor(np.logspace(0, 2, 30)) + 0.5 * torch.tensor(rng.standard_normal(400)) > 0).double()

    def loss(w, rows):
        return torch.nn.functional.binary_cross_entropy_with_logits(x[rows] @ w, y[rows])

    def best(make, rates):
        finals = []
        for lr in rates:
            w = torch.zeros(30, dtype=torch.float64, requires_grad=True)
            optimizer, draw = make(w, lr), np.random.default_rng(1)
            for _ in range(200):
                optimizer.zero_grad()
                loss(w, draw.integers(0, 400, 32)).backward()
                optimizer.step()
            finals.append(loss(w.detach(), slice(None)).item())
        return min(finals)

    natural = best(lambda w, lr: MFAC([w], lr=lr, ngrads=64, damp=1e-4), (0.003, 0.01, 0.03, 0.1))
    plain = best(lambda w, lr: torch.optim.SGD([w], lr=lr), (0.1, 0.3, 1.0, 3.0, 10.0))
    assert natural < 0.6 * plain
