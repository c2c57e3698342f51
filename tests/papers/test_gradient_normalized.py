"""Gradient-normalized Newton (Semenov, Jaggi & Doikov, arXiv 2506.13710) against dense solves in NumPy."""

import numpy as np
import pytest
import torch

import precond
from precond.recipes.regularized import gradient_normalized
from tests.papers.smooth_toys import Logistic, Rosenbrock


class LogSumExp:
    """``mu log sum exp((a_i'x - b_i) / mu)`` in variables in which the metric ``A'A`` is the identity; minimum at 0."""

    def __init__(self, n, m, mu, seed):
        rng = np.random.default_rng(seed)
        a, self.b, self.mu, self.n = rng.uniform(-1, 1, (m, n)), rng.uniform(-1, 1, m), mu, n
        p = np.exp((-self.b - (-self.b).max()) / mu)
        a = a - (p / p.sum()) @ a
        self.lower = np.linalg.cholesky(a.T @ a)
        self.a = np.linalg.solve(self.lower, a.T).T

    def f(self, x):
        v = (self.a @ x - self.b) / self.mu
        return self.mu * (v.max() + np.log(np.exp(v - v.max()).sum()))

    def weights(self, x):
        v = (self.a @ x - self.b) / self.mu
        e = np.exp(v - v.max())
        return e / e.sum()

    def g(self, x):
        return self.a.T @ self.weights(x)

    def gauss_newton(self, x):
        return (self.a.T * self.weights(x)) @ self.a / self.mu

    def h(self, x):
        g = self.g(x)
        return self.gauss_newton(x) - np.outer(g, g) / self.mu


def reference(problem, hessian, x, iterations, gamma=1.0):
    """The authors' loop, with the inverse by a dense solve; returns points, accepted radii and the number of solves."""
    points, gammas, solves = [x], [], 0
    for _ in range(iterations):
        f, g, h = problem.f(x), problem.g(x), hessian(x)
        for _ in range(60):
            lam = np.linalg.norm(g) / (gamma + 1e-8)
            d, solves = -np.linalg.solve(h + lam * np.eye(len(x)), g), solves + 1
            if f - problem.f(x + d) >= np.linalg.norm(problem.g(x + d)) ** 2 / (8 * lam):
                break
            gamma /= 2
        gammas.append(gamma)
        x, gamma = x + d, max(2 * gamma, 1e-9)
        points.append(x)
    return np.array(points), np.array(gammas), solves


def run(problem, hessian, x, iterations, tol=0.0, **settings):
    points = []
    result = precond.minimize(
        problem.f, x, jac=problem.g, hessp=lambda x, p: hessian(x) @ p, tol=tol, max_iterations=iterations,
        method=gradient_normalized(**{"fraction": 1e-12, **settings}),
        callback=lambda event: points.append(event.x.copy()),
    )  # fmt: skip
    return np.array(points), result


@pytest.mark.parametrize("surrogate", ["h", "gauss_newton"])
@pytest.mark.parametrize("mu", [0.3, 0.1])
def test_the_same_radii_solves_and_points(surrogate, mu):
    problem = LogSumExp(12, 20, mu, seed=0)
    hessian, x0 = getattr(problem, surrogate), np.ones(12)
    want, gammas, solves = reference(problem, hessian, x0, 4, gamma=1024.0)
    got, result = run(problem, hessian, x0, 4, gamma=1024.0)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    assert result.work.applies == solves > 4, "one solve for each trial"
    assert set(np.log2(gammas) % 1) == {0.0}


def test_decompositions_follow_dense_solves_where_conjugate_gradients_lose_them():
    problem = LogSumExp(30, 50, 0.1, seed=3)
    want, gammas, solves = reference(problem, problem.h, np.ones(30), 16)
    got, result = run(problem, problem.h, np.ones(30), 16, fraction=None)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert result.work.applies == solves
    assert len(set(gammas)) > 2


def test_empirical_fisher_as_the_surrogate():
    problem = Logistic(lam=0.0)

    def fisher(x):
        p = 1 / (1 + np.exp(problem.b * (problem.a @ x)))
        return (problem.a.T * p**2) @ problem.a / len(problem.b)

    x0 = np.linspace(-1.0, 1.0, 6)
    want, _, solves = reference(problem, fisher, x0, 4)
    got, result = run(problem, fisher, x0, 4)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    assert result.work.applies == solves


def test_default_accuracy_needs_hardly_more_iterations():
    problem = LogSumExp(30, 50, 0.5, seed=1)
    exact = run(problem, problem.h, np.ones(30), 500, tol=1e-6)[1]
    inexact = run(problem, problem.h, np.ones(30), 500, tol=1e-6, fraction=1e-3)[1]
    assert exact.converged
    assert inexact.converged
    assert inexact.iterations <= 1.2 * exact.iterations + 2


def test_headline_better_hessians_need_fewer_iterations():
    """Exact before Gauss-Newton before none at all, which is normalized gradient descent."""
    problem = LogSumExp(20, 30, 0.5, seed=2)
    counts = []
    for hessian in (problem.h, problem.gauss_newton, lambda x: np.zeros((20, 20))):
        result = run(problem, hessian, np.ones(20), 3000, tol=1e-6)[1]
        assert result.converged, result.message
        counts.append(result.iterations)
    assert counts == sorted(counts)
    assert counts[2] > 3 * counts[0]


def test_indefinite_start():
    problem = Rosenbrock()
    result = precond.minimize(problem.fun, torch.tensor([-1.2, 1, -1.2, 1]).double(), method="gradient-normalized")
    assert result.converged, result.message
