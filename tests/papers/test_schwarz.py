"""Additive Schwarz against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError
from precond.preconditioners.schwarz import Schwarz
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(10)


@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_adds_up_the_inverses_of_pieces(overlap):
    a = scipy.sparse.csr_array(poisson(6) + 0.3 * scipy.sparse.random_array((36, 36), density=0.05, rng=rng))
    part = Schwarz(size=10, overlap=overlap)
    state, health = ready(part, a)
    assert health.detail == ""
    cut = [members for members, _ in state.pieces]
    near = ((a != 0) + (a != 0).T).toarray() > 0
    p, seen = np.zeros((36, 36)), set()
    for members in cut:
        p[np.ix_(members, members)] += np.linalg.inv(a.toarray()[np.ix_(members, members)])
        seen |= set(members.tolist())
    assert seen == set(range(36))
    if overlap == 0:
        assert sum(map(len, cut)) == 36
    else:  # no piece ends where another begins: each core has its neighbours
        bare = [members for members, _ in ready(Schwarz(size=10, overlap=overlap - 1), a)[0].pieces]
        for inner, outer in zip(bare, cut, strict=True):
            assert set(outer.tolist()) == set(np.flatnonzero(near[inner].any(axis=0)).tolist()) | set(inner.tolist())
    v = rng.standard_normal((2, 36))
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v)), v @ p.T, rtol=1e-9)
    np.testing.assert_allclose(part.apply_adjoint(state, torch.from_numpy(v)), v @ p, rtol=1e-9)


def test_one_piece_is_a_direct_solution():
    a, b = poisson(10), rng.standard_normal(100)
    assert precond.solve(a, b, method="gmres", preconditioner="schwarz").iterations == 1


def test_overlap_saves_iterations():
    a, b = poisson(40), rng.standard_normal(1600)
    counts = [
        precond.solve(a, b, method="cg", preconditioner=Schwarz(size=200, overlap=overlap)).iterations
        for overlap in (0, 3)
    ]
    assert counts[1] < 0.8 * counts[0]


def test_singular_pieces_are_reported():
    _, health = ready(Schwarz(size=1, overlap=0), np.array([[0.0, 1], [1, 0]]))
    assert health.failures == 0
    assert "singular" in health.detail


def test_refuses_pieces_of_nothing():
    with pytest.raises(BadInputError, match="size"):
        Schwarz(size=0)
