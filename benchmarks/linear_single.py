"""Single linear systems: conjugate gradients, elliptic problems, whatever matrix."""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
import precond.scipy
from linear_measure import (
    SECTIONS,
    TOLERANCE,
    applied,
    inverse,
    medians,
    repeated,
    residual,
)
from precond.preconditioners.ic0 import IC0
from precond.problems.load import load
from sections import table


@SECTIONS.section
def cg(options: argparse.Namespace) -> str:
    """Conjugate gradients, microseconds an iteration, with the same preconditioner on both sides."""
    rows = []
    for side in (10, 50, 100, 300):
        matrix = scipy.sparse.csr_array(load(f"poisson2d:n={side}").matrix)
        b = np.random.default_rng(0).standard_normal(side**2)
        for name, M in (("none", None), ("our IC(0)", inverse(IC0(), matrix))):
            contestants: dict[str, Callable[..., Any]] = {
                "SciPy": lambda M=M, matrix=matrix, b=b, **more: scipy.sparse.linalg.cg(
                    matrix, b, rtol=TOLERANCE, M=M, **more
                ),
                "precond.scipy": lambda M=M, matrix=matrix, b=b, **more: precond.scipy.cg(
                    matrix, b, rtol=TOLERANCE, M=M, **more
                ),
            }
            try:
                from pyamg.krylov import cg as theirs

                contestants["PyAMG"] = lambda M=M, matrix=matrix, b=b, theirs=theirs, **more: theirs(
                    matrix, b, tol=TOLERANCE, M=M, **more
                )
            except ImportError:
                pass
            counts = {}
            for label, solve in contestants.items():
                seen: list[None] = []
                x, _ = solve(callback=lambda _, seen=seen: seen.append(None))
                assert residual(matrix, b, x) <= 2 * TOLERANCE, label
                counts[label] = len(seen)
            turns = max(1, 20_000 // side**2)  # a turn of less than milliseconds would time what the others left
            times = medians({k: repeated(solve, turns) for k, solve in contestants.items()}, options.rounds)
            each = {label: 1e6 * times[label] / (turns * counts[label]) for label in contestants}
            rows.append((
                f"{side**2}", name, f"{each['SciPy']:.1f}", f"{each['precond.scipy']:.1f}",
                f"{each['PyAMG']:.1f}" if "PyAMG" in each else "not installed",
                f"{each['SciPy'] / each['precond.scipy']:.2f}",
            ))  # fmt: skip
    head = ("unknowns", "preconditioner", "SciPy, us", "precond.scipy, us", "PyAMG, us", "SciPy / ours")
    note = (
        f"5-point Laplacian, relative residual {TOLERANCE:g}; whole solves, divided by their iterations, medians of "
        f"{options.rounds} rounds; small systems several times in a row."
    )
    return table(head, rows, note)


@SECTIONS.section
def domains(options: argparse.Namespace) -> str:
    """IC(0) in the natural order and by domains: iterations, and an application on one thread and on two."""
    rows = []
    for family, side in (("poisson2d", 300), ("poisson2d", 500), ("poisson3d", 45), ("poisson3d", 63)):
        matrix = scipy.sparse.csr_array(load(f"{family}:n={side}").matrix)
        n = matrix.shape[0]
        b = np.random.default_rng(0).standard_normal(n)
        counts = [
            precond.solve(matrix, b, method="cg", preconditioner=IC0(domains=count), rtol=TOLERANCE).iterations
            for count in (1, 8)
        ]
        v = torch.from_numpy(b)[None]
        natural, cut = (applied(IC0(domains=count), matrix) for count in (1, 8))
        threads: dict[int, dict[str, list[float]]] = {1: {"natural": [], "cut": []}, 2: {"cut": [], "own": []}}
        for _ in range(20 * options.rounds):
            for name, apply in (("natural", natural), ("cut", cut)):
                threads[1][name].append(seconds(lambda apply=apply, v=v: apply(v))[0])
            torch.set_num_threads(2)
            elapsed, own = seconds(lambda cut=cut, v=v: cut(v))
            torch.set_num_threads(1)
            threads[2]["cut"].append(elapsed)
            threads[2]["own"].append(own)
        least = {(count, name): min(times) for count, found in threads.items() for name, times in found.items()}
        base = least[1, "natural"]
        ratios = (base / least[key] for key in ((1, "cut"), (2, "cut"), (2, "own")))
        rows.append((
            family, f"{n}", f"{counts[0]}", f"{counts[1]}", f"{1e6 * base:.0f}", *(f"{ratio:.2f}" for ratio in ratios)
        ))  # fmt: skip
    head = (
        "matrix", "unknowns", "iterations", "by 8 domains", "one application, us", "its time / by domains",
        "on two threads", "two threads, processor time of the first",
    )  # fmt: skip
    note = (
        f"CG to {TOLERANCE:g}; the least of {20 * options.rounds} applications, which take turns; the last column "
        "is what two threads gain where nobody else wants the processor. Otherwise:"
    )
    return table(head, rows, note)


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds that something takes, and the processor's for this thread."""
    begin, own = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - begin, time.thread_time() - own


def stopped(solve: Callable[..., tuple[np.ndarray, int]]) -> Callable[[], tuple[np.ndarray, int]]:
    """Return a run of a solver with SciPy's signature: its solution, and how many iterations it took."""

    def run() -> tuple[np.ndarray, int]:
        seen: list[None] = []
        x, _ = solve(callback=lambda _: seen.append(None))
        return x, len(seen)

    return run


Way = Callable[[scipy.sparse.csr_matrix, np.ndarray], tuple[np.ndarray, int]]


def elliptic() -> dict[str, tuple[Way, int, int]]:
    """Return the contestants for elliptic systems, each with the most unknowns in two and in three dimensions.

    Each sets up and solves, in the way that is best for a symmetric matrix: with its default column ordering, or a
    bound on the fill, SciPy's incomplete factorization is not symmetric, and conjugate gradients with it end at their
    limit. Beyond the limits a factorization fills, or conjugate gradients take many thousands of iterations.
    """
    import scipy.sparse.linalg as sl

    symmetric: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
    always = 10**7

    def incomplete(A: scipy.sparse.csr_matrix) -> sl.LinearOperator:
        factors = sl.spilu(
            A.tocsc(), drop_tol=1e-3, drop_rule="basic", fill_factor=30, diag_pivot_thresh=0.0, **symmetric
        )  # fmt: skip
        return sl.LinearOperator(A.shape, factors.solve, dtype=float)

    def by_cg(setup: Callable[[scipy.sparse.csr_matrix], Any] | None) -> Way:
        return lambda A, b: stopped(
            lambda **more: sl.cg(A, b, rtol=TOLERANCE, maxiter=5000, M=None if setup is None else setup(A), **more)
        )()

    ways: dict[str, tuple[Way, int, int]] = {
        "SciPy cg": (by_cg(None), 300_000, always),
        "SciPy cg, spilu": (by_cg(incomplete), 300_000, 50_000),
        "SciPy splu": (lambda A, b: (sl.splu(A.tocsc(), **symmetric).solve(b), 0), 300_000, 50_000),
    }
    try:
        import ilupp

        ways["SciPy cg, ilupp IC(0)"] = (by_cg(ilupp.IChol0Preconditioner), 300_000, always)
    except ImportError:
        pass
    try:
        import pyamg

        for label, build in (("SA", pyamg.smoothed_aggregation_solver), ("RS", pyamg.ruge_stuben_solver)):

            def theirs(A: scipy.sparse.csr_matrix, b: np.ndarray, build: Any = build) -> tuple[np.ndarray, int]:
                seen: list[float] = []
                x = build(A).solve(b, tol=TOLERANCE, accel="cg", residuals=seen)
                return x, len(seen) - 1

            ways[f"PyAMG {label}, cg"] = (theirs, always, always if label == "SA" else 300_000)
    except ImportError:
        pass
    for name in ("ic0", "amg", "auto"):

        def ours(A: scipy.sparse.csr_matrix, b: np.ndarray, name: str = name) -> tuple[np.ndarray, int]:
            method = "auto" if name == "auto" else "cg"
            result = precond.solve(A, b, method=method, preconditioner=name, rtol=TOLERANCE)
            return result.x, result.iterations

        label = "precond, auto" if name == "auto" else f"precond cg, {name}"
        ways[label] = (ours, 300_000 if name == "ic0" else always, always)
    return ways


@SECTIONS.section
def poisson(options: argparse.Namespace) -> str:
    """Laplacians in two and three dimensions, set up and solved, against SciPy, ilupp, PyAMG and a direct solver."""
    rows, known = [], elliptic()
    for axes, family in ((2, "poisson2d"), (3, "poisson3d")):
        for unknowns in options.sizes:
            A = scipy.sparse.csr_matrix(load(f"{family}:n={round(unknowns ** (1 / axes))}").matrix)
            A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
            b = np.random.default_rng(0).standard_normal(A.shape[0])
            ways = {name: way for name, (way, *limits) in known.items() if A.shape[0] <= limits[axes - 2]}
            found: dict[str, tuple[np.ndarray, int]] = {}
            times = medians(
                {name: lambda n=name, w=way, A=A, b=b, f=found: f.update({n: w(A, b)}) for name, way in ways.items()},
                options.rounds,
            )
            best = min(times[name] for name in ways if not name.startswith("precond"))
            for name, (x, count) in found.items():
                rows.append((
                    f"{family}, {A.shape[0]}", name, f"{times[name]:.3f}", f"{count or ''}",
                    f"{residual(A, b, x):.1e}", f"{best / times[name]:.2f}",
                ))  # fmt: skip
    head = ("problem, unknowns", "way", "seconds", "iterations", "residual", "best rival / this")
    note = f"Setup and solution, relative residual {TOLERANCE:g}, medians of {options.rounds} rounds."
    return table(head, rows, note)


def generated() -> Iterable[tuple[str, scipy.sparse.csr_array]]:
    """Yield matrices made here, for whoever has no folder of them."""
    for name in ("poisson2d:n=64", "convection-diffusion:n=64", "convection-diffusion:n=64,peclet=2000"):
        yield name, scipy.sparse.csr_array(load(name).matrix)


def in_folder(folder: Path) -> Iterable[tuple[str, scipy.sparse.csr_array]]:
    """Yield the square matrices of a folder of Matrix Market files."""
    for path in sorted([*folder.glob("*.mtx"), *folder.glob("*.mtx.gz")]):
        matrix = scipy.sparse.csr_array(scipy.io.mmread(path))
        if matrix.shape[0] == matrix.shape[1]:
            yield path.name.partition(".")[0], matrix.astype(float)


def rivals_of(matrix: scipy.sparse.csr_array, b: np.ndarray) -> list[str]:
    """Return residuals of splu, of GMRES with spilu, and of PyAMG with GMRES; or what they raise."""
    import scipy.sparse.linalg as sl

    def direct() -> np.ndarray:
        return sl.splu(matrix.tocsc()).solve(b)

    def incomplete() -> np.ndarray:
        factors = sl.spilu(matrix.tocsc())
        M = sl.LinearOperator(matrix.shape, factors.solve)
        return sl.gmres(matrix, b, rtol=TOLERANCE, M=M, maxiter=50)[0]

    def multigrid_cycles() -> np.ndarray:
        import pyamg

        solver = pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(matrix))
        return solver.solve(b, tol=TOLERANCE, accel="gmres", maxiter=100)

    found = []
    for solve in (direct, incomplete, multigrid_cycles):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(f"{residual(matrix, b, solve()):.1e}")
        except ImportError:
            found.append("not installed")
        except Exception as error:  # whatever a rival raises is its result
            found.append(type(error).__name__)
    return found


@SECTIONS.section
def matrices(options: argparse.Namespace) -> str:
    """Every matrix: what ``precond.solve`` does by itself, and a direct solver, SciPy with ILU, and PyAMG."""
    rows, solved = [], 0
    for name, matrix in in_folder(options.matrices) if options.matrices else generated():
        b = matrix @ np.ones(matrix.shape[0])
        try:
            precond.solve(matrix, b, rtol=TOLERANCE)  # compiles
            begin = time.process_time()
            result = precond.solve(matrix, b, rtol=TOLERANCE)
            seconds = time.process_time() - begin
            true = residual(matrix, b, result.x)
            solved += true <= TOLERANCE * (1 + 1e-6)
            ours = (f"{true:.1e}", result.status.name, result.method.partition(";")[0])
        except precond.core.PrecondError as error:
            ours, seconds = ("", type(error).__name__, str(error).partition(":")[0]), math.nan
        rows.append((name, f"{matrix.shape[0]}", *ours, f"{1e3 * seconds:.0f}", *rivals_of(matrix, b)))
    head = ("matrix", "unknowns", "residual", "status", "chosen", "ms", "splu", "gmres, spilu", "PyAMG SA, gmres")
    note = f"{solved} of {len(rows)} solved. Right-hand side A times ones, relative residual {TOLERANCE:g} asked."
    return table(head, rows, note)
