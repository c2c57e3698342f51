"""Small smooth problems with gradients and Hessians written out in NumPy."""

import numpy as np
import torch


class Logistic:
    """Logistic regression with an l2 term, in torch (``fun``) and, independently, in NumPy."""

    def __init__(self, m=40, n=6, lam=1e-2, seed=0):
        rng = np.random.default_rng(seed)
        self.a, self.lam, self.n = rng.normal(size=(m, n)) * np.logspace(0, 1, n), lam, n
        self.b = np.where(rng.random(m) < 0.5, -1.0, 1.0)

    def fun(self, x):
        a, b = torch.from_numpy(self.a).to(x), torch.from_numpy(self.b).to(x)
        return torch.nn.functional.softplus(-b * (a @ x)).mean() + self.lam / 2 * (x @ x)

    def f(self, x):
        return np.logaddexp(0, -self.b * (self.a @ x)).mean() + self.lam / 2 * x @ x

    def g(self, x):
        p = 1 / (1 + np.exp(self.b * (self.a @ x)))
        return -self.a.T @ (self.b * p) / len(self.b) + self.lam * x

    def h(self, x):
        p = 1 / (1 + np.exp(self.b * (self.a @ x)))
        return (self.a.T * (p * (1 - p))) @ self.a / len(self.b) + self.lam * np.eye(self.n)


class Rosenbrock:
    """The chained Rosenbrock function, whose Hessian is indefinite away from the valley."""

    n = 4

    def fun(self, x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    def f(self, x):
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))

    def g(self, x):
        g = np.zeros_like(x)
        for i in range(len(x) - 1):
            g[i] += -400 * x[i] * (x[i + 1] - x[i] ** 2) - 2 * (1 - x[i])
            g[i + 1] += 200 * (x[i + 1] - x[i] ** 2)
        return g

    def h(self, x):
        h = np.zeros((len(x), len(x)))
        for i in range(len(x) - 1):
            h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
            h[i, i + 1] -= 400 * x[i]
            h[i + 1, i] -= 400 * x[i]
            h[i + 1, i + 1] += 200
        return h


def path(problem, x0, method, iterations):
    """The iterates that the library makes, one per row."""
    import precond

    points = []
    precond.minimize(
        problem.fun, torch.from_numpy(x0), method=method, tol=0.0, max_iterations=iterations,
        callback=lambda event: points.append(event.x.numpy().copy()),
    )  # fmt: skip
    return np.array(points)
