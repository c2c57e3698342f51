"""Constraints with NumPy functions: users' Hessians are used, sparse matrices stay sparse, and torch is recognized."""

import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, rosen, rosen_der, rosen_hess, rosen_hess_prod

import precond
import precond.scipy
from precond.core import BadInputError

X0 = np.array([0.5, 0.0])
TUTORIAL = np.array([0.41494531, 0.17010937])
"""The solution of the constrained problem in SciPy's tutorial."""


def curved(x: np.ndarray) -> list[float]:
    return [x[0] ** 2 + x[1], x[0] ** 2 - x[1]]


def slopes(x: np.ndarray) -> list[list[float]]:
    return [[2 * x[0], 1], [2 * x[0], -1]]


def dense(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (v[0] + v[1]) * np.array([[2.0, 0], [0, 0]])


def by_products(x: np.ndarray, v: np.ndarray) -> scipy.sparse.linalg.LinearOperator:
    return scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda p: dense(x, v) @ p)


@pytest.mark.parametrize("form", [dense, lambda x, v: scipy.sparse.csc_matrix(dense(x, v)), by_products])
def test_hessians_of_objective_and_constraints_replace_differences(form):
    gradients = 0

    def gradient(x):
        nonlocal gradients
        gradients += 1
        return rosen_der(x)

    limits = [
        LinearConstraint([[1, 2], [2, 1]], [-np.inf, 1], [1, 1]),
        NonlinearConstraint(curved, -np.inf, 1, jac=slopes, hess=form),
    ]
    result = precond.minimize(
        rosen, X0, jac=gradient, hessp=rosen_hess_prod, constraints=limits, bounds=Bounds([0, -0.5], [1, 2])
    )
    assert result.converged
    np.testing.assert_allclose(result.x, TUTORIAL, atol=1e-5)
    assert gradients <= result.iterations + 4  # one at each iterate, and at what is tried and certified


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.linalg.aslinearoperator])
def test_scipy_hess_takes_every_kind_of_matrix(kind):
    asked = 0

    def hess(x):
        nonlocal asked
        asked += 1
        return kind(rosen_hess(x))

    answer = precond.scipy.minimize(
        rosen, X0, jac=rosen_der, hess=hess, constraints=NonlinearConstraint(curved, -np.inf, 1, jac=slopes, hess=dense)
    )
    assert answer.success
    assert 0 < asked <= answer.nit + 3


def test_wrong_constraint_hessian_shape_is_named():
    limit = NonlinearConstraint(curved, -np.inf, 1, jac=slopes, hess=lambda x, v: np.eye(3))
    with pytest.raises(BadInputError, match="hess beside"):
        precond.minimize(rosen, X0, jac=rosen_der, hessp=rosen_hess_prod, constraints=limit)


def test_wrong_jacobian_shape_is_named():
    limit = NonlinearConstraint(lambda x: x, -np.inf, 1, jac=lambda x: scipy.sparse.csr_matrix(3 * x))
    with pytest.raises(BadInputError, match="a row for each constraint"):
        precond.minimize(rosen, X0, jac=rosen_der, constraints=limit)


@pytest.mark.parametrize(
    "shown", [lambda array: array, lambda array: np.broadcast_to(array.copy(), array.shape)], ids=["same", "read-only"]
)
@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_arrays_of_users_may_be_read_only_or_written_anew_in_each_call(shown):
    value, rows = np.zeros(1), np.zeros((1, 2))

    def constraint(x):
        value[:] = x @ x
        return shown(value)

    def jacobian(x):
        rows[:] = 2 * x
        return shown(rows)

    result = precond.minimize(
        lambda x: (x - 3) @ (x - 3), np.ones(2), jac=lambda x: 2 * (x - 3),
        constraints=NonlinearConstraint(constraint, -np.inf, 1, jac=jacobian),
    )  # fmt: skip
    assert result.converged
    np.testing.assert_allclose(result.x, np.full(2, 0.5**0.5), atol=1e-6)


def test_curvature_of_a_constraint_without_derivatives_is_not_noise():
    target = np.arange(4.0)
    result = precond.minimize(
        lambda x: float((x - target) @ (x - target)), np.full(4, 5.0), jac=lambda x: 2 * (x - target),
        constraints=NonlinearConstraint(lambda x: x @ x, 1, 1),
    )  # fmt: skip
    np.testing.assert_allclose(result.x, target / np.linalg.norm(target), atol=1e-6)
    assert result.status is precond.core.Status.CONVERGED_KKT


@pytest.mark.parametrize("case", ["linear", "nonlinear", "fixed"])
def test_large_sparse_programs_stay_sparse(case):
    def solve(n, m):
        rng = np.random.default_rng(0)
        h = scipy.sparse.diags([np.full(n - 1, -1.0), np.full(n, 2.5), np.full(n - 1, -1.0)], [-1, 0, 1]).tocsr()
        g = rng.normal(size=n)
        places = np.repeat(np.arange(m), 3), (4 * np.arange(m)[:, None] + np.arange(3)).ravel()
        a = scipy.sparse.csr_matrix((rng.normal(size=3 * m), places), shape=(m, n))
        least = np.where(np.arange(m) % 2 == 0, 0.1, -np.inf)
        fixed = np.arange(n) < m
        given = {
            "linear": dict(constraints=LinearConstraint(a, least, 0.1)),
            "nonlinear": dict(
                constraints=NonlinearConstraint(
                    lambda x: a @ x + x[:m] ** 2, least, 0.1,
                    jac=lambda x: a + scipy.sparse.diags_array(2 * x[:m], shape=(m, n)),
                    hess=lambda x, v: scipy.sparse.diags_array(np.r_[2 * v, np.zeros(n - m)]),
                )
            ),
            "fixed": dict(bounds=Bounds(np.where(fixed, 0.2, -0.5), np.where(fixed, 0.2, 0.5))),
        }[case]  # fmt: skip
        return precond.scipy.minimize(
            lambda x: x @ (h @ x) / 2 + g @ x, np.zeros(n), jac=lambda x: h @ x + g, hess=lambda x: h, **given
        )

    solve(1200, 300)  # what is imported and compiled on first use is not counted
    n, m = 6000, 1500
    tracemalloc.start()
    answer = solve(n, m)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.success
    assert peak < n * m * 8 / 4  # bytes of numpy alone; a dense Jacobian would take four times that
    assert answer.nhev < 15 * answer.nit, "products find the entries of a Hessian whose places are known"


def test_torch_objective_with_a_sparse_linear_constraint_on_an_array():
    a = scipy.sparse.csr_matrix(np.array([[1.0, 1, 0], [0, 1, 2]]))
    result = precond.minimize(
        lambda x: (x**2).sum() + x[0], np.zeros(3), constraints=LinearConstraint(a, [1, -np.inf], [1, 0.5])
    )
    assert isinstance(result.x, np.ndarray)
    assert result.converged
    theirs = scipy.optimize.minimize(
        lambda x: x @ x + x[0], np.zeros(3), method="SLSQP", options={"ftol": 1e-14},
        constraints=[LinearConstraint(a.toarray(), [1, -np.inf], [1, 0.5])],
    )  # fmt: skip
    np.testing.assert_allclose(result.x, theirs.x, atol=1e-5)


def test_torch_functions_are_followed_from_arrays():
    result = precond.minimize(lambda x: ((x - 2) ** 2).sum() + (x**4).sum(), np.zeros(3))
    assert isinstance(result.x, np.ndarray)
    assert result.converged
    assert result.work.hvps
    seen = []
    precond.minimize(lambda x: (x**2).sum(), np.ones(2), callback=lambda event: seen.append(event.x))
    assert all(isinstance(x, np.ndarray) for x in seen)
    bounded = precond.minimize(lambda x: ((x - 2) ** 2).sum(), np.zeros(3), bounds=Bounds(0, 1))
    np.testing.assert_allclose(bounded.x, np.ones(3), atol=1e-6)
    fit = precond.least_squares(lambda x: torch.stack([x[0] - 1, x[1] * x[0] - 3]), np.ones(2))
    assert isinstance(fit.x, np.ndarray)
    assert fit.converged
    np.testing.assert_allclose(fit.x, [1, 3], atol=1e-8)


@pytest.mark.parametrize(
    "fun", [rosen, lambda x: np.sum(x**2), lambda x: float(x[0]) ** 2 + x[1] ** 2, lambda x: float(x[0]), lambda x: 3.0]
)
def test_functions_that_leave_torch_are_still_refused(fun):
    with pytest.raises(BadInputError, match="jac is missing"):
        precond.minimize(fun, np.full(2, 0.7))


def test_numpy_constraints_of_a_torch_objective_are_refused():
    with pytest.raises(BadInputError, match="write the constraint with torch"):
        precond.minimize(
            lambda x: (x**2).sum(), torch.ones(2).double(), constraints=lambda x: np.array([float(x[0]) - 1])
        )


def test_constraints_of_scipys_examples():
    def quadratic(x, a):
        return a * float((x - 1) @ (x - 1))

    for limits in (
        {"type": "EQ", "fun": lambda x, b: x[0] + x[1] - b, "args": (1.0,), "jac": lambda x, b: np.ones(2)},
        [{"type": "eq", "fun": lambda x: x[0] + x[1] - 1}, {"type": "ineq", "fun": lambda x: x[0] + 5}],
        LinearConstraint([1, 1], 1, 1),
        NonlinearConstraint(lambda x: [x[0] + x[1]], [1.0], [1.0]),
    ):
        answer = precond.scipy.minimize(quadratic, [3.0, -7.0], args=(2.0,), method="SLSQP", constraints=limits)
        assert answer.success
        np.testing.assert_allclose(answer.x, [0.5, 0.5], atol=1e-5)
    for nothing in ((), [], None):
        assert precond.scipy.minimize(quadratic, [3.0, -7.0], args=(2.0,), constraints=nothing).success


def test_gradients_flow_through_solutions_that_are_tensors_only():
    a = torch.ones(2, dtype=torch.float64, requires_grad=True)
    for start in (np.zeros(2), torch.zeros(2).double()):
        calls = (
            lambda: precond.minimize(lambda x, a: ((x - a) ** 2).sum(), start, args=(a,)),  # noqa: B023
            lambda: precond.least_squares(lambda x, a: x - a, start, args=(a,)),  # noqa: B023
        )
        for call in calls:
            if isinstance(start, np.ndarray):
                with pytest.raises(BadInputError, match="detach them"):
                    call()
            else:
                call().x.sum().backward()


def test_differences_are_as_long_as_the_variables_that_they_move():
    """Variables of sizes from 1e-3 to 1e8 in one problem, with a gradient alone."""
    sizes = np.array([1e-2, 1.0, 1e3, 1e8])

    def loss(x):
        y = x / sizes - 1
        return float((y**4).sum() + (y @ y) + y[0] * y[3])

    def gradient(x):
        y = x / sizes - 1
        return (4 * y**3 + 2 * y + np.array([y[3], 0, 0, y[0]])) / sizes

    calls = []
    result = precond.minimize(
        lambda x: (calls.append(x), loss(x))[1], sizes * [0.3, 1.5, 0.2, 0.4], jac=gradient,
        constraints={
            "type": "eq", "fun": lambda x: x[:1] / 1e-2 + x[1:2] - 2, "jac": lambda x: np.array([[1e2, 1, 0, 0]]),
        },
        tol=1e-8,
    )  # fmt: skip
    assert result.converged
    np.testing.assert_allclose(result.x, sizes, rtol=1e-5)
    assert len(calls) < 80
