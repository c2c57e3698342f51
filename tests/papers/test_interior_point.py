"""The interior-point filter method: classical problems, its conditions, and Newton systems written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import precond
from precond.math.sparse.inertia import equilibrate, factorize
from precond.problems.classical import ALL
from precond.programs.filter import Filter
from precond.programs.newton import DenseNewton
from precond.programs.regularized import Regularizer

F64 = torch.float64


@pytest.mark.parametrize("name", ALL)
def test_solves_the_classical_problems(name: str) -> None:
    problem = ALL[name]
    result = precond.minimize(
        problem.fun, torch.tensor(problem.start, dtype=F64), constraints=problem.constraints, tol=1e-8
    )
    assert result.converged, result.message
    loss = float(problem.fun(result.x))
    assert min(abs(loss - known) / max(1.0, abs(known)) for known in problem.optima) < 1e-5
    assert float(problem.constraints(result.x).norm()) <= 1e-8


def hs71() -> dict[str, object]:
    return {
        "fun": lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        "constraints": [
            {"type": "ineq", "fun": lambda x: x.prod()[None] - 25},
            lambda x: (x @ x)[None] - 40,
        ],
        "bounds": [(1, 5)] * 4,
    }


def test_inequalities_and_bounds() -> None:
    """Problem 71 of Hock and Schittkowski, whose solution is printed in their book."""
    given = hs71()
    result = precond.minimize(given.pop("fun"), torch.tensor([1.0, 5, 5, 1], dtype=F64), tol=1e-8, **given)
    assert result.converged
    np.testing.assert_allclose(result.x, [1, 4.7429994, 3.8211503, 1.3794082], atol=1e-6)
    assert result.certificate.extra["complementarity"] <= 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_quadratic_programs_against_scipy(seed: int) -> None:
    from scipy.optimize import LinearConstraint, minimize

    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    h, g = root @ root.T + np.eye(6), rng.normal(size=6) * 3
    rows = rng.normal(size=(3, 6))
    limits = LinearConstraint(rows, [-0.5, -np.inf, 0.1], [0.5, 0.2, 0.1])
    ours = precond.minimize(
        lambda x: 0.5 * x @ torch.from_numpy(h) @ x + torch.from_numpy(g) @ x, torch.zeros(6, dtype=F64),
        constraints=limits, bounds=[(-1, 1)] * 6, tol=1e-9,
    )  # fmt: skip
    theirs = minimize(
        lambda x: 0.5 * x @ h @ x + g @ x, np.zeros(6), jac=lambda x: h @ x + g, constraints=limits,
        bounds=[(-1, 1)] * 6, method="trust-constr", options={"gtol": 1e-10, "xtol": 1e-12, "maxiter": 3000},
    )  # fmt: skip
    assert ours.converged, ours.message
    np.testing.assert_allclose(ours.x, theirs.x, atol=2e-5)


def test_inertia_is_that_of_the_eigenvalues() -> None:
    generator = torch.Generator().manual_seed(0)
    for k in range(1, 9):
        matrix = torch.randn(k, k, generator=generator, dtype=F64)
        matrix = matrix + matrix.T
        values = torch.linalg.eigvalsh(matrix)
        found = factorize(matrix)
        assert (found.positive, found.negative, found.zero) == (int((values > 0).sum()), int((values < 0).sum()), 0)
        b = torch.randn(k, generator=generator, dtype=F64)
        np.testing.assert_allclose(matrix @ found.solve(b), b, atol=1e-9)
    singular = torch.diag(torch.tensor([2.0, 0.0, -3.0], dtype=F64))
    found = factorize(singular)
    assert (found.positive, found.negative, found.zero) == (1, 1, 1)
    assert factorize(torch.full((2, 2), math.nan)) is None


def test_equilibration_bounds_every_row() -> None:
    generator = torch.Generator().manual_seed(1)
    scales = 10 ** torch.linspace(-6, 6, 8, dtype=F64)
    matrix = torch.randn(8, 8, generator=generator, dtype=F64)
    matrix = scales[:, None] * (matrix + matrix.T) * scales
    d = equilibrate(matrix)
    largest = (d[:, None] * matrix * d).abs().amax(1)
    assert 0.5 < float(largest.min()) <= float(largest.max()) < 2


def test_shifts_until_the_step_is_a_minimizer_on_the_constraints() -> None:
    hessian = torch.diag(torch.tensor([-3.0, 2.0, 1.0], dtype=F64))
    jacobian = torch.tensor([[0.0, 1.0, 1.0]], dtype=F64)
    solver = Regularizer().factorize(DenseNewton(hessian, jacobian))
    assert solver.shift > 3
    basis = np.linalg.qr(jacobian.T.numpy(), mode="complete")[0][:, 1:]
    reduced = basis.T @ (hessian.numpy() + solver.shift * np.eye(3)) @ basis
    assert np.linalg.eigvalsh(reduced)[0] > 0
    b = torch.tensor([1.0, 2, 3, 4], dtype=F64)
    np.testing.assert_allclose(solver.matrix @ solver.solve(b), b, atol=1e-10)


def test_dependent_constraints_get_a_second_shift() -> None:
    hessian, rows = torch.eye(3, dtype=F64), torch.tensor([[1.0, 1, 1], [2, 2, 2]], dtype=F64)
    solver = Regularizer().factorize(DenseNewton(hessian, rows))
    assert solver.shift == 0
    assert solver.delta > 0


def test_a_filter_forbids_what_is_no_better() -> None:
    filter_ = Filter(10.0)
    filter_.add(1.0, 5.0)
    assert not filter_.accepts(1.0, 5.0)
    assert not filter_.accepts(2.0, 6.0)
    assert filter_.accepts(0.5, 9.0)
    assert filter_.accepts(3.0, 1.0)
    assert not filter_.accepts(10.0, -1e9)
    assert not filter_.accepts(math.nan, 0.0)
    filter_.add(0.5, 1.0)
    assert len(filter_.corners) == 1, "a corner that another one covers is dropped"


def test_a_feasible_point_far_behind_a_valley_of_the_violation_is_found() -> None:
    """Three sums of exponentials that paths from the start meet at infinity only (HATFLDF, OPTIMA manual, 1989)."""
    data = torch.tensor([0.032, 0.056, 0.099], dtype=torch.float64)
    powers = torch.arange(3, dtype=torch.float64)

    def equations(x: torch.Tensor) -> torch.Tensor:
        return x[0] + x[1] * x[2] ** powers - data

    start = torch.tensor([1.2, -1.2, 0.98], dtype=torch.float64)
    result = precond.minimize(lambda x: 0 * x.sum(), start, constraints=equations, tol=1e-8)
    assert result.converged, result.message
    assert float(equations(result.x).norm()) <= 1e-8


@pytest.mark.parametrize("units", [(1000.0, 0.1), (1.0, 1.0)])
def test_long_steps_along_a_curve_are_corrected_rather_than_shortened(units: tuple[float, float]) -> None:
    """BT1 (P. T. Boggs, J. W. Tolle, 1989) in several units: most of the objective is the constraint times 100."""
    scale = torch.tensor(units, dtype=F64)

    def circle(y: torch.Tensor) -> torch.Tensor:
        return ((scale * y) @ (scale * y))[None] - 1

    start = torch.tensor([0.08, 0.06], dtype=F64) / scale
    result = precond.minimize(lambda y: 100 * circle(y)[0] - scale[0] * y[0], start, constraints=circle)
    assert result.converged, result.message
    assert float(scale[0] * result.x[0]) == pytest.approx(1, abs=1e-6)
    assert result.work.losses < 40


def test_bounds_that_hardly_push_are_met_however_far_the_start() -> None:
    """The objective is scaled by its slope at the start; what a bound's multiplier times its distance may be, too."""
    n = 40
    result = precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.full((n,), -1e6, dtype=F64), bounds=[(None, 1)] * n)
    assert result.converged, result.message
    assert float((result.x - 1).norm()) <= 1e-6


def test_no_step_raises_the_objective_by_many_orders_of_magnitude() -> None:
    """The first full step lessens the violation, and leads where the objective is 1e105 and the constraint is flat."""
    result = precond.minimize(
        lambda x: torch.exp(3 * x @ x), torch.tensor([0.05], dtype=F64), constraints=lambda x: 0.1 - torch.exp(-(x**2))
    )
    assert result.converged
    assert float(result.x) == pytest.approx(math.log(10) ** 0.5)
    assert result.work.losses <= 20
