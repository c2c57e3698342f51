"""SciPy's solvers by their own names, against SciPy: the same matrix, tolerance and preconditioner on both sides."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg as sl

import precond.scipy
from linear_measure import SECTIONS, inverse, medians, repeated, residual
from precond.preconditioners.ic0 import IC0
from precond.preconditioners.ilu0 import ILU0
from precond.problems.load import load
from sections import table

_tolerance = 1e-6
_turn = 0.01  # seconds: a turn of less would time what the others left behind
_long = 0.5  # seconds of both sides' calls from which on few rounds are enough
_few = 3
_limits = {"cg": 2000, "minres": 2000, "bicgstab": 1000, "gmres": 20, "gcrotmk": 20, "lsqr": 500, "lsmr": 500}


def factors(matrix: Any) -> sl.LinearOperator:
    """Return SciPy's incomplete factorization as a preconditioner."""
    return sl.LinearOperator(matrix.shape, sl.spilu(scipy.sparse.csc_array(matrix)).solve, dtype=float)


def diagonal(matrix: Any) -> scipy.sparse.dia_array:
    """Return the inverse of the diagonal, as users write it."""
    return scipy.sparse.diags_array(1 / matrix.diagonal())


Pair = tuple[str, Any, dict[str, Any], tuple[str, ...]]


def square(side: int) -> Iterator[Pair]:
    """Yield square systems of ``side^2`` unknowns: a name, the matrix, preconditioners, and the solvers for it."""
    laplacian = scipy.sparse.csr_array(load(f"poisson2d:n={side}").matrix)
    yield "Poisson", laplacian, {"none": None, "our IC(0)": inverse(IC0(), laplacian)}, ("cg", "minres")
    scaling = scipy.sparse.diags_array(np.exp(np.random.default_rng(1).uniform(-1, 1, side**2)))
    scaled = scipy.sparse.csr_array(scaling @ laplacian @ scaling)
    yield "Poisson, scaled", scaled, {"Jacobi": diagonal(scaled)}, ("cg", "minres")
    size = scipy.sparse.linalg.norm(laplacian, 1)
    shifted = scipy.sparse.csr_array(laplacian - 0.02 * size * scipy.sparse.eye_array(side**2))
    yield "shifted, indefinite", shifted, {"none": None}, ("minres",)
    winds = scipy.sparse.csr_array(load(f"convection-diffusion:n={side},peclet=50,angle=30").matrix)
    parts = {"none": None, "Jacobi": diagonal(winds), "spilu": factors(winds), "our ILU(0)": inverse(ILU0(), winds)}
    yield "convection-diffusion", winds, parts, ("gmres", "bicgstab", "gcrotmk")


def dense() -> Iterator[Pair]:
    """Yield dense systems."""
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((300, 300)) + 30 * np.eye(300)
    some = {"none": None, "Jacobi": diagonal(matrix)}
    yield "dense", matrix, some, ("gmres", "bicgstab", "gcrotmk")
    yield "dense, definite", matrix @ matrix.T, some, ("cg", "minres")


def tall(rows: int) -> Iterator[Pair]:
    """Yield least-squares problems with ``rows`` rows, sparse and, where it is small, dense."""
    rng = np.random.default_rng(3)
    sparse = scipy.sparse.random_array((rows, rows // 4), density=min(0.1, 40 / rows), rng=rng, format="csr")
    sparse = scipy.sparse.csr_array(sparse + scipy.sparse.eye_array(*sparse.shape))
    yield "sparse, tall", sparse, {"none": None}, ("lsqr", "lsmr")
    if rows <= 2500:
        yield "dense, tall", rng.standard_normal((rows, rows // 10)), {"none": None}, ("lsqr", "lsmr")


def calls(
    solver: str, matrix: Any, b: np.ndarray, M: Any, theirs_rtol: float = _tolerance
) -> dict[str, Callable[[], Any]]:
    """Return SciPy's solver and ours of the same name, as functions of nothing; ``theirs_rtol`` is for SciPy's."""
    if solver in ("lsqr", "lsmr"):
        limit = "iter_lim" if solver == "lsqr" else "maxiter"
        options: dict[str, Any] = {"atol": _tolerance, "btol": _tolerance, limit: _limits[solver]}
    else:
        options = {"rtol": _tolerance, "maxiter": _limits[solver], "M": M}
    theirs, ours = getattr(sl, solver), getattr(precond.scipy, solver)
    tighter = {"rtol": theirs_rtol} if "rtol" in options else {}
    return {"SciPy": lambda: theirs(matrix, b, **options | tighter), "ours": lambda: ours(matrix, b, **options)}


def reaching(solver: str, matrix: Any, b: np.ndarray, M: Any) -> float:
    """Return the tolerance with which SciPy's solver reaches the residual that is asked for.

    That is this tolerance, but for MINRES, which compares the residual with ``||A|| ||x||``: it is lowered until the
    residual is as small as asked, or the limit on iterations is met.
    """
    rtol = _tolerance
    while solver == "minres" and rtol > 1e-14:
        x, info = calls(solver, matrix, b, M, rtol)["SciPy"]()
        if info or residual(matrix, b, x) <= _tolerance:
            break
        rtol /= 1.5
    return rtol


class Products(sl.LinearOperator):
    """A matrix that counts its products and those with its adjoint."""

    def __init__(self, matrix: Any) -> None:
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix, self.count = matrix, 0

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        self.count += 1
        return self.matrix @ v.ravel()

    def _rmatvec(self, v: np.ndarray) -> np.ndarray:
        self.count += 1
        return self.matrix.T @ v.ravel()


def compared(
    solver: str, matrix: Any, M: Any, rounds: int
) -> tuple[dict[str, float], dict[str, int], dict[str, float]]:
    """Return seconds, products and residuals of SciPy's solver and of ours."""
    b = np.random.default_rng(0).standard_normal(matrix.shape[0])
    rtol = reaching(solver, matrix, b, M)
    seen: dict[str, int] = {}
    for label in ("SciPy", "ours"):
        counting = Products(matrix)
        calls(solver, counting, b, M, rtol)[label]()
        seen[label] = counting.count
    contestants = calls(solver, matrix, b, M, rtol)
    residuals = {}
    for label, solve in contestants.items():
        rest = b - matrix @ solve()[0]
        left = matrix.T @ rest if solver in ("lsqr", "lsmr") else rest
        residuals[label] = float(np.linalg.norm(left) / np.linalg.norm(b))
    first = medians(contestants, 1)
    if sum(first.values()) > _long:
        return medians(contestants, min(_few, rounds)), seen, residuals
    turns = max(1, math.ceil(_turn / min(first.values())))
    times = medians({label: repeated(solve, turns) for label, solve in contestants.items()}, rounds)
    return {label: seconds / turns for label, seconds in times.items()}, seen, residuals


@SECTIONS.section
def wrappers(options: argparse.Namespace) -> str:
    """Every solver of `precond.scipy`: seconds of a call, and products with the matrix, on both sides."""
    rows, slower = [], 0
    problems = [*dense(), *(pair for rows_ in (400, 2500, 40_000) for pair in tall(rows_))]
    problems += [pair for side in (10, 50, 100, 200) for pair in square(side)]
    for name, matrix, preconditioners, solvers in problems:
        for label, M in preconditioners.items():
            for solver in solvers:
                times, counts, residuals = compared(solver, matrix, M, options.rounds)
                ratio = times["SciPy"] / times["ours"]
                slower += ratio < 1
                rows.append((
                    solver, name, f"{matrix.shape[-1]}", label,
                    *(f"{1e3 * times[side]:.3g}" for side in ("SciPy", "ours")),
                    *(f"{counts[side]}" for side in ("SciPy", "ours")),
                    *(f"{residuals[side]:.0e}" for side in ("SciPy", "ours")), f"{ratio:.2f}",
                ))  # fmt: skip
    head = (
        "solver", "matrix", "unknowns", "M", "SciPy, ms", "ours, ms", "SciPy's products", "ours",
        "SciPy's residual", "ours", "SciPy / ours",
    )  # fmt: skip
    note = (
        f"Tolerance {_tolerance:g}, or {_limits['gmres']} cycles of GMRES and GCROT, {_limits['bicgstab']} iterations "
        f"of BiCGStab; whole calls, medians of {options.rounds} rounds ({_few}, where a "
        f"round takes more than {_long:g} s); {slower} of {len(rows)} below 1. Residuals are "
        "recomputed (least squares: of the normal equations), and relative to the right-hand side. SciPy's MINRES, "
        "which compares its residual with ||A|| ||x||, is given the tolerance with which it reaches the residual asked "
        "for."
    )
    return table(head, rows, note)
