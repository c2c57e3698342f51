"""Claims about penalties, blocks and fixed points, in counts of gradients and evaluations."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor

import precond
from headline import HEADLINES, Finding, headline
from precond.losses import LeastSquares
from precond.penalties import L1, SCAD
from precond.recipes.block_descent import block_descent
from precond.recipes.fixed_point import anderson, halpern, paired, picard
from precond.splittings import ADMM, ConvexProgram


def _regression(samples: int = 100, columns: int = 300, nonzeros: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(samples, columns, generator=generator, dtype=torch.float64)
    truth = torch.zeros(columns, dtype=torch.float64)
    truth[:nonzeros] = torch.randn(nonzeros, generator=generator, dtype=torch.float64)
    return a, a @ truth + 0.1 * torch.randn(samples, generator=generator, dtype=torch.float64)


@headline("accelerated-gradient", "coordinate-descent", "fista", "prox-newton", "proximal-gradient")
def regression() -> dict[str, Finding]:
    """Fit a linear model with an l1 penalty, one with SCAD where that is the claim, and count gradients."""
    a, y = _regression()
    loss, start = LeastSquares(a, y), torch.zeros(a.shape[1], dtype=torch.float64)
    options: dict[str, Any] = {"tol": 1e-6, "max_iterations": 50000}
    where = f"least squares on {a.shape[0]} rows and {a.shape[1]} columns"
    gradients: dict[tuple[str, str], int] = {}
    for name, (kind, penalty) in itertools.product(
        (name for name, measure in HEADLINES.items() if measure is regression),
        {"l1": L1(0.05), "SCAD": SCAD(0.05, a=3.7)}.items(),
    ):
        result = precond.minimize(loss, start, penalty=penalty, method=name, **options)
        gradients[name, kind] = result.work.gradients if result.converged else -1
    findings = {}
    for name in dict.fromkeys(name for name, _ in gradients):
        counts = {kind: gradients[name, kind] for kind in ("l1", "SCAD")}
        text = f"{where}, to 1e-6: {counts['l1']} gradients with an l1 penalty, {counts['SCAD']} with SCAD"
        plain = {kind: gradients["proximal-gradient", kind] for kind in counts}
        text += "" if name == "proximal-gradient" else f"; proximal gradients {plain['l1']} and {plain['SCAD']}"
        findings[name] = (f"{text}.", {kind.lower(): float(count) for kind, count in counts.items()})
    return findings


@headline("block-descent")
def blocks() -> dict[str, Finding]:
    """Minimize least squares by blocks of five variables: random, fixed greedy and variable greedy ones."""
    a, y = _regression(400, 200)
    loss, start = LeastSquares(a, y), torch.zeros(a.shape[1], dtype=torch.float64)
    kinds = {
        "random blocks": block_descent(rule="random", update="scalar", variable=False, size=5),
        "random blocks with matrix updates": block_descent(rule="random", variable=False, size=5),
        "greedy variable blocks with matrix updates": block_descent(rule="gsd", size=5),
    }
    counts = {}
    for kind, method in kinds.items():
        each = dataclasses.replace(method, every=1)
        result = precond.minimize(loss, start, penalty=L1(0.0), method=each, tol=1e-6, max_iterations=200000)
        counts[kind] = result.iterations if result.converged else -1
    text = f"least squares in {a.shape[1]} variables by blocks of five, to 1e-6: "
    text += ", ".join(f"{count} updates of {kind}" for kind, count in counts.items())
    return {"block-descent": (f"{text}.", {kind.replace(" ", "_"): float(n) for kind, n in counts.items()})}


@headline("anderson", "halpern", "paired", "picard")
def fixed_points() -> dict[str, Finding]:
    """Count evaluations of ADMM's map until a quadratic program is solved, and until one is proven infeasible."""
    generator = torch.Generator().manual_seed(0)
    n, m = 20, 30
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    rows = torch.randn(m, n, generator=generator, dtype=torch.float64)
    inside = rows @ torch.randn(n, generator=generator, dtype=torch.float64)
    cost = torch.randn(n, generator=generator, dtype=torch.float64)
    feasible = ConvexProgram((root @ root.T / n).numpy(), cost.numpy(), rows.numpy(), (inside - 1).numpy(),
                             (inside + 0.1).numpy())  # fmt: skip
    last = torch.cat([rows, rows.sum(0, keepdim=True)])
    lower = torch.cat([inside - 1, inside.sum(0, keepdim=True) + m])
    upper = torch.cat([inside + 0.1, lower[-1:] + 1])
    impossible = ConvexProgram(None, cost.numpy(), last.numpy(), lower.numpy(), upper.numpy())
    findings = {}
    for name, method in {"anderson": anderson(), "halpern": halpern(), "paired": paired(), "picard": picard()}.items():
        solved, proven = (
            precond.fixed_point(ADMM(program), method=method, tol=1e-6, max_iterations=20000)
            for program in (feasible, impossible)
        )
        text = f"ADMM's map of a quadratic program of {n} variables and {m} rows: "
        text += f"{solved.iterations} evaluations to 1e-6" if solved.converged else f"{solved.status.name} at the limit"
        text += f"; of a program without a feasible point: {proven.status.name} after {proven.iterations}."
        values = {"solved": solved.iterations if solved.converged else -1, "proven": proven.iterations}
        findings[name] = (text, {key: float(value) for key, value in values.items()})
    return findings
