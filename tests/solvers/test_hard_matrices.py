"""What ``precond.solve`` does by itself with matrices that are hard, singular or badly scaled."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, Status
from precond.krylov import MINRES
from precond.operators import FunctionOperator
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(21)


def neumann(m):
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m)).tolil()
    second[0, 0] = second[m - 1, m - 1] = 1
    one = scipy.sparse.eye_array(m)
    return scipy.sparse.csr_array(scipy.sparse.kron(second, one) + scipy.sparse.kron(one, second))


def saddle():
    a, n = poisson(12), 144
    b = scipy.sparse.random_array((30, n), density=0.03, rng=rng) + scipy.sparse.eye_array(30, n)
    return scipy.sparse.block_array([[a, b.T], [b, None]]).tocsr()


def wild(n=400):
    """Return a matrix without structure, whose incomplete factors are no use."""
    a = scipy.sparse.random_array((n, n), density=0.015, rng=rng)
    return scipy.sparse.csr_array(a[rng.permutation(n)] + scipy.sparse.eye_array(n).tocsr()[rng.permutation(n)])


def economy(n=80):
    """Return a singular matrix with empty rows and columns, as input-output tables have."""
    a = rng.random((n, n)) * (rng.random((n, n)) < 0.4)
    a[::9], a[:, ::17], a[5] = 0, 0, a[6] + a[7]
    return scipy.sparse.csr_array(a)


def scaled(rows, columns):
    left, right = 10 ** rng.uniform(-rows, rows, 100), 10 ** rng.uniform(-columns, columns, 100)
    return scipy.sparse.csr_array(scipy.sparse.diags_array(left) @ poisson(10) @ scipy.sparse.diags_array(right))


def arrow():
    a = poisson(15).tolil()
    a[0, :] = a[:, 0] = 1
    a[0, 0] = 2000
    return a.tocsr()


HARD = {
    "saddle point": saddle(),
    "no structure": wild(),
    "empty rows": economy(),
    "rows 1e-15 to 1e15": scaled(15, 0),
    "columns 1e-15 to 1e15": scaled(0, 15),
    "both 1e-8 to 1e8": scaled(8, 8),
    "singular, consistent": neumann(15),
    "dense row and column": arrow(),
    "nearly decoupled": scipy.sparse.block_array(
        [[poisson(9), 1e-12 * np.eye(81)], [1e-12 * np.eye(81), 1e6 * poisson(9)]]
    ).tocsr(),
    "permutation": scipy.sparse.csr_array(scipy.sparse.eye_array(60).tocsr()[rng.permutation(60)]),
    "skew, singular": scipy.sparse.diags_array([-1.0, 1.0], offsets=[-1, 1], shape=(61, 61)).tocsr(),
    "complex": scipy.sparse.csr_array(poisson(10) + 1j * scipy.sparse.random_array((100, 100), density=0.05, rng=rng)),
    "indefinite": scipy.sparse.csr_array(poisson(15) - 0.7 * scipy.sparse.eye_array(225)),
    "integers": poisson(8).astype(int),
    "one by one": scipy.sparse.csr_array([[-3.0]]),
    "tiny": 1e-300 * poisson(8),
    "huge": 1e300 * poisson(8),
}


@pytest.mark.parametrize("name", HARD)
def test_solves_it_and_says_so(name):
    a = HARD[name]
    b = a @ rng.standard_normal(a.shape[1])
    result = precond.solve(a, b)
    assert result.converged, result
    unit = np.abs(b).max()
    gap = b / unit - (a / unit) @ result.x if name == "tiny" else (b / unit - a @ (result.x / unit))
    assert np.linalg.norm(gap) <= 1.1e-8 * np.linalg.norm(b / unit)


@pytest.mark.parametrize("m", [15, 40])
def test_a_system_without_a_solution_gets_the_least_residual_and_is_called_that(m):
    a, b = neumann(m), rng.standard_normal(m * m)
    result = precond.solve(a, b)
    assert result.status is Status.FAILED_INCONSISTENT
    assert "lstsq" in result.message
    np.testing.assert_allclose(b - a @ result.x, b.mean(), atol=1e-5)


@pytest.mark.parametrize("m", [10, 40])
def test_minres_stays_at_the_least_residual(m):
    a, b = neumann(m), rng.standard_normal(m * m)
    result = precond.solve(a, b, method=MINRES(), preconditioner="identity")
    assert result.status is Status.FAILED_INCONSISTENT
    np.testing.assert_allclose(b - a @ result.x, b.mean(), atol=1e-5)


def test_a_failure_returns_the_best_of_all_attempts():
    a = scipy.sparse.csr_array(scipy.sparse.diags_array(rng.uniform(1, 2, 1600)) @ neumann(40))
    b = rng.standard_normal(1600)
    result = precond.solve(a, b)
    assert not result.converged
    assert np.linalg.norm(b - a @ result.x) <= np.linalg.norm(b)


def test_a_solution_that_overflows_is_not_called_one():
    with np.errstate(over="ignore"):
        result = precond.solve(poisson(20), np.full(400, 1e308))
    assert result.status is Status.FAILED_NON_FINITE


def test_large_elliptic_problems_get_multigrid_and_the_reason():
    a = poisson(115)
    result = precond.solve(a, rng.standard_normal(13225))
    assert result.converged
    assert result.method.startswith("cg + amg (")
    assert "many steps apart" in result.method
    assert precond.solve(poisson(40), np.ones(1600)).method.startswith("cg + ic0")


def test_an_operator_that_is_not_as_declared_is_named():
    a = torch.from_numpy(np.triu(np.ones((4, 4))))
    wrong = FunctionOperator(lambda v: v @ a.T, (4, 4), symmetric=True)
    with pytest.raises(BadInputError, match="declared symmetric"):
        precond.solve(wrong, np.ones(4))
    b = torch.ones(4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(BadInputError, match="adjoint"):
        precond.solve(FunctionOperator(lambda v: v @ a.T, (4, 4), rmatvec=lambda v: v @ a.T), b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_iterations": 2.5}, "whole number"),
        ({"preconditioner": np.eye(3)}, "Preconditioner"),
        ({"method": np.eye(3)}, "Iteration"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(BadInputError, match=message):
        precond.solve(np.eye(3), np.ones(3), **arguments)
