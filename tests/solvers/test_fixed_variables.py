"""Variables that their bounds fix: every function sees them at their values, and at no others."""

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import Bounds, NonlinearConstraint

import precond

TARGET = np.array([0.0, 0.7, 0.0, -1.3, 0.4, 2.0])
FIXED = np.array([True, False, True, False, False, False])
VALUES = np.where(FIXED, TARGET, 0.0)


def coupled(x):
    return np.array([x[:3] @ x[3:] + x[0] - 0.1, np.sin(x[2] + x[1]) + x[4] ** 2 - 0.6])


def slopes(x):
    cos = np.cos(x[2] + x[1])
    return np.array([[x[3] + 1, x[4], x[5], x[0], x[1], x[2]], [0, cos, cos, 0, 2 * x[4], 0]])


@pytest.mark.parametrize("form", ["dense", "sparse", "without a Jacobian", "with a Hessian"])
def test_constraints_and_objective_see_fixed_variables_at_their_values_alone(form):
    seen = []

    def watched(function):
        def call(x):
            seen.append(np.array(x))
            return function(x)

        return call

    def curved(x, v):
        bent = np.zeros((6, 6))
        bent[:3, 3:] = v[0] * np.eye(3)
        bent[1:3, 1:3] -= v[1] * np.sin(x[2] + x[1])
        bent = np.triu(bent) + np.triu(bent, 1).T
        bent[2, 1] = bent[1, 2] = -v[1] * np.sin(x[2] + x[1])
        bent[4, 4] += 2 * v[1]
        return bent

    jacobian = {"sparse": lambda x: scipy.sparse.csr_array(slopes(x)), "without a Jacobian": "2-point"}.get(
        form, slopes
    )
    given = {"jac": jacobian if form == "without a Jacobian" else watched(jacobian)}
    if form == "with a Hessian":
        given["hess"] = curved
    result = precond.minimize(
        watched(lambda x: float(np.cosh(x - TARGET - 0.3).sum())), np.full(6, 0.5),
        jac=lambda x: np.sinh(x - TARGET - 0.3),
        bounds=Bounds(np.where(FIXED, VALUES, -5), np.where(FIXED, VALUES, 5)),
        constraints=NonlinearConstraint(watched(coupled), 0, 0, **given), tol=1e-8,
    )  # fmt: skip
    assert result.converged, result.message
    assert len(seen) > 10
    assert all(np.array_equal(x[FIXED], VALUES[FIXED]) for x in seen)
    assert np.abs(coupled(result.x)).max() < 1e-8
    free = ~FIXED  # the reduced problem's conditions: the gradient lies in the range of the Jacobian's free columns
    rows, gradient = slopes(result.x)[:, free], np.sinh(result.x - TARGET - 0.3)[free]
    rest = gradient - rows.T @ np.linalg.lstsq(rows.T, gradient, rcond=None)[0]
    assert np.linalg.norm(rest) < 1e-7
