"""Programs with first derivatives alone: the Hessian is learned from the points of the run."""

import numpy as np
import pytest
import torch

import precond
from precond.core import Work
from precond.solvers.programs.given import GivenProgram
from precond.solvers.programs.secant import SecantProgram

N = 30


class Counted:
    """A chain whose curvature changes, under a sphere and an inequality, in NumPy, with counts of calls."""

    def __init__(self) -> None:
        self.calls = {"fun": 0, "jac": 0, "rows": 0}

    def fun(self, x):
        self.calls["fun"] += 1
        return float(((x[1:] - x[:-1] ** 2) ** 2).sum() + 0.1 * np.cos(x).sum() + 0.05 * (x @ x))

    def jac(self, x):
        self.calls["jac"] += 1
        left = x[1:] - x[:-1] ** 2
        out = -0.1 * np.sin(x) + 0.1 * x
        out[1:] += 2 * left
        out[:-1] -= 4 * left * x[:-1]
        return out

    def rows(self, x):
        self.calls["rows"] += 1
        return 2 * x[None]

    @property
    def constraints(self):
        return [
            {"type": "eq", "fun": lambda x: [x @ x - 20.0], "jac": self.rows},
            {"type": "ineq", "fun": lambda x: [x.sum() - 1.0], "jac": lambda x: np.ones((1, N))},
        ]


def test_a_gradient_an_iteration_instead_of_one_for_each_variable():
    counted = Counted()
    result = precond.minimize(
        counted.fun, np.linspace(0.2, 1.0, N), jac=counted.jac, constraints=counted.constraints, tol=1e-6
    )
    assert result.converged, result.message
    assert "learned" in result.method
    # one for each iteration, and those of the certificate, which takes each variable's difference once
    assert counted.calls["jac"] <= result.iterations + N + 15
    assert counted.calls["fun"] <= 3 * result.iterations
    exact = precond.minimize(
        lambda x: ((x[1:] - x[:-1] ** 2) ** 2).sum() + 0.1 * x.cos().sum() + 0.05 * (x @ x),
        torch.as_tensor(result.x), tol=1e-6,
        constraints=[lambda x: (x @ x - 20.0)[None], {"type": "ineq", "fun": lambda x: (x.sum() - 1.0)[None]}],
    )  # fmt: skip
    np.testing.assert_allclose(exact.x, result.x, atol=1e-4)


def test_no_point_is_paid_for_twice():
    counted, seen = Counted(), []

    def fun(x):
        seen.append(x.tobytes())
        return counted.fun(x)

    result = precond.minimize(fun, np.linspace(0.2, 1.0, N), jac=counted.jac, constraints=counted.constraints, tol=1e-6)
    assert result.converged
    assert len(seen) <= len(set(seen)) + 5  # start and end are seen by checks and by the certificate, too


def powell(matrix, s, y):
    """Return Powell's damped update, written out."""
    p = matrix @ s
    theta = 1.0 if s @ y >= 0.2 * (s @ p) else 0.8 * (s @ p) / (s @ p - s @ y)
    r = theta * y + (1 - theta) * p
    return matrix - np.outer(p, p) / (s @ p) + np.outer(r, r) / (s @ r)


@pytest.mark.parametrize("known", [False, True])
def test_updates_are_powells(known):
    rng = np.random.default_rng(0)
    n, m = 5, 2
    a, b = rng.normal(size=(n, n)), rng.normal(size=(m, n, n))
    a, b = (a + a.T) / 2, (b + b.transpose(0, 2, 1)) / 2

    def tensor(v):
        return torch.as_tensor(np.asarray(v))

    def gradient(x):
        return a @ x + 0.3 * np.cos(x)

    def jacobian(x):
        return b @ x

    def curvature(x, weights):
        return ([lambda v: tensor(a) @ v] if known else []), torch.zeros_like  # the rest is not asked for

    free = torch.full((n,), torch.inf, dtype=torch.float64)
    program = SecantProgram(GivenProgram(
        lambda x: tensor(0.0), lambda x: tensor(gradient(x.numpy())), lambda x: tensor((b @ x.numpy() @ x.numpy()) / 2),
        lambda x: tensor(jacobian(x.numpy())), -free, free, m, Work(), curvature=curvature,
    ))  # fmt: skip
    points, weights = rng.normal(size=(4, n)), rng.normal(size=(4, m))
    expected, fresh = None, True
    for k in range(4):
        found = program.hessian(program.site(tensor(points[k])), tensor(weights[k]))
        matrix = found.matvec(torch.eye(n, dtype=torch.float64)).numpy() - (a if known else 0)
        if k:
            s = points[k] - points[k - 1]
            change = jacobian(points[k]) - jacobian(points[k - 1])
            y = gradient(points[k]) - gradient(points[k - 1]) + weights[k] @ change - (a @ s if known else 0)
            if fresh and s @ y > 0:
                expected, fresh = (y @ y) / (s @ y) * np.eye(n), False
            expected = powell(expected, s, y)
            np.testing.assert_allclose(matrix, expected, rtol=1e-10, atol=1e-10)
            assert np.linalg.eigvalsh(matrix).min() > 0
        else:
            expected = matrix


def test_a_saddle_of_what_was_learned_is_left():
    result = precond.minimize(
        lambda x: float(x[0] * x[1]), np.array([1.0, 1.0]) / 2**0.5, jac=lambda x: x[::-1].copy(),
        constraints={"type": "eq", "fun": lambda x: [x @ x - 1.0], "jac": lambda x: 2 * x[None]},
    )  # fmt: skip
    assert result.converged
    assert result.x[0] * result.x[1] == pytest.approx(-0.5)


def test_iterations_are_counted_on_where_differences_take_over():
    """A long way along a curved valley takes more evaluations than the price of twelve Hessians."""
    events = []
    result = precond.minimize(
        lambda x: float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2), np.array([-30.0, 900.0]), tol=1e-9,
        jac=lambda x: np.array(
            [-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)]
        ),
        constraints={"type": "ineq", "fun": lambda x: [1e4 - x @ x / 100], "jac": lambda x: -x[None] / 50},
        callback=lambda event: events.append(event.iteration),
    )  # fmt: skip
    assert result.converged
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-6)
    assert "learned" not in result.method
    assert events == sorted(events)
    assert events[-1] == result.iterations == len(result.history) - 1
