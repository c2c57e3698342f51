"""The section of smooth.py on large programs with equations: a sketch of the Hessian against exact inner solves."""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import precond
from constrained_cases import TOLERANCE, Case, regression_case
from precond.core import ProgramIteration, Result
from precond.krylov.gmres import GMRES
from precond.problems import elliptic_control
from precond.programs.accuracy import Tested
from precond.programs.curvature import NoShift
from precond.programs.directions import Iterated
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.programs import sketched_newton
from sections import table

ROUNDS = 3
F64 = torch.float64
SKETCH, EXACT, TIGHT = "sketched-newton", "the same, factorized Newton systems", "the same, GMRES to 1e-8"
AUTO = "interior-point (auto)"


def generated(samples: int, variables: int, equations: int, *, seed: int = 0) -> Case:
    """Return a logistic regression with singular values falling as ``j^-1/2``, under ``A x = b`` and ``||x|| = 1``."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(variables, variables, generator=generator, dtype=F64)).Q
    sizes = torch.arange(1, variables + 1, dtype=F64) ** -0.5
    features = torch.randn(samples, variables, generator=generator, dtype=F64) @ (basis * sizes).mT
    scores = features @ torch.randn(variables, generator=generator, dtype=F64)
    noise = torch.randn(samples, generator=generator, dtype=F64)
    signs = torch.sign(scores + scores.std() * noise / 2)
    rows = torch.randn(equations - 1, variables, generator=generator, dtype=F64) / variables**0.5
    inside = torch.randn(variables, generator=generator, dtype=F64)
    b = rows @ (inside / inside.norm())
    return Case(
        lambda x: torch.nn.functional.softplus(-signs * (features @ x)).mean(),
        lambda x: torch.cat([rows @ x - b, (x @ x)[None] - 1]), torch.full((variables,), variables**-0.5, dtype=F64),
    )  # fmt: skip


def quartic(variables: int, equations: int) -> Case:
    """Return a function whose dense Hessian is known by products alone, under ``A x = b`` and ``||x|| = 1``."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(variables, variables, generator=generator, dtype=F64)).Q
    matrix = (basis / torch.arange(1, variables + 1, dtype=F64)) @ basis.mT
    slope = torch.randn(variables, generator=generator, dtype=F64) / variables**0.5
    rows = torch.randn(equations - 1, variables, generator=generator, dtype=F64) / variables**0.5
    b = torch.randn(equations - 1, generator=generator, dtype=F64) * 0.3 / equations**0.5
    return Case(
        lambda x: x @ (matrix @ x) / 2 + x.pow(4).sum() / (4 * variables) - slope @ x + 5e-3 * (x @ x),
        lambda x: torch.cat([rows @ x - b, (x @ x)[None] - 1]), torch.full((variables,), variables**-0.5, dtype=F64),
    )  # fmt: skip


def grid(size: int, *, semilinear: bool) -> Case:
    given = elliptic_control(size=size, semilinear=semilinear)
    return Case(given.fun, given.constraints, given.start)


def large(options: argparse.Namespace) -> str:
    """Large programs with equations: one method, its Newton systems by a sketch or exactly, in interleaved runs."""
    tight = SketchedNewton(Iterated(GMRES(100), NoShift(), limit=5000), Tested(1e-8, 0.0, 0.1, 1e-10))
    methods: dict[str, str | ProgramIteration] = {
        SKETCH: "sketched-newton", EXACT: sketched_newton(inner="dense"), AUTO: "auto", TIGHT: tight,
    }  # fmt: skip
    usual, iterative = (SKETCH, EXACT), (SKETCH, AUTO, TIGHT)
    cases: dict[str, tuple[Callable[[], Case], tuple[str, ...]]] = {
        "regression, 20 000 samples, 300 variables, 31 equations": (lambda: generated(20_000, 300, 31), usual),
        "regression, 30 000 samples, 500 variables, 51 equations": (lambda: generated(30_000, 500, 51), usual),
        "quartic, Hessian by products, 300 variables, 31 equations": (lambda: quartic(300, 31), usual),
        "linear control, 12 800 variables, 6400 equations": (lambda: grid(80, semilinear=False), iterative),
        "semilinear control, 12 800 variables, 6400 equations": (lambda: grid(80, semilinear=True), iterative),
    }
    files = [Path(options.libsvm) / "a9a.gz"] if options.libsvm and (Path(options.libsvm) / "a9a.gz").exists() else []
    for path in files:
        title = "regression on a9a, 32 561 samples, 123 variables, 11 equations"
        cases[title] = (functools.partial(regression_case, path), usual)
    for warm in (generated(3000, 120, 11), grid(25, semilinear=False)):
        for name in (SKETCH, AUTO):
            _solve(warm, methods[name])
    rows = []
    for title, (make, names) in cases.items():
        case = make()
        runs: dict[str, list[tuple[Result, float]]] = {name: [] for name in names}
        for turn in range(ROUNDS if title.startswith("regression") else 1):
            for name in names if turn == 0 else (SKETCH, EXACT):
                runs[name].append(_solve(case, methods[name]))
        for name, found in runs.items():
            result, seconds = found[-1][0], [s for _, s in found]
            ratios = [s / sketch for s, (_, sketch) in zip(seconds, runs[SKETCH], strict=False)]
            solved = result.converged and (case.start.numel() > 5000 or case.solved(result.x.numpy()))
            work = result.work
            rows.append([
                title, name, "yes" if solved else "no", f"{statistics.median(seconds):.2f}",
                f"{statistics.median(ratios):.2f}", str(result.iterations), str(work.gradients), str(work.hvps),
                str(work.inner), str(work.factorizations),
            ])  # fmt: skip
    head = ["problem", "method", "solved", "seconds", "seconds over those of the first", "iterations",
            "gradients", "Hessian products", "inner iterations", "factorizations"]  # fmt: skip
    note = (
        f"To {TOLERANCE:g} from the same start; medians of {ROUNDS} interleaved runs on regressions, "
        "else of one. "
        "Seconds include the certificate, which assembles the Hessian up to 2000 variables, for all."
    )
    return table(head, rows, note)


def _solve(case: Case, method: str | ProgramIteration) -> tuple[Result, float]:
    begin = time.process_time()
    result = precond.minimize(case.fun, case.start, constraints=case.constraints, method=method, tol=TOLERANCE,
                              max_iterations=200)  # fmt: skip
    return result, time.process_time() - begin
