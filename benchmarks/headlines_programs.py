"""Claims about smooth and constrained minimization, in counts of iterations and evaluations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import precond
from headline import HEADLINES, Finding, headline
from precond.recipes.registry import find


@headline("polynomial-gradient", "polynomial-fast-gradient", "krylov-gradient")
def cut_off() -> dict[str, Finding]:
    """Minimize a quadratic with two large eigenvalues, by polynomials of degree two and by gradient descent."""
    values = torch.cat([torch.linspace(1, 10, 58), torch.tensor([500.0, 1000.0])]).double()

    def fun(x: Tensor) -> Tensor:
        return (values * (x - 1).square()).sum() / 2 + (x - 1).square().square().sum() / 100

    start = torch.zeros(60, dtype=torch.float64)
    options: dict[str, Any] = {"tol": 1e-6, "max_iterations": 20000}
    findings = {}
    for name in (name for name, measure in HEADLINES.items() if measure is cut_off):
        results = [precond.minimize(fun, start, method=find(name).build(degree=d), **options) for d in (2, 0)]
        count, plain = (result.iterations if result.converged else -1 for result in results)
        text = (
            f"60 unknowns, two eigenvalues a hundred times larger than the others: {count} iterations of degree 2 to "
        )
        text += f"1e-6, {plain} of degree 0."
        findings[name] = (text, {"iterations": count, "plain": plain})
    return findings


@headline("interior-point", "augmented-lagrangian", "sketched-newton", "adasketch-newton")
def constrained() -> dict[str, Finding]:
    """Minimize Rosenbrock's function on a sphere, which all methods for constraints can."""

    def fun(x: Tensor) -> Tensor:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    def sphere(x: Tensor) -> Tensor:
        return x.square().sum()[None] - 1

    start = torch.full((6,), 0.5, dtype=torch.float64)
    findings = {}
    for name in (name for name, measure in HEADLINES.items() if measure is constrained):
        result = precond.minimize(fun, start, method=name, constraints=sphere, tol=1e-6, max_iterations=500)
        count = result.iterations if result.converged else -1
        text = "Rosenbrock's function of six variables on the unit sphere, to 1e-6: "
        text += f"{count} iterations, {result.work.gradients} gradients." if count >= 0 else f"{result.status.name}."
        findings[name] = (text, {"iterations": count, "gradients": float(result.work.gradients)})
    return findings


@headline("adaptive-cubic", "gradient-normalized-secant", "newton", "newton-cholesky", "trust-region-newton")
def curved_valley() -> dict[str, Finding]:
    """Minimize Rosenbrock's function of 20 variables from the classical start, against L-BFGS."""

    def fun(x: Tensor) -> Tensor:
        return (100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2).sum()

    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(10)
    rival = precond.minimize(fun, start, method="lbfgs", tol=1e-8)
    findings = {}
    for name in (name for name, measure in HEADLINES.items() if measure is curved_valley):
        result = precond.minimize(fun, start, method=name, tol=1e-8, max_iterations=20000)
        count = result.iterations if result.converged else -1
        text = "Rosenbrock's function of 20 variables from (-1.2, 1), to 1e-8: "
        text += (
            f"{count} iterations, {result.work.gradients} gradients and {result.work.hvps} Hessian products"
            if (count >= 0)
            else result.status.name
        )
        text += f"; L-BFGS {rival.iterations} iterations."
        values = {"iterations": count, "gradients": result.work.gradients, "hvps": result.work.hvps}
        findings[name] = (text, {key: float(value) for key, value in values.items()})
    return findings


@headline("lbfgs-diagonal")
def units() -> dict[str, Finding]:
    """Minimize a chain of Rosenbrock's valleys whose variables have units from 10^-k to 10^k, against L-BFGS."""
    counts: dict[str, list[int]] = {"lbfgs": [], "lbfgs-diagonal": []}
    for k in (0, 1, 2, 3):
        scale = 10.0 ** torch.linspace(-k, k, 10, dtype=torch.float64)

        def fun(x: Tensor, scale: Tensor = scale) -> Tensor:
            y = scale * x
            return (100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum()

        start = torch.tensor([-1.2, 1.0] * 5, dtype=torch.float64) / scale
        for name, found in counts.items():
            result = precond.minimize(fun, start, method=find(name).build(memory=30), tol=1e-6)
            found.append(result.work.gradients if result.converged else -1)
    ours, plain = (", ".join(map(str, counts[name])) for name in ("lbfgs-diagonal", "lbfgs"))
    text = "A chain of Rosenbrock's valleys in 10 variables with units from 10^-k to 10^k, k = 0, 1, 2, 3, to 1e-6: "
    text += f"{ours} gradients, {plain} from a multiple of the identity."
    values = {f"{name} {k}": float(n) for name, found in counts.items() for k, n in enumerate(found)}
    return {"lbfgs-diagonal": (text, values)}


@headline("sparse-newton")
def chained_valley() -> dict[str, Finding]:
    """Count products for a Hessian, and the iterations, of functions of neighbours in a chain of 30 to 30 000."""

    def fun(x: Tensor) -> Tensor:
        z = torch.cat([x.new_zeros(1), x, x.new_zeros(1)])
        return (((3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1) ** 2).sum()

    sizes, counts, looks = (30, 300, 3000, 30000), [], []
    for n in sizes:
        result = precond.minimize(fun, -torch.ones(n, dtype=torch.float64), method="sparse-newton", tol=1e-8)
        counts.append(result.iterations if result.converged else -1)
        looks.append(result.work.hvps)
    text = f"Broyden's tridiagonal equations as a sum of squares, {sizes[0]} to {sizes[-1]} variables, to 1e-8: "
    text += f"{', '.join(map(str, counts))} iterations and {', '.join(map(str, looks))} Hessian products in all."
    values = {f"{what} of {n}": float(k) for what, found in (("iterations", counts), ("hvps", looks))
              for n, k in zip(sizes, found, strict=True)}  # fmt: skip
    return {"sparse-newton": (text, values)}


@headline("nl2sol")
def large_residuals() -> dict[str, Finding]:
    """Fit Brown and Dennis's model, which does not fit, from three starts, against Gauss-Newton steps."""
    t = torch.arange(1, 21, dtype=torch.float64) / 5

    def residual(x: Tensor) -> Tensor:
        return (x[0] + t * x[1] - t.exp()) ** 2 + (x[2] + x[3] * t.sin() - t.cos()) ** 2

    counts: dict[str, list[int]] = {"nl2sol": [], "trust-region-lm": []}
    for name, found in counts.items():
        for scale in (1.0, 10.0, 100.0):
            start = scale * torch.tensor([25.0, 5.0, -5.0, -1.0], dtype=torch.float64)
            result = precond.least_squares(residual, start, method=name)
            found.append(result.work.losses if result.converged else -1)
    text = "Brown and Dennis's fit from x0, 10 x0 and 100 x0: "
    text += f"{', '.join(map(str, counts['nl2sol']))} residuals; as a trust region with Gauss-Newton's model "
    text += f"{', '.join(map(str, counts['trust-region-lm']))}."
    return {"nl2sol": (text, {f"{name} {k}": float(c) for name, found in counts.items() for k, c in enumerate(found)})}


@headline("holder-lm", "holder-region-lm", "krylov-lm")
def singular_at_the_solution() -> dict[str, Finding]:
    """Solve Powell's equations, whose Jacobian is singular at the solution, against Nielsen's damping."""

    def residual(x: Tensor) -> Tensor:
        rows = [x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2]
        return torch.stack(rows)

    start = torch.tensor([3.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    counts = {}
    for name in ("levenberg-marquardt", *(name for name, m in HEADLINES.items() if m is singular_at_the_solution)):
        norms: list[float] = []
        precond.least_squares(
            residual, start, method=name, tol=1e-30, max_iterations=200,
            callback=lambda event, seen=norms: seen.append((2 * event.loss) ** 0.5),
        )  # fmt: skip
        counts[name] = next((k for k, norm in enumerate(norms) if norm <= 1e-8), -1)
    rival = counts.pop("levenberg-marquardt")
    where = "Powell's singular equations until the residual is below 1e-8"
    return {
        name: (f"{where}: {count} iterations, with Nielsen's damping {rival}.", {"iterations": count, "nielsen": rival})
        for name, count in counts.items()
    }


@headline("sparse-lm")
def smooth_signal() -> dict[str, Finding]:
    """Fit a signal that a sensor saturates, with a penalty on differences, in 5000 variables."""
    n = 5000
    t = torch.linspace(0, 6, n, dtype=torch.float64)
    seen = torch.tanh(2 * t.sin()) + 0.1 * (40 * t).cos()

    def residual(x: Tensor) -> Tensor:
        return torch.cat([torch.tanh(2 * x) - seen, n / 100 * (x[1:] - x[:-1])])

    names = "sparse-lm", "krylov-lm"
    found = {name: precond.least_squares(residual, torch.zeros_like(t), method=name) for name in names}
    values = {f"products of {name}": float(result.work.matvecs) for name, result in found.items()}
    mine, other = found["sparse-lm"], found["krylov-lm"]
    text = f"A saturated signal of {n} values, smoothed: {mine.iterations} iterations and {mine.work.matvecs} products "
    text += f"with the Jacobian; krylov-lm takes {other.iterations} and {other.work.matvecs}."
    return {"sparse-lm": (text, {"iterations": float(mine.iterations), **values})}
