"""Gradient-normalized Newton with exact and approximate Hessians: iterations and solves, as the paper counts them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

import precond
from precond.core import Method
from precond.recipes.regularized import gradient_normalized
from sections import table

Array = np.ndarray[Any, Any]
LIMIT = 500
NONE = "none: normalized gradient descent"


@dataclasses.dataclass(frozen=True)
class Case:
    """A function with exact and approximate Hessians, and when a run is over.

    Attributes:
        fun: The function.
        gradient: Its gradient.
        hessians: Hessians by name, each from a point to ``[n, n]``; the exact one is first.
        start: Where runs start.
        least: The minimum; runs end within 1e-8 of it.
    """

    fun: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    hessians: dict[str, Callable[[Array], Array]]
    start: Array
    least: float


def gns(options: argparse.Namespace) -> str:
    """Gradient-normalized Newton with its adaptive search: iterations and solves to 1e-8 above the minimum."""
    cases = {
        "log-sum-exp, 200 x 200, smoothness 1": _log_sum_exp(1.0),
        "log-sum-exp, 200 x 200, smoothness 0.1": _log_sum_exp(0.1),
        "logistic, 300 x 20, noisy labels": _logistic(noise=1.0),
        "logistic, 300 x 20, separable labels": _logistic(noise=0.0),
        "Rosenbrock's function as squares, power 2": _rosenbrock(2),
        "Rosenbrock's residuals, power 4": _rosenbrock(4),
    }
    rows = []
    for title, case in cases.items():
        exact = next(iter(case.hessians.values()))
        diagonal = {"diagonal of the exact": lambda x, exact=exact: np.diag(np.abs(np.diag(exact(x))))}
        nothing = {NONE: lambda x: np.zeros((len(x), len(x)))}
        for name, hessian in {**case.hessians, **diagonal, **nothing}.items():
            rows.append([title, "gradient-normalized", name, *_run(case, gradient_normalized(fraction=None), hessian)])
        rows.append([title, "gradient-normalized-secant", "L-BFGS", *_run(case, "gradient-normalized-secant", None)])
        rows.append([title, "regularized-newton", next(iter(case.hessians)), *_run(case, "regularized-newton", exact)])
    note = (
        f"Not done: after {LIMIT} iterations. Log-sum-exp is measured in the metric of its data. "
        "regularized-newton solves by conjugate gradients, gradient-normalized by decompositions."
    )
    return table(["problem", "method", "Hessian", "iterations", "solves"], rows, note)


def _run(case: Case, method: str | Method, hessian: Callable[[Array], Array] | None) -> tuple[str, str]:
    """Return iterations and solves until the function is within 1e-8 of its minimum."""
    at: list[Array] = []  # a point and the matrix there

    def product(x: Array, p: Array) -> Array:
        assert hessian is not None
        if not at or at[0] is not x:
            at[:] = [x, hessian(x)]
        return at[1] @ p

    result = precond.minimize(
        case.fun, case.start, jac=case.gradient, method=method, tol=0.0, max_iterations=LIMIT,
        hessp=None if hessian is None else product,
        callback=lambda event: event.loss - case.least <= 1e-8,
    )  # fmt: skip
    done = case.fun(result.x) - case.least <= 1e-8
    return (str(result.iterations), str(result.work.applies)) if done else ("not done", str(result.work.applies))


def _log_sum_exp(mu: float) -> Case:
    """Return ``mu log sum exp((a_i'x - b_i) / mu)``, its minimum at 0, in variables whose norm is that of the data."""
    rng = np.random.default_rng(3124)
    a, b = rng.uniform(-1, 1, (200, 200)), rng.uniform(-1, 1, 200)
    lower = np.linalg.cholesky(a.T @ a)
    a = a - scipy.special.softmax(-b / mu) @ a
    start = lower.T @ np.ones(200)
    a = np.linalg.solve(lower, a.T).T

    def weights(x: Array) -> Array:
        return scipy.special.softmax((a @ x - b) / mu)

    def gauss_newton(x: Array) -> Array:
        return (a.T * weights(x)) @ a / mu

    def exact(x: Array) -> Array:
        g = a.T @ weights(x)
        return gauss_newton(x) - np.outer(g, g) / mu

    def fun(x: Array) -> float:
        return float(mu * scipy.special.logsumexp((a @ x - b) / mu))

    hessians = {"exact": exact, "weighted Gauss-Newton": gauss_newton}
    return Case(fun, lambda x: a.T @ weights(x), hessians, start, fun(np.zeros(200)))


def _logistic(noise: float) -> Case:
    """Return a logistic regression with columns of sizes one to five."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 20)) * np.linspace(1, 5, 20)
    b = np.sign(a @ rng.normal(size=20) + noise * 20 * rng.normal(size=300))

    def wrong(x: Array) -> Array:
        return scipy.special.expit(-b * (a @ x))

    def gradient(x: Array) -> Array:
        return -(a.T @ (b * wrong(x))) / len(b)

    def exact(x: Array) -> Array:
        s = wrong(x)
        return (a.T * (s * (1 - s))) @ a / len(b)

    def fisher(x: Array) -> Array:
        return (a.T * wrong(x) ** 2) @ a / len(b)

    def fun(x: Array) -> float:
        return float(np.logaddexp(0, -b * (a @ x)).mean())

    best = precond.minimize(fun, np.zeros(20), jac=gradient, hessp=lambda x, p: exact(x) @ p, tol=1e-12)
    least = fun(best.x) if noise else 0.0
    return Case(fun, gradient, {"exact": exact, "empirical Fisher": fisher}, np.zeros(20), least)


def _rosenbrock(power: int) -> Case:
    """Return ``||u(x)||^p / p`` for ``u = (sqrt 2 (1 - x_1), 10 sqrt 2 (x_2 - x_1^2))``, from (-2, 2)."""

    def residuals(x: Array) -> Array:
        return np.sqrt(2) * np.array([1 - x[0], 10 * (x[1] - x[0] ** 2)])

    def jacobian(x: Array) -> Array:
        return np.sqrt(2) * np.array([[-1.0, 0.0], [-20 * x[0], 10.0]])

    def gauss_newton(x: Array) -> Array:
        u, j = residuals(x), jacobian(x)
        matrix = np.linalg.norm(u) ** (power - 2) * (j.T @ j)
        if power > 2 and u.any():
            matrix += (power - 2) * np.linalg.norm(u) ** (power - 4) * np.outer(j.T @ u, j.T @ u)
        return matrix

    def exact(x: Array) -> Array:
        u = residuals(x)
        bent = np.zeros((2, 2))
        bent[0, 0] = -20 * np.sqrt(2) * u[1]
        return gauss_newton(x) + np.linalg.norm(u) ** (power - 2) * bent

    def gradient(x: Array) -> Array:
        return np.linalg.norm(residuals(x)) ** (power - 2) * (jacobian(x).T @ residuals(x))

    def fun(x: Array) -> float:
        return float(np.linalg.norm(residuals(x)) ** power / power)

    return Case(fun, gradient, {"exact": exact, "Gauss-Newton": gauss_newton}, np.array([-2.0, 2.0]), 0.0)
