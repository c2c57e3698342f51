"""SOAP on tiles: SOAP where nothing is cut, and the published algorithm on every tile where something is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.optim import SOAP, LeanSOAP, Optimizer, estimate_memory
from precond.recipes.matrix import lean_soap, soap
from tests.papers.networks import KroneckerQuadratic, assert_close, each, gradients, run, start
from tests.papers.test_soap import reference


def test_is_soap_where_nothing_is_cut():
    stream = gradients(25)
    ours = run(lambda ps: LeanSOAP(ps, lr=0.05, weight_decay=0.1), stream, start())
    whole = run(lambda ps: SOAP(ps, lr=0.05, weight_decay=0.1), stream, start())
    assert_close(ours, whole, 0.0)


@pytest.mark.parametrize("every", [1, 4])
def test_equals_the_published_algorithm_on_every_tile(every):
    shapes = ((8, 4), (4, 12), (4, 4), (7,), ())
    stream = gradients(31, shapes)

    def tiles(w):
        if w.ndim < 2:
            return [(...,)]
        return [(slice(i, i + 4), slice(j, j + 4)) for i in range(0, w.shape[0], 4) for j in range(0, w.shape[1], 4)]

    def by_tiles(w, given):
        w = w.copy()
        for tile in tiles(w):
            w[tile] = reference(w[tile].copy(), [g[tile] for g in given], 0.05, weight_decay=0.1, every=every)
        return w

    found = run(
        lambda ps: Optimizer(ps, lean_soap(block=4, every=every, stagger=False), lr=0.05, weight_decay=0.1),
        stream,
        start(shapes),
    )
    assert_close(found, each(by_tiles, stream, start(shapes)), 1e-9)


def test_tiles_that_overhang_train():
    params = start([(7, 5), (9,), (3, 5, 2)], dtype=torch.float32)
    after = run(lambda ps: LeanSOAP(ps, lr=0.01, block_size=4), gradients(30, [(7, 5), (9,), (3, 5, 2)]), params)
    assert all(np.isfinite(p).all() for p in after)


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


def test_headline_no_worse_than_soap_where_curvature_has_tiles():
    problem = SideBySide()

    def best(make) -> float:
        return min(problem.final(make, 10.0**exponent, 500) for exponent in (-1.25, -1.0))

    ours = best(lambda ps, lr: LeanSOAP(ps, lr=lr, weight_decay=0.0, block_size=16))
    assert ours <= best(lambda ps, lr: SOAP(ps, lr=lr, weight_decay=0.0))


def test_state_and_work_grow_with_the_tile_not_with_the_matrix():
    named = [("w", torch.zeros(64, 256, requires_grad=True))]
    whole, tiled = (estimate_memory(named, method) for method in (soap(), lean_soap(block=16)))
    entries = 64 * 256
    assert whole >= 4 * (2 * (64**2 + 256**2) + 2 * entries)
    assert tiled < 4 * (4 * entries + 2 * entries) * 1.05
