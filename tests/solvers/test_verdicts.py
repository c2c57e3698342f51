"""What a run with constraints says of a problem must be true of it: no point is infeasible because it looks flat."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import Bounds, NonlinearConstraint

import precond
from precond.core import BadInputError, Status
from precond.programs.violation import Stuck
from precond.solvers.programs.by_torch import TorchProgram


def square(x):
    return (x**2).sum()


def zeros(n):
    return torch.zeros(n, dtype=torch.float64)


def test_nearly_parallel_constraints_are_not_called_infeasible() -> None:
    result = precond.minimize(
        square, zeros(2), constraints=lambda x: torch.stack([x[0] + x[1] - 1, x[0] + (1 + 1e-8) * x[1] - 1 - 1e-5]),
        max_iterations=15,
    )  # fmt: skip
    assert result.status is not Status.FAILED_INFEASIBLE
    assert abs(float(result.x.sum()) - 1) < 1e-6
    assert abs(float(result.x[1]) - 1000) < 1


def test_a_saddle_of_the_violation_is_left() -> None:
    result = precond.minimize(lambda x: ((x - 1) ** 2).sum(), zeros(2), constraints=lambda x: x[:1] * x[1:] - 1e16)
    assert result.converged, result.message
    assert abs(float(result.x[0] * result.x[1]) / 1e16 - 1) < 1e-9


@pytest.mark.parametrize(
    ("constraint", "n", "leaves"),
    [(lambda x: x[:1] * x[1:] - 1e4, 2, True), (lambda x: x**3 - 1e-3, 1, True), (lambda x: x**2 + 1, 1, False)],
    ids=["saddle", "flat", "minimum"],
)
def test_a_violation_that_seems_stuck_is_left_where_it_can_be(constraint, n: int, leaves: bool) -> None:
    free, rows = torch.full((n,), math.inf, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    program = TorchProgram(square, constraint, -free, free, 1)
    site = program.site(zeros(n))
    found = Stuck(program, site, rows, -free, free).way_out()
    assert (found is not None) == leaves
    assert found is None or float(found.constraints.norm()) < float(site.constraints.norm())


def test_a_feasible_set_that_no_small_step_from_the_start_approaches() -> None:
    result = precond.minimize(square, zeros(1) + 1, constraints=lambda x: x**3 - 3 * x + 20)
    assert result.converged, result.message


@pytest.mark.parametrize("far", [1e10, 1e13])
def test_a_bound_far_away_is_reached(far: float) -> None:
    result = precond.minimize(lambda x: -x.sum(), zeros(1), bounds=[(None, far)])
    assert result.converged, result.message
    assert float(result.x) == pytest.approx(far)


def test_a_fall_that_nothing_stops_is_unbounded() -> None:
    result = precond.minimize(lambda x: -x[0] + x[1] ** 2, zeros(2), constraints=lambda x: x[1:] - 1)
    assert result.status is Status.FAILED_UNBOUNDED


def test_a_steep_inequality_far_away_is_not_taken_for_active() -> None:
    result = precond.minimize(
        lambda x: -x.sum(), zeros(1) + 1, constraints=NonlinearConstraint(lambda x: x**2, -math.inf, 1e20),
        max_iterations=60,
    )  # fmt: skip
    assert not result.converged or float(result.x) == pytest.approx(1e10)


def test_an_equation_without_multipliers_at_its_solution() -> None:
    result = precond.minimize(lambda x: x.sum(), zeros(1) + 1, constraints=lambda x: x**2)
    assert result.converged, result.message
    assert result.iterations < 30


def test_a_feasible_set_behind_a_local_minimum_of_the_violation() -> None:
    result = precond.minimize(
        square, zeros(1) + 1.6, constraints=lambda x: torch.stack([(x[0] ** 2 - 4) * (x[0] - 2), 0 * x[0]]),
        bounds=[(-3, 3)],
    )  # fmt: skip
    assert result.converged, result.message


@pytest.mark.parametrize(
    ("wrong_loss", "named"),
    [(True, "fun: entry [1] is "), (False, "constraint 0 (counted from 0): entry [0, 1] is 3")],
)
def test_wrong_derivatives_are_named_and_nothing_converges(wrong_loss: bool, named: str) -> None:
    calls = []

    def constraint(x):
        calls.append(1)
        return np.array([x[0] ** 2 + x[1] - 1])

    result = precond.minimize(
        lambda x: float(x @ x), np.ones(2), jac=lambda x: np.array([2 * x[0], (3 if wrong_loss else 2) * x[1]]),
        constraints=NonlinearConstraint(
            constraint, 0, 0, jac=lambda x: np.array([[2 * x[0], 1.0 if wrong_loss else 3.0]])
        ),
    )  # fmt: skip
    assert result.status is Status.FAILED_GRADIENT
    assert named in result.note


def test_a_value_that_leaves_torch_is_named() -> None:
    result = precond.minimize(
        square, zeros(2) + 1, constraints=lambda x: torch.tensor([float(x[0]) - 1], dtype=torch.float64)
    )
    assert not result.converged
    assert "leaves torch" in result.note


def test_impossible_bounds_and_complex_constraints_are_refused() -> None:
    with pytest.raises(BadInputError, match="nothing can satisfy"):
        precond.minimize(square, zeros(2), bounds=[(math.inf, math.inf), (0, 1)])
    with pytest.raises(BadInputError, match="real numbers"):
        precond.minimize(square, zeros(2), constraints=lambda x: x + 1j)


def test_fixed_variables_stay_where_they_are() -> None:
    result = precond.minimize(square, zeros(2), bounds=[(1, 1), (2, 2)], constraints=lambda x: x.sum()[None] - 4)
    assert result.status is Status.FAILED_INFEASIBLE
    assert result.x.tolist() == [1.0, 2.0]


def test_a_given_sparsity_pattern_saves_evaluations() -> None:
    n, calls = 1200, []
    index = np.arange(n - 1)
    pattern = scipy.sparse.csr_array(
        (np.ones(2 * (n - 1)), (np.r_[index, index], np.r_[index, index + 1])), shape=(n - 1, n)
    )[::2]

    def constraint(x):
        calls.append(1)
        return (x[1:] - 0.5 * x[:-1] ** 2 - 0.3)[::2]

    def bent(x, v):
        return scipy.sparse.csr_array((-v, (index[::2], index[::2])), shape=(n, n))

    result = precond.minimize(
        lambda x: float(((x - 1) ** 2).sum()), np.zeros(n), jac=lambda x: 2 * (x - 1), hessp=lambda x, p: 2 * p,
        constraints=NonlinearConstraint(constraint, 0, 0, hess=bent, finite_diff_jac_sparsity=pattern),
    )  # fmt: skip
    assert result.converged, result.message
    assert len(calls) < n / 2


def test_many_variables_with_bounds_alone() -> None:
    n = 1100
    result = precond.minimize(
        lambda x: ((x[1:] - x[:-1]) ** 2).sum() / 2 + ((x - 1) ** 2).sum(), zeros(n),
        bounds=Bounds(np.full(n, -np.inf), np.linspace(0, 2, n)),
    )  # fmt: skip
    assert result.converged, result.message
    assert "sparse" in result.method


@pytest.mark.parametrize(("slope", "saddle"), [(1e-9, False), (1e-3, True)])
def test_curvature_by_multipliers_within_the_tolerance_is_no_saddle(slope: float, saddle: bool) -> None:
    result = precond.minimize(
        lambda x: slope * x[0] - x[1] ** 4, zeros(2),
        constraints=lambda x: x[:1] + x[1:] ** 2, method="adasketch-newton",
    )  # fmt: skip
    assert (result.status is Status.CONVERGED_KKT) == (not saddle), result.message


def test_derivatives_that_are_right_cost_two_evaluations_to_confirm() -> None:
    points = set()

    def constraint(x):
        points.add(x.tobytes())
        return np.array([x[0] - 1, 10 * (x[1] - x[0] ** 3)])

    result = precond.minimize(
        lambda x: 0.0, np.array([-1.2, 1.0]), jac=lambda x: np.zeros(2), hessp=lambda x, v: np.zeros(2),
        constraints=NonlinearConstraint(
            constraint, 0, 0, jac=lambda x: np.array([[1, 0], [-30 * x[0] ** 2, 10]]),
            hess=lambda x, v: np.array([[-60 * x[0] * v[1], 0], [0, 0]]),
        ),
    )  # fmt: skip
    assert result.converged, result.message
    assert len(points) <= result.iterations + 4
