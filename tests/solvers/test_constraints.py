"""Constraints in every form, and what happens to bad ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint
from scipy.sparse.linalg import aslinearoperator
from torch import nn

import precond
from precond.core import BadInputError, IncompatibleError, Status

F64 = torch.float64
EQUATION = {"type": "eq", "fun": lambda x: x.sum() - 1.0, "jac": lambda x: np.ones_like(x)}


def square(x):
    return (x**2).sum()


@pytest.mark.parametrize(
    "constraint",
    [
        lambda x: x.sum()[None] - 1,
        lambda x: x.sum() - 1,
        [lambda x: x[:2].sum() - 2 / 3, lambda x: x[2] - 1 / 3],
        LinearConstraint(np.ones((1, 3)), 1, 1),
        NonlinearConstraint(lambda x: x.sum(), 1, 1),
        {"type": "eq", "fun": lambda x: x.sum() - 1},
        {"type": "ineq", "fun": lambda x, least: x.sum() - least, "args": (1.0,)},
        NonlinearConstraint(lambda x: x.sum(), 1, np.inf),
        [LinearConstraint(np.eye(3), 1 / 3, 5)],
    ],
)  # fmt: skip
def test_every_form_means_the_same(constraint) -> None:
    result = precond.minimize(square, torch.tensor([2.0, 1.0, -1.0], dtype=F64), constraints=constraint, tol=1e-7)
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, np.full(3, 1 / 3), atol=1e-6)


@pytest.mark.parametrize("constraint", [EQUATION, {"type": "eq", "fun": lambda x: np.sum(x) - 1}])
def test_functions_in_numpy(constraint) -> None:
    result = precond.minimize(
        lambda x: float(x @ x), np.array([2.0, 1.0, -1.0]), jac=lambda x: 2 * x, constraints=constraint, tol=1e-7
    )
    assert result.converged, result.message
    assert isinstance(result.x, np.ndarray)
    np.testing.assert_allclose(result.x, np.full(3, 1 / 3), atol=1e-6)


@pytest.mark.parametrize("bounds", [Bounds(1, 2), [(1, 2)] * 3, (1, 2), [(1, None), (1, 2), (1, 5)]])
def test_every_form_of_bounds(bounds) -> None:
    result = precond.minimize(square, torch.full((3,), 4.0, dtype=F64), bounds=bounds, tol=1e-7)
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, np.ones(3), atol=1e-5)


def test_a_variable_fixed_by_its_bounds() -> None:
    result = precond.minimize(
        square, torch.full((3,), 4.0, dtype=F64), bounds=[(1, None), (2, 2), (None, -1)], tol=1e-7
    )
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, [1, 2, -1], atol=1e-5)


@pytest.mark.parametrize("form", ["torch", "given"])
def test_the_objective_sees_fixed_variables_at_their_values_alone(form: str) -> None:
    seen = []

    def watched(x):
        seen.append(float(x[1]))
        return ((x - 3) ** 2).sum() + x[0] * x[1]

    def gradient(x):
        seen.append(float(x[1]))
        return 2 * (x - 3) + np.array([x[1], x[0], 0.0])

    start = torch.full((3,), 4.0, dtype=F64) if form == "torch" else np.full(3, 4.0)
    gradients: list[float] = []
    result = precond.minimize(
        watched, start, jac=None if form == "torch" else gradient, bounds=[(None, None), (2, 2), (None, -1)], tol=1e-8,
        callback=lambda event: gradients.append(float(event.gradient[1])),
    )  # fmt: skip
    assert result.converged, result.message
    assert set(seen) == {2.0}
    assert float(result.x[1]) == 2.0
    np.testing.assert_allclose(np.asarray(result.x), [2, 2, -1], atol=1e-7)
    assert set(gradients) == {0.0}


def test_numbers_of_python_are_not_rounded_to_single_precision() -> None:
    """Bounds, constraints and gradients in lists; 0.1 is no number of single precision."""
    start = np.full(3, 4.0)
    result = precond.minimize(
        lambda x: float((x**2).sum()), start, jac=lambda x: [2 * float(each) for each in x],
        bounds=[(0.1, None), (0.3, 0.3), (0.7, 5)], tol=1e-9,
    )  # fmt: skip
    assert result.converged, result.message
    np.testing.assert_allclose(result.x, [0.1, 0.3, 0.7], rtol=0, atol=2e-9)
    result = precond.minimize(square, torch.ones(3, dtype=F64), constraints=lambda x: [x[0] - 0.1, x[1] - x[2]])
    assert result.converged, result.message
    found = precond.minimize(square, torch.ones(1, dtype=F64), constraints=lambda x: [x[0] - x[0], 1e-9], tol=1e-12)
    assert found.certificate.extra["feasibility"] == 1e-9


def test_dicts_and_modules() -> None:
    start = {"a": torch.ones(2, dtype=F64), "b": torch.zeros((), dtype=F64)}
    result = precond.minimize(
        lambda p: square(p["a"]) + p["b"] ** 2, start, constraints=lambda p: p["a"].sum() + p["b"] - 3
    )
    assert result.converged
    np.testing.assert_allclose(result.x["a"], [1, 1], atol=1e-6)
    torch.manual_seed(0)
    model, x = nn.Linear(2, 1).double(), torch.randn(20, 2, dtype=F64)
    y = x @ torch.tensor([1.0, 2.0], dtype=F64)
    result = precond.minimize(lambda m: ((m(x)[:, 0] - y) ** 2).mean(), model, constraints=lambda m: m.weight.sum() - 1)
    assert result.converged
    assert float(model.weight.sum()) == pytest.approx(1, abs=1e-6)


def test_multipliers_have_the_sign_of_the_lagrangian() -> None:
    result = precond.minimize(square, torch.zeros(2, dtype=F64), constraints=lambda x: x.sum() - 2)
    np.testing.assert_allclose(result.multipliers, [-2.0], atol=1e-6)  # 2 x + lambda = 0 at x = 1


def test_the_certificate_is_computed_from_the_problem() -> None:
    result = precond.minimize(square, torch.zeros(2, dtype=F64), constraints=lambda x: x.sum() - 2, max_iterations=0)
    assert result.status is Status.STOPPED_STEPS
    assert result.certificate.extra["feasibility"] == pytest.approx(2.0)
    assert not result.converged


def test_a_callback_sees_points_and_stops() -> None:
    seen = []

    def watch(event) -> bool:
        seen.append(event.x)
        return len(seen) == 2

    result = precond.minimize(
        lambda x: (x**4).sum(), torch.full((3,), 2.0, dtype=F64), constraints=lambda x: x[:2].sum() - 1, callback=watch
    )
    assert result.status is Status.STOPPED_USER
    assert [point.shape for point in seen] == [(3,), (3,)]


def test_constraints_that_contradict_each_other() -> None:
    for start in (1.0, 5.0):
        result = precond.minimize(
            square, torch.full((2,), start, dtype=F64), constraints=lambda x: torch.stack([x.sum() - 1, x.sum() - 3])
        )
        assert result.status is Status.FAILED_INFEASIBLE, result.message


def test_a_constraint_that_nothing_meets() -> None:
    result = precond.minimize(square, torch.ones(2, dtype=F64), constraints=lambda x: x @ x + 1)
    assert result.status is Status.FAILED_INFEASIBLE, result.message


def test_redundant_and_too_many_constraints() -> None:
    twice = precond.minimize(
        square, torch.ones(2, dtype=F64), constraints=lambda x: torch.stack([x.sum() - 1, 2 * x.sum() - 2])
    )
    assert twice.converged
    more = precond.minimize(
        square, torch.ones(1, dtype=F64), constraints=lambda x: torch.stack([x[0] - 2, 2 * x[0] - 4])
    )
    assert more.converged
    np.testing.assert_allclose(more.x, [2.0], atol=1e-6)


def test_unbounded_below() -> None:
    result = precond.minimize(lambda x: x.sum(), torch.ones(2, dtype=F64), constraints=lambda x: x[0] - x[1])
    assert result.status is Status.FAILED_UNBOUNDED


def test_indefinite_and_zero_hessians() -> None:
    saddle = precond.minimize(
        lambda x: x[0] * x[1], torch.tensor([1.0, 0.5], dtype=F64), constraints=lambda x: x @ x - 2
    )
    assert saddle.converged
    assert float(saddle.x[0] * saddle.x[1]) == pytest.approx(-1, abs=1e-6)
    linear = precond.minimize(
        lambda x: x.sum(), torch.tensor([1, 0.9], dtype=F64), constraints=lambda x: x @ x - 2, tol=1e-8
    )
    assert linear.converged
    np.testing.assert_allclose(linear.x, [-1, -1], atol=1e-6)


def test_single_precision_and_nothing() -> None:
    single = precond.minimize(square, torch.ones(3), constraints=lambda x: x.sum() - 1, tol=1e-4)
    assert single.converged
    assert single.x.dtype is torch.float32
    assert precond.minimize(square, torch.ones(0, dtype=F64), constraints=lambda x: x).converged
    assert precond.minimize(square, torch.ones(3, dtype=F64), constraints=[]).converged


@pytest.mark.parametrize("method", ["auto", "adasketch-newton", "sketched-newton", "augmented-lagrangian"])
def test_a_constraint_without_rows(method) -> None:
    result = precond.minimize(
        lambda x: ((x - 1) ** 4).sum() + x[0] ** 2, torch.full((3,), 0.5, dtype=F64), constraints=lambda x: x[:0],
        method=method,
    )  # fmt: skip
    assert result.status is Status.CONVERGED_KKT
    assert float(4 * (result.x[0] - 1) ** 3 + 2 * result.x[0]) == pytest.approx(0, abs=1e-6)


def test_a_flat_point_on_the_constraints_may_still_be_a_saddle() -> None:
    result = precond.minimize(
        lambda x: x[0] ** 2 - x[1] ** 2, torch.zeros(3, dtype=F64), constraints=lambda x: x[2][None], max_iterations=0
    )
    assert result.status is Status.CONVERGED_SADDLE
    assert result.certificate.extra["smallest curvature"] == pytest.approx(-2)


def test_what_is_not_finite() -> None:
    result = precond.minimize(square, torch.ones(3, dtype=F64), constraints=lambda x: x.sum()[None] * math.nan)
    assert result.status is Status.FAILED_NON_FINITE
    turns = precond.minimize(
        lambda x: torch.where(x[0] > 3, math.nan, (x[0] - 2.9) ** 2 + x[1] ** 2), torch.zeros(2, dtype=F64),
        constraints=lambda x: x[0] - 2 + x[1] ** 2,
    )  # fmt: skip
    assert turns.converged, turns.message
    with pytest.raises(BadInputError, match="NaN or infinity"):
        precond.minimize(square, torch.full((2,), math.nan), constraints=lambda x: x.sum())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"constraints": 3}, BadInputError, "constraints is int"),
        ({"constraints": {"type": "le", "fun": square}}, BadInputError, "'eq' or 'ineq'"),
        ({"constraints": LinearConstraint(np.ones((1, 5)), 1, 1)}, BadInputError, "5 columns"),
        ({"constraints": LinearConstraint(np.ones((1, 3)), 2, 1)}, BadInputError, "lower bound exceeds"),
        ({"bounds": [(0, 1)]}, BadInputError, "each of the 3 variables"),
        ({"bounds": [(2, 1)] * 3}, BadInputError, "lower bound exceeds"),
        ({"constraints": square, "method": "lbfgs"}, IncompatibleError, "without .*: use one of .*interior-point"),
        ({"bounds": [(0, 1)] * 3, "method": "sketched-newton"}, IncompatibleError, "knows no bounds"),
        ({"constraints": square, "lr": 0.1}, BadInputError, "leave lr out"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_remedy(arguments, error, text) -> None:
    with pytest.raises(error, match=text):
        precond.minimize(square, torch.ones(3, dtype=F64), **arguments)


def test_single_precision_that_cannot_go_further_says_so() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((x - 2) ** 2).sum() + (x[0] * x[1] - 1) ** 2

    result = precond.minimize(loss, torch.full((5,), 0.3), bounds=[(0, 1)] * 5, tol=1e-9)
    assert not result.converged
    assert result.status is Status.FAILED_STAGNATION
    assert "float64" in result.message
    assert torch.allclose(result.x, torch.ones(5), atol=1e-3)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, aslinearoperator, torch.from_numpy])
def test_jacobians_of_another_shape_are_refused(form) -> None:
    def rows(x):
        return np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0]])

    given = {"fun": lambda x: rows(x) @ x - 1, "type": "eq"}
    start = np.array([0.5, 0.2, 0.1])
    result = precond.minimize(
        lambda x: x @ x, start, jac=lambda x: 2 * x, constraints={**given, "jac": lambda x: form(rows(x))}
    )
    assert result.converged, result.message
    for wrong in (rows(start).T.copy(), rows(start)[:1], np.ones((3, 3))):
        with pytest.raises(BadInputError, match=r"returned shape .*: it must be \[2, 3\]"):
            precond.minimize(
                lambda x: x @ x, start, jac=lambda x: 2 * x, constraints={**given, "jac": lambda x, w=wrong: form(w)}
            )


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_tiny_count_as_much_as_others(seed: int) -> None:
    """Eigenvectors of a matrix as roots of equations, whose rows are multiplied by 1e-4, 1 or 1e4 at random."""
    matrix = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]).double()
    factors = 10.0 ** torch.from_numpy(np.random.default_rng(seed).choice([-4, 0, 4], size=6).astype(float))
    upper = torch.triu_indices(2, 2)

    def equations(x: torch.Tensor) -> torch.Tensor:
        q, d = x[:4].reshape(2, 2), x[4:]
        both = torch.cat([(q.mT @ torch.diag(d) @ q - matrix)[*upper], (q.mT @ q - torch.eye(2))[*upper]])
        return factors * both

    start = torch.tensor([1.0, 0, 0, 1, 1, 2]).double()
    result = precond.minimize(lambda x: 0 * x.sum(), start, constraints=equations)
    assert result.converged, result.message
    assert float((equations(result.x) / factors).abs().max()) < 1e-2
