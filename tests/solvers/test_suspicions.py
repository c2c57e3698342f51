"""Functions that are fine are not blamed: neither their derivatives, nor by calling them where they are not defined."""

import math

import numpy as np
import pytest
import torch

import precond
from precond.core import Status
from precond.solvers.check_derivatives import compare


def start(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_solution_at_a_kink_of_the_objective() -> None:
    result = precond.minimize(
        lambda x: torch.relu(x[0] - 1) + (x[1] - 2) ** 2, start(5.0, 0.0), constraints=lambda x: x[:1] - 1
    )
    assert result.status is Status.CONVERGED_KKT, result.message


@pytest.mark.parametrize("frequency", [1e6, 1e-10])
def test_a_function_that_oscillates_faster_than_differences_see(frequency: float) -> None:
    far = 1e10 if frequency < 1 else 1.0
    result = precond.minimize(
        lambda x: torch.sin(max(frequency, 1.0) * x).sum(), start(far, 2 * far),
        constraints=lambda x: x[:1] - x[1:] - 3,
    )  # fmt: skip
    assert result.status is not Status.FAILED_GRADIENT, result.message


def test_single_precision_within_a_function_is_no_wrong_gradient() -> None:
    result = precond.minimize(
        lambda x: ((x.float() - 1) ** 2 * 1e6).sum().double() + 1e6, start(5.0, 3.0),
        constraints=lambda x: (x.float().prod() * 1e6).double()[None] - 2e6, max_iterations=30,
    )  # fmt: skip
    assert result.note == ""


@pytest.mark.parametrize("level", [1e-10, 1e-8, 1e-6])
def test_noise_confirms_nothing(level: float) -> None:
    draws = np.random.default_rng(0)
    x = start(1.0, 2.0, 3.0)

    def noisy(y):
        return (y**2).sum()[None] + level * draws.standard_normal()

    assert all(compare(noisy, 2 * x[None], x) is None for _ in range(50))
    assert compare(noisy, 2 * x[None] * start(1.0, 1.0, -1.0), x).place == (0, 2)


def test_functions_that_raise_outside_of_their_bounds() -> None:
    def domain(x):
        if (x < 0).any():
            raise ValueError("not defined")

    def fun(x):
        domain(x)
        return float((x**2).sum() - x.sum())

    def product(x):
        domain(x)
        return x[0] * x[1]

    result = precond.minimize(
        fun, np.array([1.0, 2.0]), jac=lambda x: 2 * x - 1, constraints={"type": "eq", "fun": product},
        bounds=[(0, 5)] * 2,
    )  # fmt: skip
    assert result.converged, result.message
    assert sorted(result.x) == pytest.approx([0, 0.5], abs=1e-6)


def test_a_function_without_values_outside_of_its_bounds() -> None:
    result = precond.minimize(
        lambda x: 3 * x[0] + (x[1] - 2) ** 2, start(0.5, 0.5), constraints=lambda x: x[:1] ** 1.5 + x[1:] - 1,
        bounds=[(0, None)] * 2,
    )  # fmt: skip
    assert result.converged, result.message
    assert result.x.tolist() == pytest.approx([0, 1], abs=1e-6)


def test_a_search_for_wrong_derivatives_does_not_raise() -> None:
    result = precond.minimize(
        lambda x: (x**2).sum(), np.array([1e-7, 0.5]), jac=lambda x: 2 * x, bounds=[(1e-9, 1)] * 2,
        constraints={"type": "eq", "fun": lambda x: math.log(x[0]) - 30, "jac": lambda x: np.array([1 / x[0], 0])},
    )  # fmt: skip
    assert result.status is Status.FAILED_INFEASIBLE


def test_equations_alone_stop_where_they_hold() -> None:
    result = precond.minimize(
        lambda x: 0 * x.sum(), start(3.0, 3.0), bounds=[(-100, 100)] * 2,
        constraints=lambda x: torch.stack([x[0] ** 2 - x[1], x[1] ** 2 - 2 * x[0]]),
    )  # fmt: skip
    assert result.converged, result.message
    assert result.iterations < 8


def test_rounding_alone_is_not_iterated_on() -> None:
    result = precond.minimize(
        lambda x: 1e20 * ((x - 1) ** 2).sum(), start(3.0, 4.0), constraints=lambda x: 1e15 * (x.prod()[None] - 2)
    )
    assert not result.converged
    assert result.iterations < 60


def test_a_trial_point_where_the_function_raises_is_not_taken() -> None:
    result = precond.minimize(
        lambda x: 10 * x[0] - math.log(x[0]) + x[1] ** 2, np.array([5.0, 1.0]),
        jac=lambda x: np.array([10 - 1 / x[0], 2 * x[1]]), constraints={"type": "eq", "fun": lambda x: x[1] - 0.5},
    )  # fmt: skip
    assert result.converged, result.message
    assert float(result.x[0]) == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["auto", "newton-cg"])
def test_products_of_the_wrong_sign_are_named_and_make_no_saddle(method: str) -> None:
    def value(x: np.ndarray) -> float:
        return float(((x - 1) ** 2).sum() + (x**4).sum())

    def gradient(x: np.ndarray) -> np.ndarray:
        return 2 * (x - 1) + 4 * x**3

    def opposite(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        return -(2 + 12 * x * x) * p

    result = precond.minimize(value, np.array([3.0, -2.0, 0.5]), jac=gradient, hessp=opposite, method=method)
    assert result.status is Status.CONVERGED_GRADIENT
    assert result.note.startswith("hessp disagrees with differences of jac: entry ["), result.note
    assert "smallest curvature" not in result.certificate.extra


def test_right_products_at_a_saddle_are_not_blamed() -> None:
    result = precond.minimize(
        lambda x: float(x[0] ** 2 - x[1] ** 2), np.array([1.0, 0.0]), max_iterations=1,
        jac=lambda x: np.array([2 * x[0], -2 * x[1]]), hessp=lambda x, p: np.array([2 * p[0], -2 * p[1]]),
    )  # fmt: skip
    assert (result.status, result.note) == (Status.CONVERGED_SADDLE, "")


def test_rounding_of_terms_that_cancel_is_no_suspicion() -> None:
    """Rows of a linear constraint that hold from the start change by rounding alone, which no step explains."""
    rows = np.array([[1.0, 3, 0, 0, 0], [0, 0, 1, 1, -2], [0, 1, 0, 0, -1]])
    calls = []

    def equations(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        return rows @ x / 3

    result = precond.minimize(
        lambda x: float((x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2),
        np.array([20.1, 0.7, 0.1, 0.1, 0.1]),
        jac=lambda x: 2 * np.array([x[0] - x[1], x[1] - x[0] + x[1] + x[2] - 2, x[1] + x[2] - 2, x[3] - 1, x[4] - 1]),
        hessp=lambda x, p: 2 * np.array([p[0] - p[1], 2 * p[1] - p[0] + p[2], p[1] + p[2], p[3], p[4]]),
        constraints={"type": "eq", "fun": equations, "jac": lambda x: rows / 3, "hess": lambda x, v: np.zeros((5, 5))},
    )
    assert result.converged
    assert len({x.tobytes() for x in calls}) <= 3


def counted(fun, jac):
    calls = []

    def both(x):
        calls.append(x)
        return fun(x), jac(x)

    return both, calls


def test_a_certificate_of_a_given_gradient_takes_few_evaluations() -> None:
    """One for the gradient, two for its slope, and five products: what the steps have told is not asked again."""
    both, calls = counted(lambda x: float((x**4).sum() + x @ x), lambda x: 4 * x**3 + 2 * x)
    result = precond.minimize(both, np.linspace(0.5, 2, 20), jac=True)
    assert result.converged
    assert len(calls) - (result.work.gradients - result.work.hvps) <= 8


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_a_gradient_of_the_wrong_length_is_found_although_it_vanishes_at_the_solution(wrong: float) -> None:
    both, _ = counted(lambda x: float((x**4).sum() + x @ x), lambda x: wrong * (4 * x**3 + 2 * x))
    result = precond.minimize(both, np.linspace(0.5, 2, 20), jac=True)
    assert result.status is Status.FAILED_GRADIENT
    assert "jac disagrees" in result.note
