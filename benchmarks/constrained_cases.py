"""Programs with equality constraints, who solves them, and whether what they found is a solution."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import torch

import precond
from precond.core import ProgramIteration
from precond.solvers.programs.by_torch import TorchProgram

TOLERANCE = 1e-6
LIMIT = 500


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem ``min f(x)`` subject to ``c(x) = 0``.

    Attributes:
        fun: The objective, a torch function.
        constraints: The constraints.
        start: Where to start.
    """

    fun: Callable[[torch.Tensor], torch.Tensor]
    constraints: Callable[[torch.Tensor], torch.Tensor]
    start: torch.Tensor

    def first_order(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return gradient, constraints and dense Jacobian."""
        at = torch.from_numpy(np.asarray(x, dtype=float))
        gradient = torch.autograd.functional.jacobian(self.fun, at).numpy()
        rows = torch.autograd.functional.jacobian(self.constraints, at).numpy()
        return gradient, self.constraints(at).detach().numpy(), rows

    def solved(self, x: np.ndarray) -> bool:
        """Whether the conditions of optimality hold with the best multipliers."""
        if not np.isfinite(x).all():
            return False
        gradient, c, rows = self.first_order(x)
        multipliers = np.linalg.lstsq(rows.T, -gradient, rcond=1e-10)[0]
        dual = float(np.linalg.norm(gradient + rows.T @ multipliers))
        return dual <= 100 * TOLERANCE and float(np.linalg.norm(c)) <= 10 * TOLERANCE


@dataclasses.dataclass
class Run:
    """What a contestant did.

    Attributes:
        x: Where it ended.
        claims: Whether it calls that a solution.
        evaluations: Of the objective.
        inner: Inner iterations; ``None`` where it does not say.
        factorizations: Of Newton systems; ``None`` where it does not say.
    """

    x: np.ndarray
    claims: bool
    evaluations: int
    inner: int | None = None
    factorizations: int | None = None


Contestant = Callable[[Case], Run]


def ours(method: str | ProgramIteration) -> Contestant:
    def run(case: Case) -> Run:
        result = precond.minimize(
            case.fun, case.start, constraints=case.constraints, method=method, tol=TOLERANCE, max_iterations=LIMIT
        )
        evaluations = max(result.work.losses, result.work.gradients)
        return Run(result.x.numpy(), result.converged, evaluations, result.work.inner, result.work.factorizations)

    return run


def scipys(method: str) -> Contestant:
    def run(case: Case) -> Run:
        count = 0

        def fun(x: np.ndarray) -> float:
            nonlocal count
            count += 1
            return float(case.fun(torch.from_numpy(x)))

        def of(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
            return lambda x: torch.autograd.functional.jacobian(function, torch.from_numpy(x)).numpy()

        def curvature(x: np.ndarray, v: np.ndarray) -> np.ndarray:
            weights = torch.from_numpy(np.asarray(v))
            return torch.autograd.functional.hessian(
                lambda y: weights @ case.constraints(y), torch.from_numpy(x)
            ).numpy()

        limits: Any = {"type": "eq", "fun": lambda x: case.constraints(torch.from_numpy(x)).numpy(),
                       "jac": of(case.constraints)}  # fmt: skip
        more: dict[str, Any] = {"options": {"maxiter": LIMIT}}
        if method == "trust-constr":
            limits = scipy.optimize.NonlinearConstraint(limits["fun"], 0, 0, jac=limits["jac"], hess=curvature)

            def hess(x):
                return torch.autograd.functional.hessian(case.fun, torch.from_numpy(x)).numpy()

            more = {"hess": hess, "options": {"maxiter": LIMIT, "gtol": 1e-8, "xtol": 1e-12}}
        else:
            more["tol"] = 1e-10
        answer = scipy.optimize.minimize(
            fun, case.start.numpy().copy(), jac=of(case.fun), constraints=limits, method=method, **more
        )
        inner = int(answer.cg_niter) if "cg_niter" in answer else None
        return Run(answer.x, bool(answer.success), count, inner)

    return run


def ipopt_is_there() -> bool:
    return importlib.util.find_spec("ipyopt") is not None


def ipopt(*, sparse: bool = False) -> Contestant:
    """Return Ipopt at its default tolerance with exact derivatives, whose sparsity is handed to it if asked."""

    def run(case: Case) -> Run:
        import ipyopt

        n, m = case.start.numel(), case.constraints(case.start).numel()
        infinite = torch.full((n,), float("inf"), dtype=torch.float64)
        program = TorchProgram(case.fun, case.constraints, -infinite, infinite, m)
        if sparse:
            program.compress(case.start)
        count = iterations = 0

        def site(x: np.ndarray) -> Any:
            return program.site(torch.from_numpy(x.copy()))

        def values(operator: Any) -> scipy.sparse.csr_array:
            found = operator.entries()
            if found is None:
                unit = torch.eye(operator.shape[1], dtype=torch.float64)
                return operator.matvec(unit).mT.numpy()
            return found

        def curvature(x: np.ndarray, multipliers: np.ndarray, factor: float) -> Any:
            share = factor if factor else 1e-300
            operator = program.hessian(site(x), torch.from_numpy(multipliers / share))
            return values(operator) * share

        if sparse:
            random = np.random.default_rng(0)
            at = case.start.numpy() + random.normal(size=n)
            rows = scipy.sparse.coo_array(values(site(at).jacobian))
            hessian = scipy.sparse.coo_array(scipy.sparse.tril(curvature(at, random.normal(size=m), 1.0)))
            places = (rows.row, rows.col), (hessian.row, hessian.col)
        else:
            places = tuple(np.divmod(np.arange(m * n), n)), np.tril_indices(n)  # type: ignore[assignment]  # pairs of arrays, too

        def pick(matrix: Any, place: Any) -> np.ndarray:
            return np.asarray(matrix[place[0], place[1]]).ravel()

        def fun(x: np.ndarray) -> float:
            nonlocal count
            count += 1
            return float(case.fun(torch.from_numpy(x.copy())))

        def watch(mode: int, iteration: int, *rest: float) -> bool:
            nonlocal iterations
            iterations = iteration
            return True

        big = np.full(n, 1e20)
        zeros = np.zeros(m)
        problem = ipyopt.Problem(
            n, -big, big, m, zeros, zeros, *places, fun,
            lambda x, out: out.__setitem__(slice(None), site(x).gradient.numpy()),
            lambda x, out: out.__setitem__(slice(None), case.constraints(torch.from_numpy(x.copy())).numpy()),
            lambda x, out: out.__setitem__(slice(None), pick(values(site(x).jacobian), places[0])),
            lambda x, v, factor, out: out.__setitem__(slice(None), pick(curvature(x, v, factor), places[1])),
            watch, ipopt_options={"print_level": 0, "sb": "yes", "max_iter": LIMIT},
        )  # fmt: skip
        x, _, status = problem.solve(
            case.start.numpy().copy(), mult_g=zeros.copy(), mult_x_L=np.zeros(n), mult_x_U=np.zeros(n)
        )
        return Run(x, status in (0, 1), count)

    return run


def measured(run: Contestant, case: Case) -> tuple[Run | None, float, bool]:
    """Return the run, its seconds and whether it solved the case; ``None`` for a contestant that raises."""
    begin = time.process_time()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = run(case)
        except Exception:  # a rival that raises has not solved it
            return None, time.process_time() - begin, False
    seconds = time.process_time() - begin
    return found, seconds, case.solved(found.x) if case.start.numel() < 5000 else _solved_sparse(case, found.x)


def _solved_sparse(case: Case, x: np.ndarray) -> bool:
    """Whether the conditions hold, by sparse least squares."""
    at = torch.from_numpy(x)
    m = case.constraints(at).numel()
    infinite = torch.full_like(at, float("inf"))
    program = TorchProgram(case.fun, case.constraints, -infinite, infinite, m)
    program.compress(case.start)
    site = program.site(at)
    rows = site.jacobian.entries()
    n = x.size
    system = scipy.sparse.csc_array(
        scipy.sparse.block_array([[scipy.sparse.eye_array(n), rows.T], [rows, -1e-14 * scipy.sparse.eye_array(m)]])
    )
    left = scipy.sparse.linalg.spsolve(system, np.concatenate([site.gradient.numpy(), np.zeros(m)]))[:n]
    return bool(np.linalg.norm(left) <= 100 * TOLERANCE and float(site.constraints.norm()) <= 10 * TOLERANCE)


def regression_case(path: Path) -> Case:
    from sklearn.datasets import load_svmlight_file

    matrix, labels = load_svmlight_file(str(path))
    features = torch.from_numpy(matrix.toarray())
    signs = torch.from_numpy(np.where(labels == labels.max(), 1.0, -1.0))
    n = features.shape[1]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(min(10, n // 2), n, generator=generator, dtype=torch.float64)
    inside = torch.randn(n, generator=generator, dtype=torch.float64)
    b = rows @ (inside / inside.norm())  # so that the equations can be met on the sphere
    return Case(
        lambda x: torch.nn.functional.softplus(-signs * (features @ x)).mean(),
        lambda x: torch.cat([rows @ x - b, (x @ x)[None] - 1]), torch.ones(n, dtype=torch.float64),
    )  # fmt: skip
