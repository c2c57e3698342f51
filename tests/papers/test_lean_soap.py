"""LeanSOAP: SOAP where nothing is saved, and each saving against a plain loop that knows of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.optim import SOAP, LeanSOAP, Optimizer, Shampoo, estimate_memory, layout
from precond.recipes.matrix import lean_soap, shampoo, soap
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start
from tests.papers.test_soap import rotate

WHOLE = {"factor_block": None, "statistics": 1, "half": False, "fitted": False, "every": 10, "early": None}
WHOLE["growth"] = None
SHAPES = ((8, 4), (4, 12), (4, 4), (7,), (), (8, 2, 4))
SQUARE = ((5, 5), (4, 4), (6,), (), (4, 2, 2))
"""Shapes whose Gram matrices (in ``SHAPES``: whose blocks' or shortest side's) are not singular: the basis of a null
space is arbitrary."""


def reference(
    w, stream, lr, weight_decay=0.1, beta=0.95, eps=1e-8, every=10, factor_block=None, statistics=1, one_sided=False
):
    """SOAP, one tensor at a time, with whole matrices of which only the diagonal blocks are ever filled."""
    sides = [n // -(-n // factor_block) if factor_block and w.ndim > 1 else n for n in w.shape]
    kept = [w.ndim > 1 and (not one_sided or i == w.ndim - 1 - int(np.argmin(w.shape[::-1]))) for i in range(w.ndim)]
    masks = [np.kron(np.eye(n // side), np.ones((side, side))) for n, side in zip(w.shape, sides, strict=True)]
    factors = [np.zeros((n, n)) if keep else None for n, keep in zip(w.shape, kept, strict=True)]

    def absorb(g):
        for i, factor in enumerate(factors):
            if factor is not None:
                unfolded = np.moveaxis(g, i, 0).reshape(g.shape[i], -1)
                factors[i] = beta**statistics * factor + (1 - beta**statistics) * masks[i] * (unfolded @ unfolded.T)

    def by_blocks(i, function):
        whole = np.zeros((w.shape[i], w.shape[i]))
        for first in range(0, w.shape[i], sides[i]):
            part = slice(first, first + sides[i])
            whole[part, part] = function(part)
        return whole

    absorb(stream[0])
    bases = [
        None if f is None else by_blocks(i, lambda part, f=f: np.linalg.eigh(f[part, part])[1][:, ::-1])
        for i, f in enumerate(factors)
    ]
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream[1:], start=1):
        m = 0.95 * m + 0.05 * g
        turned = rotate(g, bases, True)
        v = 0.95 * v + 0.05 * turned**2
        step = lr * np.sqrt(1 - 0.95**t) / (1 - 0.95**t)
        w = w - step * rotate(rotate(m, bases, True) / (np.sqrt(v) + eps), bases, False)
        w = w - lr * weight_decay * w
        if (t + 1) % statistics == 0:
            absorb(g)
        if t % every == 0:
            for i, (f, q) in enumerate(zip(factors, bases, strict=True)):
                if f is None:
                    continue
                starts = range(0, w.shape[i], sides[i])
                quotients = np.diag(q.T @ f @ q)
                order = np.concatenate([s + np.argsort(-quotients[s : s + sides[i]], kind="stable") for s in starts])
                v = np.take(v, order, axis=i)
                q = q[:, order]
                bases[i] = by_blocks(i, lambda part, f=f, q=q: np.linalg.qr(f[part, part] @ q[part, part])[0])
    return w


@pytest.mark.parametrize("steps", [25])
def test_is_soap_where_nothing_is_saved(steps):
    stream = gradients(steps)
    lean = {"precondition_frequency": 10, "early_frequency": None, "half_bases": False, "fitted_factors": False}
    lean["turn_growth"] = None
    ours = run(lambda ps: LeanSOAP(ps, lr=0.05, weight_decay=0.1, **lean), stream, start())
    whole = run(lambda ps: SOAP(ps, lr=0.05, weight_decay=0.1), stream, start())
    assert_close(ours, whole, 0.0)


@pytest.mark.parametrize(
    "savings",
    [
        {"factor_block": 4},
        {"factor_block": 4, "every": 3},
        {"statistics": 2, "every": 4},
        {"statistics": 3, "every": 1},
        {"one_sided": True},
        {"factor_block": 2, "statistics": 2, "one_sided": True},
    ],
    ids=str,
)
def test_equals_a_loop_with_the_same_savings(savings):
    shapes = SHAPES if "factor_block" in savings or "one_sided" in savings else SQUARE
    stream = gradients(31, shapes)
    method = lean_soap(stagger=False, **(WHOLE | savings))
    found = run(lambda ps: Optimizer(ps, method, lr=0.05, weight_decay=0.1), stream, start(shapes))
    assert_close(found, each(lambda w, given: reference(w, given, 0.05, **savings), stream, start(shapes)), 1e-9)


def fitted_reference(w, stream, lr, weight_decay=0.1, beta=0.95, eps=1e-8, every=10, growth=None):
    """Adam in the bases of factors that are weighted by one another, all in the matrix's own coordinates."""
    sides = w.shape
    left, right = (1 - beta) / sides[1] * stream[0] @ stream[0].T, (1 - beta) / sides[0] * stream[0].T @ stream[0]
    bases = [np.linalg.eigh(f)[1][:, ::-1] for f in (left, right)]
    values = [np.full(n, 0.1) for n in sides]
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(stream[1:], start=1):
        within = rotate(g, bases, True)
        m, v = 0.95 * m + 0.05 * g, 0.95 * v + 0.05 * within**2
        step = lr * np.sqrt(1 - 0.95**t) / (1 - 0.95**t)
        w = w - step * rotate(rotate(m, bases, True) / (np.sqrt(v) + eps), bases, False)
        w = w - lr * weight_decay * w
        (ql, qr), (dl, dr) = bases, values
        left = beta * left + (1 - beta) / sides[1] * g @ qr @ np.diag(1 / dr) @ qr.T @ g.T
        right = beta * right + (1 - beta) / sides[0] * g.T @ ql @ np.diag(1 / dl) @ ql.T @ g
        values = [
            np.maximum(beta * dl + (1 - beta) / sides[1] * (within**2 / dr).sum(1), max(10, sides[0]) ** -2.0),
            np.maximum(beta * dr + (1 - beta) / sides[0] * (within.T**2 / dl).sum(1), max(10, sides[1]) ** -2.0),
        ]
        if t % every == 0:
            limit = np.inf if growth is None else growth * np.abs(rotate(m, bases, True) / (np.sqrt(v) + eps)).max()
            for i, factor in enumerate((left, right)):
                order = np.argsort(-np.diag(bases[i].T @ factor @ bases[i]), kind="stable")
                v, values[i] = np.take(v, order, axis=i), values[i][order]
                bases[i] = np.linalg.qr(factor @ bases[i][:, order])[0]
            within = rotate(m, bases, True)
            bound = limit * (np.sqrt(v) + eps)
            m = m if growth is None else rotate(np.clip(within, -bound, bound), bases, False)
    return w


@pytest.mark.parametrize(
    "settings", [{}, {"every": 3}, {"every": 1, "eps": 1e-3}, {"every": 2, "growth": 1.1}], ids=str
)
def test_fitted_factors_equal_a_loop(settings):
    shapes = ((5, 5), (4, 4), (5, 5))
    stream = gradients(31, shapes)
    method = lean_soap(stagger=False, **(WHOLE | {"fitted": True} | settings))
    found = run(lambda ps: Optimizer(ps, method, lr=0.02, weight_decay=0.1), stream, start(shapes))
    expected = each(lambda w, given: fitted_reference(w, given, 0.02, **settings), stream, start(shapes))
    assert_close(found, expected, 1e-9)


def test_one_sided_factors_have_nothing_to_be_fitted_to():
    """A factor alone is divided by one number, which turns no eigenvector."""
    shapes = ((8, 4), (4, 6))
    stream = gradients(25, shapes)
    found = [
        run(
            lambda ps, f=fitted: Optimizer(ps, lean_soap(**(WHOLE | {"one_sided": True, "fitted": f})), lr=0.05),
            stream,
            start(shapes),
        )
        for fitted in (True, False)
    ]
    assert_close(*found, 1e-9)


@pytest.mark.parametrize("fitted", [True, False])
def test_bases_that_are_good_enough_stay(fitted):
    stream, shapes = gradients(12, ((6, 6),)), ((6, 6),)
    found = {
        tolerance: run(
            lambda ps, t=tolerance: Optimizer(ps, lean_soap(tolerance=t, fitted=fitted, every=2, half=False), lr=0.05),
            stream,
            start(shapes),
        )[0]
        for tolerance in (0.0, 1e-9, 1.0)
    }
    np.testing.assert_allclose(found[1e-9], found[0.0], atol=1e-9)
    assert np.abs(found[1.0] - found[0.0]).max() > 1e-3


def test_blocks_that_do_not_fit_train():
    shapes = [(7, 5), (9,), (3, 5, 2)]
    params = start(shapes, dtype=torch.float32)
    after = run(lambda ps: LeanSOAP(ps, lr=0.01, factor_block_size=4), gradients(30, shapes), params)
    assert all(np.isfinite(p).all() for p in after)
    assert all(np.abs(p - q.detach().numpy()).max() > 1e-2 for p, q in zip(after, start(shapes), strict=True))


def test_a_zero_behind_a_block_that_does_not_fit_changes_nothing():
    """A matrix of 7 rows in blocks of 4 is one of 8 whose last row has no gradient."""
    stream = [[np.concatenate([g, np.zeros((1, 4))])] for (g,) in gradients(20, [(7, 4)])]
    method = lean_soap(**(WHOLE | {"factor_block": 4}))
    (padded,) = start([(8, 4)])
    padded.data[-1] = 0
    (whole,) = run(lambda ps: Optimizer(ps, method, lr=0.05), stream, [padded.detach().clone().requires_grad_()])
    (cut,) = run(
        lambda ps: Optimizer(ps, method, lr=0.05),
        [[g[:7]] for (g,) in stream],
        [padded.data[:7].clone().requires_grad_()],
    )
    np.testing.assert_allclose(cut, whole[:7], atol=1e-9)


@pytest.mark.parametrize("fitted", [True, False])
def test_bases_in_half_precision_take_nearly_the_same_steps(fitted):
    shapes = ((64, 48),)
    stream = gradients(8, shapes)
    first = start(shapes, dtype=torch.float32)[0].detach()

    def moved(half: bool) -> np.ndarray:
        method = lean_soap(**(WHOLE | {"half": half, "fitted": fitted}))
        optimizer_of = {}

        def make(params):
            optimizer_of["it"] = Optimizer(params, method, lr=0.01)
            return optimizer_of["it"]

        (w,) = run(make, stream, [first.clone().requires_grad_()])
        (state,) = optimizer_of["it"].state.values()
        assert state["preconditioner.basis.bases.0"].dtype == (torch.bfloat16 if half else torch.float32)
        return w - first.numpy()

    whole, half = moved(False), moved(True)
    difference = np.linalg.norm(whole - half) / np.linalg.norm(whole)
    assert 0 < difference < 0.05


def test_statistics_are_spread_over_the_steps(monkeypatch):
    monkeypatch.setattr(layout, "TOGETHER", 0.0)
    params = [torch.zeros(6, 6, requires_grad=True) for _ in range(4)]
    optimizer = Optimizer(params, lean_soap(statistics=2, every=10, early=None), lr=0.01)
    counts = []
    for step in range(6):
        before = [optimizer.state[p].get("preconditioner.basis.factors.0", torch.zeros(1)).clone() for p in params]
        for p in params:
            p.grad = torch.randn(6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        after = [optimizer.state[p]["preconditioner.basis.factors.0"] for p in params]
        counts.append(sum(not torch.equal(a, b.expand_as(a)) for a, b in zip(after, before, strict=True)))
    assert counts == [4, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("savings", [{"factor_block": 4}, {"statistics": 2}, {"one_sided": True}], ids=str)
def test_shampoo_saves_the_same(savings):
    """Where it can be said in other words: tiles of one axis, every other gradient, one factor."""
    shapes = ((4, 12), (4, 4))
    stream = gradients(12, shapes)
    found = run(lambda ps: Optimizer(ps, shampoo(beta=0.9, **savings), lr=0.05), stream, start(shapes))
    expected = []
    for w, given in zip(start(shapes), zip(*stream, strict=True), strict=True):
        w = w.detach().numpy().copy()
        rows, columns = w.shape
        side = savings.get("factor_block", columns)
        decay = 0.9 ** savings.get("statistics", 1)
        left, right = 1e-4 * np.eye(rows), 1e-4 * np.eye(columns)
        mask = np.kron(np.eye(columns // side), np.ones((side, side)))
        for t, g in enumerate(given, start=1):
            if t == 1 or (t + 1) % savings.get("statistics", 1) == 0:
                left, right = (
                    decay * left + (1 - decay) * g @ g.T,
                    decay * right + (1 - decay) * mask * (g.T @ g),
                )
            power = -0.5 if "one_sided" in savings else -0.25
            one_sided = "one_sided" in savings
            roots = []
            for factor in (left, right):
                values, vectors = np.linalg.eigh(factor)
                roots.append(vectors * values**power @ vectors.T)
            if one_sided:  # the shortest axis, the last of several
                roots[0 if rows >= columns else 1] = np.eye(rows if rows >= columns else columns)
            w -= 0.05 * roots[0] @ g @ roots[1]
        expected.append(w)
    assert_close(found, expected, 1e-9)


class SideBySide:
    """Two independent quadratics of Kronecker structure, whose solutions stand beside one another in one matrix."""

    def __init__(self) -> None:
        self.left, self.right = KroneckerQuadratic(16, 12, seed=0), KroneckerQuadratic(16, 12, seed=1)

    def final(self, make, lr: float, steps: int) -> float:
        w = torch.zeros(16, 24, dtype=torch.float64, requires_grad=True)
        optimizer = make([w], lr)
        for t in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - t / steps)
            parts = zip((self.left, self.right), w.detach().split(12, dim=1), strict=True)
            w.grad = torch.cat([p.a @ (part - p.solution) @ p.b for p, part in parts], dim=1)
            optimizer.step()
        return self.left.loss(w.detach()[:, :12]) + self.right.loss(w.detach()[:, 12:])


def test_headline_no_worse_than_soap_where_curvature_has_blocks():
    problem = SideBySide()

    def best(make) -> float:
        return min(problem.final(make, 10.0**exponent, 500) for exponent in (-1.25, -1.0))

    blocks = {"factor_block_size": 16, "fitted_factors": False, "precondition_frequency": 10}
    ours = best(lambda ps, lr: LeanSOAP(ps, lr=lr, weight_decay=0.0, **blocks))
    assert ours <= best(lambda ps, lr: SOAP(ps, lr=lr, weight_decay=0.0))


def test_state_grows_with_the_block_not_with_the_longer_axis():
    named = [("w", torch.zeros(64, 256, requires_grad=True))]
    entries = 64 * 256
    whole = estimate_memory(named, soap())
    blocks = estimate_memory(named, lean_soap(**(WHOLE | {"factor_block": 64})))
    half = estimate_memory(named, lean_soap(**(WHOLE | {"factor_block": 64, "half": True})))
    factors = 64**2 + 256 * 64
    assert whole >= 4 * (2 * (64**2 + 256**2) + 2 * entries)
    assert blocks <= 4 * (2 * factors + 2 * entries) + 64
    assert blocks - half == 2 * factors


def test_what_cannot_be_is_refused():
    for make in (lean_soap, shampoo):
        with pytest.raises(BadInputError, match="block"):
            make(factor_block=0)
        with pytest.raises(BadInputError, match="statistics"):
            make(statistics=0)
    assert dataclasses.is_dataclass(
        Shampoo([torch.zeros(3, 3)], factor_block_size=2, statistics_frequency=2)._rules[0].method
    )


def test_bases_stay_orthogonal_turn_after_turn():
    """Products of turns in bfloat16 would lose a sixth of it in a hundred turns, and everything in a thousand."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(16, 24))
    optimizer = LeanSOAP([weight], lr=1e-3, precondition_frequency=1)
    for _ in range(200):
        weight.grad = torch.randn(16, 24)
        optimizer.step()
    (state,) = optimizer.state_dict()["state"].values()
    bases = [value.float() for name, value in state.items() if ".bases." in name]
    assert len(bases) == 2
    for basis in bases:
        q = basis.reshape(basis.shape[-2:])
        assert float((q.mT @ q - torch.eye(len(q))).abs().max()) < 0.03
