"""The sections of smooth.py on constraints: classical problems, control on a grid, regression, sketched systems."""

from __future__ import annotations

import argparse
import statistics

import torch

from constrained_cases import TOLERANCE, Case, Run, ipopt, ipopt_is_there, measured, ours, regression_case, scipys
from precond.krylov.dense import Dense
from precond.krylov.minres import MINRES
from precond.krylov.sketch_project import SketchProject
from precond.problems import elliptic_control
from precond.problems.classical import ALL
from precond.programs.accuracy import Tested
from precond.programs.curvature import Convex
from precond.programs.directions import Iterated
from precond.programs.sketched_newton import SketchedNewton
from precond.recipes.programs import adasketch_newton, sketched_newton
from sections import NoData, table

TURNS = 3


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _without_ipopt() -> str:
    return "" if ipopt_is_there() else " Ipopt is left out: ipyopt is not installed."


def constrained(options: argparse.Namespace) -> str:
    """Classical problems with equality constraints: solved, evaluations, and what was called a success and is none."""
    contestants = {
        "precond auto (interior-point)": ours("auto"),
        "precond adasketch-newton, exact inner solves": ours(adasketch_newton(inner="dense")),
        "precond sketched-newton": ours("sketched-newton"),
        "precond sketched-newton, random sketches of the equations": ours(sketched_newton(inner="sketch")),
        "precond sketched-newton, MINRES inside": ours(sketched_newton(inner="minres")),
        "precond augmented-lagrangian": ours("augmented-lagrangian"),
        "SciPy trust-constr, exact Hessians": scipys("trust-constr"),
        "SciPy SLSQP": scipys("SLSQP"),
    }
    if ipopt_is_there():
        contestants["Ipopt, exact Hessians"] = ipopt()
    cases = [Case(p.fun, p.constraints, torch.tensor(p.start, dtype=torch.float64)) for p in ALL.values()]
    rows = []
    for name, run in contestants.items():
        good: list[Run] = []
        wrong, total = 0, 0.0
        for case in cases:
            found, seconds, solved = measured(run, case)
            total += seconds
            if found is not None and solved:
                good.append(found)
            wrong += found is not None and found.claims and not solved
        median = [
            statistics.median(v for v in values if v is not None) if any(v is not None for v in values) else None
            for values in ([r.evaluations for r in good], [r.inner for r in good], [r.factorizations for r in good])
        ]
        rows.append([name, f"{len(good)} of {len(cases)}", *(_number(v) for v in median), str(wrong), f"{total:.1f}"])
    head = ["method", "solved", "evaluations of the objective, median", "inner iterations, median",
            "factorizations, median", "false successes", "seconds, all"]  # fmt: skip
    note = (
        f"Solved: stationarity with the best multipliers within {100 * TOLERANCE:g} and violation within "
        f"{10 * TOLERANCE:g}, recomputed. All derivatives by automatic differentiation.{_without_ipopt()}"
    )
    return table(head, rows, note)


def control(options: argparse.Namespace) -> str:
    """Control of elliptic equations on a grid, more than 10 000 variables, from plain torch functions."""
    rows = []
    for semilinear in (False, True):
        given = elliptic_control(size=80, semilinear=semilinear)
        case = Case(given.fun, given.constraints, given.start)
        contestants = {"precond auto": ours("auto")}
        if ipopt_is_there():
            contestants["Ipopt, given the sparse derivatives"] = ipopt(sparse=True)
        measured(ours("auto"), _warm())
        for name, run in contestants.items():
            found, seconds, solved = measured(run, case)
            assert found is not None
            rows.append([given.name, name, "yes" if solved else "no", f"{seconds:.1f}", str(found.evaluations),
                         _number(found.factorizations)])  # fmt: skip
    head = ["problem", "method", "solved", "seconds", "evaluations", "factorizations"]
    return table(
        head, rows, f"Seconds include finding the sparsity, for both; nothing is compiled in them.{_without_ipopt()}"
    )


def _warm() -> Case:
    small = elliptic_control(size=25)
    return Case(small.fun, small.constraints, small.start)


def regression(options: argparse.Namespace) -> str:
    """Logistic regression under ``A x = b`` and ``||x|| = 1``, on LIBSVM data: the paper's own experiment."""
    files = sorted(options.libsvm.glob("*")) if options.libsvm else []
    files = [path for path in files if "README" not in path.name]
    if not files:
        raise NoData("the section regression needs --libsvm DIR, a folder of LIBSVM files")
    contestants = {
        "precond auto": ours("auto"),
        "precond sketched-newton": ours("sketched-newton"),
        "precond sketched-newton, exact inner solves": ours(sketched_newton(inner="dense")),
        "precond adasketch-newton, exact inner solves": ours(adasketch_newton(inner="dense")),
        "SciPy trust-constr, exact Hessians": scipys("trust-constr"),
        "SciPy SLSQP": scipys("SLSQP"),
    }
    if ipopt_is_there():
        contestants["Ipopt, exact Hessians"] = ipopt()
    rows = []
    for path in files:
        case = regression_case(path)
        turns = [{name: measured(run, case) for name, run in contestants.items()} for _ in range(TURNS)]
        for name in contestants:
            found, _, solved = turns[-1][name]
            seconds = statistics.median(turn[name][1] for turn in turns)
            cells = ["", "", ""]
            if found is not None:
                cells = [str(found.evaluations), _number(found.inner), _number(found.factorizations)]
            rows.append([path.name.removesuffix(".gz"), name, "yes" if solved else "no", f"{seconds:.2f}", *cells])
    head = ["data", "method", "solved", "seconds", "evaluations", "inner iterations", "factorizations"]
    note = f"At most ten equations, half as many as variables; from ones. Medians of {TURNS} interleaved runs."
    return table(head, rows, f"{note}{_without_ipopt()}")


def sketches(options: argparse.Namespace) -> str:
    """What random sketches cost beside a factorization and MINRES, in the same method, on convex problems."""
    rows = []
    for title, case in {"regression, 600 variables": _wide(600), "control, 288 variables": _small_control()}.items():
        side = case.start.numel() + case.constraints(case.start).numel()
        inners = {
            "factorization": (Dense(), side), "MINRES": (MINRES(), side),
            "Gaussian sketches of half the equations": (SketchProject(), side // 2),
            "32 equations at random": (SketchProject(32, "rows"), 32),
        }  # fmt: skip
        for name, (inner, size) in inners.items():
            method = SketchedNewton(Iterated(inner, Convex()), Tested())
            found, seconds, solved = measured(ours(method), case)
            assert found is not None
            assert found.inner is not None
            rows.append([title, name, "yes" if solved else "no", f"{seconds:.2f}", str(found.inner),
                         f"{found.inner * size:,}"])  # fmt: skip
    head = ["problem", "inner solver", "solved", "seconds", "inner iterations", "rows of the system that were used"]
    return table(head, rows, "Systems are assembled for all; after 2000 sketches of one system it is factorized.")


def _wide(n: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, n, generator=generator, dtype=torch.float64) / n**0.5
    signs = torch.sign(features @ torch.randn(n, generator=generator, dtype=torch.float64))
    rows = torch.randn(n // 20, n, generator=generator, dtype=torch.float64) / n**0.5
    b = torch.randn(n // 20, generator=generator, dtype=torch.float64)
    return Case(
        lambda x: torch.nn.functional.softplus(-signs * (features @ x)).mean() + (x @ x) / 2,
        lambda x: rows @ x - b, torch.zeros(n, dtype=torch.float64),
    )  # fmt: skip


def _small_control() -> Case:
    small = elliptic_control(size=12)
    return Case(small.fun, small.constraints, small.start)
