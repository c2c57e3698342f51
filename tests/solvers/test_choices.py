"""The automatic choice of a method for systems that are not symmetric: what is tried, in which order."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import BadInputError, Evidence
from precond.operators import as_operator
from precond.preconditioners.lu import LU
from precond.solvers.systems.choose import choose_system
from precond.solvers.systems.estimates import factorization_price
from precond.solvers.systems.look import Look


def convection(n, wind, dimensions=2):
    """Central differences of ``-Laplace u + wind . grad u`` on a grid of ``n`` to each side."""
    h = 1 / (n + 1)
    one = scipy.sparse.eye_array(n)
    line = scipy.sparse.diags_array([-1 - wind * h / 2, 2.0, -1 + wind * h / 2], offsets=[-1, 0, 1], shape=(n, n))
    terms = []
    for axis in range(dimensions):
        term = scipy.sparse.eye_array(1)
        for other in range(dimensions):
            term = scipy.sparse.kron(term, line if other == axis else one)
        terms.append(term)
    return scipy.sparse.csr_array(sum(terms[1:], terms[0]))


def order(a):
    return [attempt.preconditioner for attempt in choose_system(as_operator(a), 1).attempts]


def shifted(a):
    """The same graph, with rows whose sums do not vanish."""
    return scipy.sparse.csr_array(a + 4 * scipy.sparse.eye_array(a.shape[0]))


def test_rows_whose_sums_vanish_get_factors_that_keep_them():
    assert order(convection(20, 40.0))[0] == "milu0"
    assert order(shifted(convection(20, 40.0)))[0] == "ilu0"
    kept = precond.solve(convection(60, 200.0), np.ones(3600))
    other = precond.solve(convection(60, 200.0), np.ones(3600), method="bicgstab", preconditioner="ilu0")
    assert kept.converged
    assert kept.iterations < other.iterations / 2


@pytest.mark.parametrize(("dimensions", "n", "cheap"), [(2, 90, True), (2, 200, True), (3, 12, True), (3, 25, False)])
def test_complete_factors_come_first_where_they_are_cheap(dimensions, n, cheap):
    names = order(convection(n, 1.0, dimensions))
    assert (names.index("lu") < names.index("ilut")) is cheap


def test_planar_graphs_are_known_to_have_cheap_factors():
    """The estimate grows as ``n^3/2`` on them, and stays below that of a graph in space with as many unknowns."""
    seconds = [factorization_price(Look(as_operator(convection(n, 1.0)))).seconds for n in (100, 200)]
    assert seconds[1] / seconds[0] == pytest.approx(8, rel=0.1)
    assert factorization_price(Look(as_operator(convection(34, 1.0, 3)))).seconds > 5 * seconds[1]


def test_chains_cost_next_to_nothing():
    chain = convection(10_000, 1.0, 1)
    assert factorization_price(Look(as_operator(chain))).seconds < 1e-4


def test_patience_grows_with_what_the_factors_cost_on_differential_operators_only():
    smooth = convection(250, 1.0)
    quick = choose_system(as_operator(smooth), 1).attempts[0]
    assert quick.patience > 50
    assert choose_system(as_operator(shifted(smooth)), 1).attempts[0].patience == 50


def stokes(n):
    """Two Laplacians, the divergence, and a little of the identity with the other sign."""
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    step, one = scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n, n)), scipy.sparse.eye_array(n)
    laplace = scipy.sparse.kron(one, line) + scipy.sparse.kron(line, one)
    divergence = scipy.sparse.hstack([scipy.sparse.kron(one, step), scipy.sparse.kron(step, one)])
    velocities = scipy.sparse.block_diag([laplace, laplace])
    return scipy.sparse.csr_array(
        scipy.sparse.block_array([[velocities, divergence.T], [divergence, -0.01 * scipy.sparse.eye_array(n * n)]])
    )


def test_planar_systems_that_are_not_definite_are_factored_at_once():
    names = order(stokes(12))
    assert names[0] == "lu"
    assert {"jacobi", "ilut"} <= set(names)
    helmholtz = convection(40, 0.0) - 0.1 * scipy.sparse.eye_array(1600)
    assert order(scipy.sparse.csr_array(helmholtz))[:2] == ["ic0", "lu"]


def test_small_diagonals_do_not_get_pivots_near_them():
    """The symmetric ordering filled in 8 times as much on this one, 100 times on one of 10 800 unknowns."""
    part, operator = LU(), as_operator(stokes(20))
    state = part.init(torch.zeros(1, 1200, dtype=torch.float64))
    part.observe(state, Evidence(operator=operator))
    part.refresh(state)
    best = scipy.sparse.linalg.splu(scipy.sparse.csc_array(stokes(20)))
    assert state.factors is not None
    lower, upper, *_ = state.factors.triangles()
    assert len(lower[1]) + len(upper[1]) < 1.5 * best.nnz


def test_large_diagonals_of_very_different_sizes_do():
    scales = scipy.sparse.diags_array(10.0 ** np.random.default_rng(0).uniform(-3, 3, 900))
    fill = []
    for a in (convection(30, 0.0), scales @ convection(30, 0.0) @ scales):
        part = LU()
        state = part.init(torch.zeros(1, 900, dtype=torch.float64))
        part.observe(state, Evidence(operator=as_operator(scipy.sparse.csr_array(a))))
        part.refresh(state)
        assert state.factors is not None
        fill.append(len(state.factors.triangles()[0][1]))
    assert fill[0] == fill[1]


def test_rows_in_another_order_are_put_back():
    """A Laplacian whose rows were shuffled took seven times as long as one factorization, by incomplete factors."""
    laplace, generator = convection(40, 0.0), np.random.default_rng(3)
    shuffled = scipy.sparse.csr_array(laplace[generator.permutation(1600)])
    b = generator.standard_normal(1600)
    result = precond.solve(shuffled, b)
    assert result.method.startswith("cg + ic0 (rows in another order")
    assert result.converged
    assert np.linalg.norm(b - shuffled @ result.x) <= 1e-8 * np.linalg.norm(b)
    with pytest.raises(BadInputError, match="1600 rows"):
        precond.solve(shuffled, np.ones(1601))
    named = precond.solve(shuffled, b, method="gmres", preconditioner="lu")
    np.testing.assert_allclose(result.x, named.x, rtol=1e-5, atol=1e-5)
    several = precond.solve(shuffled, np.stack([b, 2 * b], axis=1), x0=np.stack([named.x, named.x], axis=1))
    np.testing.assert_allclose(several.x[:, 1], 2 * named.x, rtol=1e-5, atol=1e-5)


def test_gradients_flow_where_rows_are_shuffled():
    laplace, generator = convection(5, 1.0).toarray(), np.random.default_rng(4)
    a = torch.from_numpy(laplace[generator.permutation(25)]).to_sparse_csr().requires_grad_()
    b = torch.from_numpy(generator.standard_normal(25)).requires_grad_()
    precond.solve(a, b, rtol=1e-12).x.square().sum().backward()
    dense, other = a.detach().to_dense().requires_grad_(), b.detach().clone().requires_grad_()
    torch.linalg.solve(dense, other).square().sum().backward()
    torch.testing.assert_close(b.grad, other.grad)


@pytest.mark.parametrize("far", [1e-17, 0.0])
def test_rounding_opposite_to_a_zero_is_no_asymmetry(far):
    a = scipy.sparse.csr_array([[2.0, far, -1.0], [0.0, 3.0, -1.0], [-1.0, -1.0, 4.0]])
    assert as_operator(a).traits.symmetric
    assert not as_operator(scipy.sparse.csr_array([[2.0, 1e-5], [0.0, 3.0]])).traits.symmetric
    assert not as_operator(scipy.sparse.csr_array([[0.0, 1e-17], [0.0, 0.0]])).traits.symmetric


def test_a_shift_that_ones_show_to_be_too_large_is_factored_at_once():
    """Both took a futile run of an iteration first, and two to three times one factorization."""
    shift = 1.0 * scipy.sparse.eye_array(2500)
    assert order(scipy.sparse.csr_array(convection(50, 0.0) - shift))[0] == "lu"
    assert order(scipy.sparse.csr_array(convection(50, 0.0) - (1 + 0.1j) * shift))[0] == "lu"
    chain = scipy.sparse.csr_array(np.ones((1, 1)) * (np.eye(50) - np.eye(50, k=-1)))  # sums that vanish but for one
    assert order(chain)[0] != "lu"


def test_networks_begin_with_the_diagonal():
    generator = np.random.default_rng(5)
    pairs = generator.integers(0, 6000, (2, 18000))
    weights = scipy.sparse.coo_array((np.ones(18000), pairs), shape=(6000, 6000)).tocsr()
    degrees = scipy.sparse.diags_array(weights.sum(axis=0) + weights.sum(axis=1) + 0.1)
    network = scipy.sparse.csr_array(degrees - weights - weights.T)
    assert order(network)[0] == "jacobi"
    assert order(convection(75, 0.0))[0] == "ic0"
    result = precond.solve(network, np.ones(6000))
    assert result.converged
    assert result.method.startswith("cg + jacobi")
    assert np.linalg.norm(1 - network @ result.x) <= 1e-8 * np.sqrt(6000)


def test_tiny_matrices_with_pivots_of_both_signs_are_factored_by_rows_and_columns_of_unit_size():
    generator = np.random.default_rng(6)
    a = generator.standard_normal((40, 40)) * (generator.random((40, 40)) < 0.2) + np.diag(
        generator.choice([-1, 1], 40)
    )
    scaled = scipy.sparse.csr_array(np.diag(10.0 ** generator.uniform(-9, 9, 40)) @ a)
    expected = generator.standard_normal(40)
    result = precond.solve(scaled, scaled @ expected)
    assert result.converged
    assert "lu" in result.method
    np.testing.assert_allclose(result.x, expected, rtol=1e-6, atol=1e-6)
