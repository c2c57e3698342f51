"""AdaSketch-Newton (arXiv 2305.18379) against its recursion written out in NumPy, and its headline."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import precond
from precond.core import Program
from precond.krylov import SketchProject
from precond.operators import as_operator
from precond.problems.classical import ALL, Classical
from precond.programs.directions import independence
from precond.programs.merit import ExactLagrangian, Slopes
from precond.recipes.programs import adasketch_newton, sketched_newton
from precond.solvers.programs.by_torch import TorchProgram
from precond.solvers.programs.drive import run_program

PUBLISHED = ("hs7", "hs28", "hs42", "hs48", "hs79")


def program(problem: Classical) -> tuple[Program, torch.Tensor]:
    x = torch.tensor(problem.start, dtype=torch.float64)
    free = torch.full_like(x, math.inf)
    return TorchProgram(problem.fun, problem.constraints, -free, free, len(problem.constraints(x))), x


def derivatives(problem: Classical, x: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return f, c, gradient, Jacobian and the Hessian of the Lagrangian by torch.autograd.functional."""
    at, lam = torch.from_numpy(x), torch.from_numpy(multipliers)
    jac, hess = torch.autograd.functional.jacobian, torch.autograd.functional.hessian

    def lagrangian(y):
        return problem.fun(y) + lam @ problem.constraints(y)

    return tuple(
        np.array(value)
        for value in (
            problem.fun(at), problem.constraints(at), jac(problem.fun, at), jac(problem.constraints, at),
            hess(lagrangian, at),
        )
    )  # fmt: skip


def merit(problem: Classical, x: np.ndarray, lam: np.ndarray, eta1: float, eta2: float) -> float:
    f, c, g, jacobian, _ = derivatives(problem, x, lam)
    gradient = g + jacobian.T @ lam
    return float(f + lam @ c + eta1 / 2 * c @ c + eta2 / 2 * gradient @ gradient)


def reference(problem: Classical, steps: int) -> list[tuple[np.ndarray, np.ndarray, float, float, float]]:
    """The paper's recursion with exact solves: points, multipliers, steps and penalties."""
    x = np.array(problem.start)
    _, _, g, jacobian, _ = derivatives(problem, x, np.zeros(len(problem.constraints(torch.from_numpy(x)))))
    lam = -np.linalg.lstsq(jacobian.T, g, rcond=None)[0]
    eta1, eta2, nu, beta = 1.0, 0.1, 1.5, 0.1
    path = []
    for _ in range(steps):
        _, c, g, jacobian, hessian = derivatives(problem, x, lam)
        n, m = len(x), len(c)
        stationarity = g + jacobian.T @ lam
        size = np.linalg.norm(np.concatenate([stationarity, c]))
        basis = np.linalg.qr(jacobian.T, mode="complete")[0][:, m:]
        reduced = basis.T @ hessian @ basis
        t = 0.1 + np.linalg.norm(hessian) if n > m and np.linalg.eigvalsh(reduced)[0] < 1e-6 else 0.0
        kkt = np.block([[hessian + t * np.eye(n), jacobian.T], [jacobian, np.zeros((m, m))]])
        z = -np.linalg.solve(kkt, np.concatenate([stationarity, c]))

        in_x = np.stack([stationarity, jacobian.T @ c, hessian @ stationarity])
        in_lam = np.stack([c, 0 * c, jacobian @ stationarity])
        parts = in_x @ z[:n] + in_lam @ z[n:]  # of the slope: without penalty, of eta1, of eta2
        while parts @ [1, eta1, eta2] > -eta2 / 2 * size**2:
            eta1, eta2 = eta1 * nu**2, eta2 / nu
        slope, alpha, here = parts @ [1, eta1, eta2], 1.0, merit(problem, x, lam, eta1, eta2)
        while merit(problem, x + alpha * z[:n], lam + alpha * z[n:], eta1, eta2) > here + alpha * beta * slope:
            alpha /= 2
        x, lam = x + alpha * z[:n], lam + alpha * z[n:]
        path.append((x, lam, alpha, eta1, eta2))
    return path


@pytest.mark.parametrize(("name", "steps"), [("hs7", 4), ("hs42", 3), ("hs79", 3), ("hs27", 4)])
def test_follows_the_recursion_with_exact_solves(name: str, steps: int) -> None:
    problem = ALL[name]
    oracle, x = program(problem)
    iterates = adasketch_newton(inner="dense").iterate(oracle, x, 1e-12)
    next(iterates)
    for (point, multipliers, alpha, eta1, eta2), ours in zip(reference(problem, steps), iterates, strict=False):
        np.testing.assert_allclose(ours.site.x, point, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ours.multipliers, multipliers, rtol=1e-8, atol=1e-8)
        assert (ours.facts["step"], ours.facts["eta1"], ours.facts["eta2"]) == pytest.approx((alpha, eta1, eta2))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("seed", range(2))
def test_ends_in_full_steps_at_known_optima_whatever_the_seed(name: str, seed: int) -> None:
    problem = ALL[name]
    oracle, x = program(problem)
    exact = run_program(oracle, x, adasketch_newton(inner="dense"), tol=1e-4, max_iterations=50)
    oracle, x = program(problem)
    outcome = run_program(oracle, x, sketched_newton(inner="sketch", seed=seed), tol=1e-5, max_iterations=50)
    for found in (exact, outcome):
        assert found.status.group == "converged"
        assert found.facts[-1]["step"] == 1.0
        assert float(found.iterate.site.loss) == pytest.approx(problem.optima[0], abs=1e-4)


def test_the_prescribed_accuracy_makes_the_path_independent_of_the_sketches() -> None:
    """The paper's bound asks for so much that random and exact inner solves take the same outer steps."""
    paths = []
    for method in (adasketch_newton(inner="dense"), adasketch_newton(seed=1), adasketch_newton(seed=2)):
        oracle, x = program(ALL["hs42"])
        outcome = run_program(oracle, x, method, tol=1e-4, max_iterations=20)
        paths.append((outcome.iterations, outcome.facts[-1]["eta1"], round(float(outcome.iterate.site.x[2]), 6)))
    assert paths[0] == paths[1] == paths[2]
    assert paths[0][1] == pytest.approx(1.5**4)


def test_tested_accuracy_needs_a_fraction_of_the_sketches() -> None:
    inner = []
    for method in (adasketch_newton(), sketched_newton(inner="sketch", start=0.1, order=0.5)):
        oracle, x = program(ALL["hs79"])
        outcome = run_program(oracle, x, method, tol=1e-6, max_iterations=30)
        assert outcome.status.group == "converged"
        inner.append(sum(facts.get("inner", 0) for facts in outcome.facts))
    assert inner[1] < inner[0] / 3


def test_converges_superlinearly_with_growing_accuracy() -> None:
    oracle, x = program(ALL["hs79"])
    outcome = run_program(oracle, x, sketched_newton(inner="sketch", order=0.5), tol=1e-11, max_iterations=30)
    errors = [e for e in outcome.history if 1e-11 < e < 1e-1]
    orders = [math.log(b) / math.log(a) for a, b in itertools.pairwise(errors)]
    assert outcome.status.group == "converged"
    assert max(orders) > 1.3, f"residuals {errors}"


@pytest.mark.parametrize("inner", ["dense", "minres"])
@pytest.mark.parametrize("name", ["powellsq", "powellbs", "bt8"])
def test_goes_on_where_constraints_are_badly_scaled_or_dependent(name: str, inner: str) -> None:
    """The published code stops at ``lambda_min(J J') < 1e-2``; in the last of these the solution has rank 1."""
    problem = ALL[name]
    x = torch.tensor(problem.start, dtype=torch.float64)
    result = precond.minimize(problem.fun, x, constraints=problem.constraints, method=adasketch_newton(inner=inner))
    assert result.converged, result.message
    assert float(problem.fun(result.x)) == pytest.approx(problem.optima[0], abs=1e-5)


def test_rows_of_any_scale_are_as_independent_as_their_directions() -> None:
    scale = torch.tensor([[1e-6], [1.0], [1e6]], dtype=torch.float64)
    rows = scale * torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.float64)
    assert independence(rows) == pytest.approx(math.sqrt(1 - 1 / math.sqrt(2)))
    assert independence(torch.cat([rows, rows[:1] - rows[1:2]])) < 1e-12
    assert independence(rows.mT) == 0.0
    assert independence(rows[:0]) == 1.0


def test_the_gradient_of_the_merit_is_its_derivative() -> None:
    """The published code has the Hessian of the objective in it, which central differences expose."""
    problem = ALL["hs79"]
    oracle, x = program(problem)
    generator = torch.Generator().manual_seed(0)
    x = x + 0.3 * torch.randn(5, generator=generator, dtype=torch.float64)
    multipliers = torch.randn(3, generator=generator, dtype=torch.float64)
    merit, site = ExactLagrangian(2.0, 0.3), oracle.site(x)
    gradient = Slopes.at(site, multipliers, oracle.hessian(site, multipliers)).gradient(merit)
    h, numeric = 1e-5, []
    for i in range(8):
        values = []
        for sign in (1, -1):
            moved = torch.cat([x, multipliers])
            moved[i] += sign * h
            values.append(merit.value(oracle.site(moved[:5]), moved[5:]))
        numeric.append((values[0] - values[1]) / (2 * h))
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sketch", ["gaussian", "rows"])
def test_a_sketch_is_a_projection(sketch: str) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    b, x0 = torch.randn(2, 1, 7, generator=generator, dtype=torch.float64)
    part = SketchProject(3, sketch, seed=5)
    steps = part.iterate(as_operator(matrix), b, lambda v: v, x0)
    next(steps)
    x = next(steps).solution()[0].numpy()
    again = torch.Generator().manual_seed(5)
    s = torch.randn(3, 7, dtype=torch.float64, generator=again) if sketch == "gaussian" else (
        torch.eye(7, dtype=torch.float64)[torch.randperm(7, generator=again)[:3]]
    )  # fmt: skip
    a, start = s.numpy() @ matrix.numpy(), x0[0].numpy()
    wanted = start + np.linalg.pinv(a) @ (s.numpy() @ b[0].numpy() - a @ start)
    np.testing.assert_allclose(x, wanted, rtol=1e-10, atol=1e-10)


def test_constrained_logistic_regression_of_the_paper() -> None:
    """Twenty variables, five linear equations and the unit sphere, as in the paper's experiments."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 20, generator=generator, dtype=torch.float64)
    labels = torch.sign(features[:, 0] + 0.5 * torch.randn(200, generator=generator, dtype=torch.float64))
    rows = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    right = 0.1 * torch.randn(5, generator=generator, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-labels * (features @ w)).mean()

    def constraints(w: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows @ w - right, (w @ w - 1)[None]])

    start = torch.full((20,), 0.2, dtype=torch.float64)
    results = [
        precond.minimize(loss, start, constraints=constraints, method=method, tol=1e-6)
        for method in ("sketched-newton", "interior-point")
    ]
    assert all(result.converged for result in results)
    assert float(loss(results[0].x)) == pytest.approx(float(loss(results[1].x)), abs=1e-6)


def test_after_systems_that_needed_a_factorization_the_next_are_factorized_earlier() -> None:
    oracle, x = program(ALL["hs46"])
    outcome = run_program(oracle, x, adasketch_newton(), tol=1e-6, max_iterations=50)
    counts = [int(facts["inner"]) for facts in outcome.facts[1:]]
    assert outcome.status.group == "converged"
    assert max(counts) >= 2000, f"inner iterations {counts}"
    assert sum(counts) < 500 * len(counts), f"inner iterations {counts}"
