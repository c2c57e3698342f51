"""Sparse regression beside skglm, and rules of block coordinate descent beside one another: sections of `smooth.py`.

Distances to stationarity are recomputed from the problem for everybody. Seconds are those of the processor on one
thread; a first fit is one in a fresh interpreter with nothing compiled, imports of the library itself apart: this file,
called with what to fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch

import precond
from precond.core import Composite
from precond.losses import LeastSquares, Logistic
from precond.penalties import MCP, SCAD, Zero
from precond.problems.readers.libsvm import read_libsvm
from precond.proximal.descent import BlockDescent
from precond.proximal.partitions import Sorted
from precond.proximal.rules import Cyclic, Fixed, Random, Rule, Variable
from precond.proximal.updates import MatrixBound, ScalarBound
from sections import table

REPEATS = 3


def regression(m: int, n: int, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return standardised columns of an autoregressive process, a response, and the coefficients behind it."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(m, n))
    for j in range(1, n):
        a[:, j] = rho * a[:, j - 1] + np.sqrt(1 - rho**2) * a[:, j]
    a = (a - a.mean(0)) / a.std(0)
    w = np.zeros(n)
    w[rng.choice(n, 30, replace=False)] = rng.normal(size=30)
    signal = a @ w
    return a, signal + signal.std() / 5 * rng.normal(size=m), w


Fit = Callable[[np.ndarray, np.ndarray, str, float], np.ndarray]


def _loss(a: np.ndarray, y: np.ndarray, name: str, lam: float) -> np.ndarray:
    start = torch.zeros(a.shape[1], dtype=torch.float64)
    return precond.minimize(LeastSquares(a, y), start, penalty=_penalty(name, lam)).x.numpy()


def _torch(a: np.ndarray, y: np.ndarray, name: str, lam: float) -> np.ndarray:
    rows, target, start = torch.from_numpy(a), torch.from_numpy(y), torch.zeros(a.shape[1], dtype=torch.float64)
    result = precond.minimize(
        lambda x: (rows @ x - target).square().sum() / (2 * len(target)), start, penalty=_penalty(name, lam)
    )
    return result.x.numpy()


def _accelerated(a: np.ndarray, y: np.ndarray, name: str, lam: float) -> np.ndarray:
    start = torch.zeros(a.shape[1], dtype=torch.float64)
    result = precond.minimize(LeastSquares(a, y), start, penalty=_penalty(name, lam), method="accelerated-gradient")
    return result.x.numpy()


def _skglm(a: np.ndarray, y: np.ndarray, name: str, lam: float) -> np.ndarray:
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Quadratic
    from skglm.penalties import SCAD as TheirSCAD
    from skglm.penalties import MCPenalty
    from skglm.solvers import AndersonCD

    penalty = MCPenalty(lam, 3.0) if name == "MCP" else TheirSCAD(lam, 3.7)
    estimator = GeneralizedLinearEstimator(Quadratic(), penalty, AndersonCD(tol=1e-6, fit_intercept=False))
    return np.asarray(estimator.fit(a, y).coef_)


FITS: dict[str, Fit] = {
    "precond auto (prox-newton), losses.LeastSquares": _loss,
    "precond auto (prox-newton), a torch function": _torch,
    "precond accelerated-gradient, losses.LeastSquares": _accelerated,
    "skglm AndersonCD": _skglm,
}


def _penalty(name: str, lam: float) -> SCAD | MCP:
    return SCAD(lam) if name == "SCAD" else MCP(lam)


def _first(fit: str, name: str, m: int, n: int, rho: float) -> dict[str, float]:
    """Return the processor's seconds of a first fit and the least of some more, in an interpreter of its own."""
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, "NUMBA_CACHE_DIR": empty, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-W", "ignore", __file__, json.dumps([fit, name, m, n, rho])]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(text: str) -> None:
    """Fit once, then some more times, and print what it took and what came out."""
    fit, name, m, n, rho = json.loads(text)
    torch.set_num_threads(1)
    a, y, w = regression(m, n, rho)
    lam = 0.1 * float(np.abs(a.T @ y).max()) / m
    seconds = []
    for _ in range(1 + REPEATS):
        begin = time.process_time()
        x = FITS[fit](a, y, name, lam)
        seconds.append(time.process_time() - begin)
    penalty, at, gradient = _penalty(name, lam), torch.from_numpy(x), torch.from_numpy(a.T @ (a @ x - y) / m)
    print(json.dumps({
        "first": seconds[0], "warm": min(seconds[1:]), "slack": float(penalty.slack(at, gradient).norm()),
        "objective": float(((y - a @ x) ** 2).sum() / (2 * m) + penalty.value(at)), "support": int((x != 0).sum()),
        "found": int(((x != 0) & (w != 0)).sum()),
    }))  # fmt: skip


def penalties(options: argparse.Namespace) -> str:
    """SCAD and MCP: the first fit, later ones, and what came out."""
    m, n = 1000, 5000
    rows = []
    for rho, name in itertools.product((0.5,), ("SCAD", "MCP")):
        for fit in FITS:
            try:
                got = _first(fit, name, m, n, rho)
            except subprocess.CalledProcessError as error:
                rows.append([name, fit, f"skipped: {error.stderr.strip().splitlines()[-1]}", "", "", "", ""])
                continue
            rows.append([
                name, fit, f"{got['first']:.2f}", f"{got['warm']:.3f}", f"{got['objective']:.10f}",
                f"{got['slack']:.1e}", f"{got['support']}, {got['found']}",
            ])  # fmt: skip
    head = [
        "penalty", "method", "first fit, s", "warm, s", "objective", "distance to stationarity", "support, true of it",
    ]  # fmt: skip
    note = (
        f"{m} samples, {n} columns of correlation 0.5, 30 of which matter; a tenth of the largest weight; tolerance "
        f"1e-6. Warm: the least of {REPEATS}."
    )
    return table(head, rows, note)


RULES: dict[str, Rule] = {
    "random, fixed": Random(), "cyclic, fixed": Cyclic(), "GS, fixed": Fixed("gs"), "GSL, fixed": Fixed("gsl"),
    "GSL, fixed and sorted": Fixed("gsl", Sorted()), "GSQ, fixed": Fixed("gsq"), "GS, variable": Variable("gs"),
    "GSL, variable": Variable("gsl"), "GSD, variable": Variable("gsd"), "GSQ, variable": Variable("gsq"),
}  # fmt: skip
UPDATES = {"scalar": ScalarBound(), "matrix": MatrixBound()}
LOOKS = (50, 150, 500)


def blocks(options: argparse.Namespace) -> str:
    """Rules of block coordinate descent: how far the objective is from its minimum after so many updates."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 800)) * (rng.random((400, 800)) < 0.1) * np.exp(rng.normal(size=800))
    y = a @ rng.normal(size=800) + rng.normal(size=400)
    cases: dict[str, Any] = {"least squares, 400 x 800": LeastSquares(scipy.sparse.csr_array(a), y, ridge=1e-3)}
    path = options.libsvm and options.libsvm / "a9a.gz"
    if path and path.is_file():
        features, labels = read_libsvm(path)
        cases["a9a, logistic"] = Logistic(features, labels, ridge=1 / features.shape[0])
    rows = []
    for case, loss in cases.items():
        start = torch.zeros(loss.variables, dtype=torch.float64)
        best = float(loss(precond.minimize(loss, start, tol=1e-9).x))
        level = float(loss(start)) - best
        for (rule_name, rule), (update_name, update) in itertools.product(RULES.items(), UPDATES.items()):
            running = BlockDescent(rule, update, 5, every=1).iterate(Composite(loss.objective(), Zero()), start, 0.0)
            gaps = [
                (float(standing.spot().loss) - best) / level
                for count, standing in zip(range(max(LOOKS) + 1), running, strict=False) if count in LOOKS
            ]  # fmt: skip
            rows.append([case, rule_name, update_name, *(f"{gap:.1e}" for gap in gaps)])
    head = ["problem", "rule", "update", *(f"after {look} updates" for look in LOOKS)]
    return table(head, rows, "Blocks of 5 variables; distance to the least objective, relative to that of the start.")


if __name__ == "__main__":
    one(sys.argv[1])
