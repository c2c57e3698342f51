"""Conjugate gradients with incomplete Cholesky, against PETSc and ilupp, where they are installed."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

import precond
from linear_measure import SECTIONS, TOLERANCE, residual
from precond.operators import as_operator
from precond.problems.load import load
from sections import table

Run = Callable[[], tuple[float, float, int, np.ndarray]]
"""Sets up and solves: seconds of both, iterations, solution."""
CASES = ("poisson2d:n=50", "poisson2d:n=100", "poisson2d:n=300", "poisson2d:n=500", "poisson3d:n=40", "poisson3d:n=63")


def ours(A: scipy.sparse.csr_array, b: np.ndarray) -> Run:
    """Return ``precond.solve``, its checks and its certificate included; the matrix is read before, as PETSc's is."""
    operator = as_operator(A)

    def run() -> tuple[float, float, int, np.ndarray]:
        begin = time.process_time()
        result = precond.solve(operator, b, method="cg", preconditioner="ic0", rtol=TOLERANCE)
        total, setup = time.process_time() - begin, result.work.seconds["setup"]
        return setup, total - setup, result.iterations, result.x

    return run


def ilupp(A: scipy.sparse.csr_array, b: np.ndarray) -> Run:
    """Return SciPy's iteration with ilupp's factor."""
    import ilupp

    narrow = scipy.sparse.csr_matrix(A)

    def run() -> tuple[float, float, int, np.ndarray]:
        seen: list[None] = []
        begin = time.process_time()
        factor = ilupp.IChol0Preconditioner(narrow)
        middle = time.process_time()
        x, _ = scipy.sparse.linalg.cg(narrow, b, rtol=TOLERANCE, M=factor, callback=lambda _: seen.append(None))
        return middle - begin, time.process_time() - middle, len(seen), x

    return run


def petsc(A: scipy.sparse.csr_array, b: np.ndarray) -> Run:
    """Return PETSc's iteration with its ICC, which stops by the norm that we certify."""
    from petsc4py import PETSc

    matrix = PETSc.Mat().createAIJ(size=A.shape, csr=(A.indptr.astype(np.int32), A.indices.astype(np.int32), A.data))
    x, right = matrix.createVecs()
    right.setArray(b)

    def run() -> tuple[float, float, int, np.ndarray]:
        begin = time.process_time()
        solver = PETSc.KSP().create()
        solver.setOperators(matrix)
        solver.setType("cg")
        solver.getPC().setType("icc")
        solver.setTolerances(rtol=TOLERANCE, max_it=10_000)
        solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
        solver.setUp()
        middle = time.process_time()
        solver.solve(right, x)
        return middle - begin, time.process_time() - middle, solver.getIterationNumber(), x.getArray().copy()

    return run


@SECTIONS.section
def cholesky(options: argparse.Namespace) -> str:
    """Conjugate gradients with IC(0), microseconds an iteration, against PETSc's ICC and ilupp's factor."""
    rows = []
    for case in CASES:
        A = scipy.sparse.csr_array(load(case).matrix)
        A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        ways: dict[str, Run] = {}
        for name, build in (("precond", ours), ("PETSc", petsc), ("SciPy and ilupp", ilupp)):
            try:
                ways[name] = build(A, b)
            except ImportError:
                continue
        runs = [{name: way() for name, way in ways.items()} for _ in range(options.rounds + 1)][1:]
        each = {}
        for name in ways:
            _, _, count, x = runs[0][name]
            assert residual(A, b, x) <= 2 * TOLERANCE, name
            each[name] = statistics.median(1e6 * run[name][1] / count for run in runs)
            setup = statistics.median(1e3 * run[name][0] for run in runs)
            rows.append((
                case, f"{A.shape[0]}", name, f"{count}", f"{setup:.2f}", f"{each[name]:.1f}",
                f"{each[name] / each['precond']:.2f}",
            ))  # fmt: skip
    head = ("matrix", "unknowns", "way", "iterations", "setup, ms", "an iteration, us", "this / precond")
    note = (
        f"Relative residual {TOLERANCE:g}, medians of {options.rounds} rounds; matrices are read before, "
        "checks of right-hand sides and certificates are included."
    )
    return table(head, rows, note)
