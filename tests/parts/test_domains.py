"""Triangular sweeps by domains: the same maps as dense factors in the new order, whoever does them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, Evidence
from precond.math.sparse.domains import split
from precond.operators import as_operator
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ict import ICT
from precond.preconditioners.ilu0 import ILU0
from precond.preconditioners.shifted import factor_with_shifts
from precond.preconditioners.ssor import SSOR
from precond.preconditioners.triangles import TrianglesState
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(7)
PARTS = [IC0, ICT, ILU0, SSOR]
EMPTY = (np.zeros(0), np.zeros(0), np.zeros(0))


def lopsided(n: int) -> scipy.sparse.csr_array:
    """Return a diagonally dominant matrix whose pattern is not symmetric."""
    upper = scipy.sparse.diags_array([-rng.random(n - 9)], offsets=[9], shape=(n, n))
    lower = scipy.sparse.diags_array([-rng.random(n - 1)], offsets=[-1], shape=(n, n))
    return scipy.sparse.csr_array(upper + lower + 3 * scipy.sparse.eye_array(n))


def set_up(part, matrix) -> TrianglesState:
    state = part.init(torch.zeros(1, matrix.shape[0], dtype=torch.float64))
    part.observe(state, Evidence(operator=as_operator(matrix)))
    assert part.refresh(state).failures == 0
    return state


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_domains_are_the_same_part_of_the_matrix_in_another_order(part, threads):
    matrix = poisson(13)
    order = split(matrix, 4)
    assert order is not None
    assert sorted(order.old) == list(range(169))
    permuted = scipy.sparse.csr_array(matrix[order.old][:, order.old])
    v = rng.standard_normal((2, 169))
    whole = part(domains=1)
    wanted = whole.apply(set_up(whole, permuted), torch.from_numpy(v[:, order.old].copy())).numpy()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cut = part(domains=4)
        found = cut.apply(set_up(cut, matrix), torch.from_numpy(v)).numpy()
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[:, order.old], wanted, rtol=1e-12)


@pytest.mark.parametrize("part", [ILU0, SSOR])
def test_adjoint_and_several_vectors_where_the_pattern_is_not_symmetric(part):
    matrix = lopsided(200)
    cut = part(domains=5)
    state = set_up(cut, matrix)
    assert state.domains is not None
    dense = cut.apply(state, torch.eye(200, dtype=torch.float64)).numpy().T
    adjoint = cut.apply_adjoint(state, torch.eye(200, dtype=torch.float64)).numpy().T
    np.testing.assert_allclose(adjoint, dense.T, atol=1e-13)
    one = torch.from_numpy(rng.standard_normal((1, 200)))
    np.testing.assert_allclose(cut.apply(state, one).numpy()[0], dense @ one.numpy()[0], rtol=1e-11, atol=1e-13)
    beside = torch.from_numpy(rng.standard_normal((200, 6))).mT
    np.testing.assert_allclose(cut.apply(state, beside).numpy(), beside.numpy() @ dense.T, rtol=1e-11, atol=1e-13)


def test_domains_do_not_touch_each_other():
    for matrix in (poisson(30), lopsided(300)):
        order = split(matrix, 6)
        assert order is not None
        inner = order.ordered(matrix).toarray()
        ends = order.ends
        for a, b in itertools.pairwise(ends):
            assert not inner[a:b, b : ends[-1]].any()
            assert not inner[b : ends[-1], a:b].any()


def test_matrices_that_do_not_fall_apart_stay_whole():
    dense = scipy.sparse.csr_array(np.ones((40, 40)) + 40 * np.eye(40))
    assert split(dense, 4) is None
    assert set_up(IC0(domains=4), dense).domains is None
    strong = scipy.sparse.csr_array(poisson(30) + 0.0)
    assert split(strong, 4) is not None
    assert split(strong, 4, 0.1) is None


def test_a_failed_factorization_keeps_the_last_one_and_its_order():
    part = IC0(domains=3)
    state = set_up(part, poisson(12))
    assert state.domains is not None
    v = torch.from_numpy(rng.standard_normal((1, 144)))
    before = part.apply(state, v)
    hopeless = factor_with_shifts(state, lambda shift: (EMPTY, 0), np.ones(144), None, 1e-3, "ic0")
    assert hopeless.failures == 1
    torch.testing.assert_close(part.apply(state, v), before)


def test_solves_by_domains():
    matrix, b = poisson(40), rng.standard_normal(1600)
    whole = precond.solve(matrix, b, method="cg", preconditioner=IC0(domains=1))
    cut = precond.solve(matrix, b, method="cg", preconditioner=IC0(domains=8))
    assert cut.converged
    assert cut.iterations <= 1.3 * whole.iterations


@pytest.mark.parametrize("part", PARTS)
def test_refuses_a_number_that_makes_no_sense(part):
    with pytest.raises(BadInputError, match="at least one domain"):
        part(domains=0)
