"""Claims about preconditioners that came later: incomplete factors with fill, pieces, multigrid, Toeplitz matrices."""

from __future__ import annotations

import math

import numpy as np
import torch

import precond
from headline import Finding, headline, iterations, right_hand_side
from precond.operators import ToeplitzOperator
from precond.problems.load import load


@headline("ict", "symmetric-sor")
def with_fill() -> dict[str, Finding]:
    """Count the iterations on the Poisson equation: with fill against without, and of symmetric over-relaxation."""
    matrix = load("poisson2d:n=64").matrix
    b = right_hand_side(matrix)
    plain, filled = (iterations(matrix, b, "cg", name) for name in ("ic0", "ict"))
    where = f"the 5-point Poisson equation with {matrix.shape[0]} unknowns, relative residual 1e-8"
    text = f"CG on {where}: {filled} iterations, {plain} with the factor of the matrix's own pattern."
    small = load("poisson2d:n=24").matrix
    result = precond.solve(small, right_hand_side(small), method="ssor", rtol=1e-8, max_iterations=20000)
    sweeps = result.iterations if result.converged else -1
    where = f"the 5-point Poisson equation with {small.shape[0]} unknowns, relative residual 1e-8"
    return {
        "ict": (text, {"iterations": filled, "ic0": plain}),
        "symmetric-sor": (f"{where}: {sweeps} double sweeps.", {"sweeps": sweeps}),
    }


@headline("milu0", "schwarz")
def convected_again() -> dict[str, Finding]:
    """Count iterations on diffusion with convection as the mesh is refined."""
    sides = (32, 128)
    counts: dict[str, list[int]] = {"ilu0": [], "milu0": [], "schwarz": []}
    for side in sides:
        matrix = load(f"convection-diffusion:n={side}").matrix
        b = right_hand_side(matrix)
        for name, found in counts.items():
            found.append(iterations(matrix, b, "bicgstab", name))
    where = f"BiCGStab on convection-diffusion with {' and '.join(str(side**2) for side in sides)} unknowns"
    findings = {}
    for name in ("milu0", "schwarz"):
        text = f"{where}: {' and '.join(map(str, counts[name]))} iterations, "
        text += f"with ILU(0) {' and '.join(map(str, counts['ilu0']))}."
        values = {
            f"{key}_{side}": float(n) for key in (name, "ilu0") for side, n in zip(sides, counts[key], strict=True)
        }
        findings[name] = (text, values)
    return findings


@headline("pseudo-inverse")
def singular() -> dict[str, Finding]:
    """Solve a consistent singular system."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(60, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    matrix = left @ right.T
    b = matrix @ torch.ones(60, dtype=torch.float64)
    result = precond.solve(matrix, b, method="richardson", preconditioner="pseudo-inverse", rtol=1e-12)
    residual = float((b - matrix @ result.x).norm() / b.norm())
    least = float(result.x.norm() / (torch.linalg.pinv(matrix) @ b).norm())
    text = (
        f"a matrix of order 60 and rank 20: {result.iterations} iterations to a relative residual of {residual:.0e}, "
    )
    text += f"{least:.4f} times the norm of the least solution."
    return {"pseudo-inverse": (text, {"iterations": result.iterations, "residual": residual, "norm": least})}


@headline("amg", "ruge-stuben")
def grids() -> dict[str, Finding]:
    """Count the iterations of CG on the Poisson equation as the mesh is refined."""
    sides = (32, 64, 128, 256)
    counts: dict[str, list[int]] = {"amg": [], "ruge-stuben": [], "ic0": []}
    for side in sides:
        matrix = load(f"poisson2d:n={side}").matrix
        b = right_hand_side(matrix)
        for name, found in counts.items():
            found.append(iterations(matrix, b, "cg", name))
    where = f"CG on 5-point Poisson equations with {sides[0] ** 2} to {sides[-1] ** 2} unknowns, relative residual 1e-8"
    findings = {}
    for name in ("amg", "ruge-stuben"):
        text = (
            f"{where}: {', '.join(map(str, counts[name]))} iterations; with IC(0) {', '.join(map(str, counts['ic0']))}."
        )
        findings[name] = (text, {f"n{side}": float(n) for side, n in zip(sides, counts[name], strict=True)})
    return findings


@headline("circulant", "tau")
def toeplitz() -> dict[str, Finding]:
    """Count the iterations of CG on Toeplitz matrices with a positive symbol and with one that vanishes."""
    n = 1024
    k = np.arange(n)
    positive = ToeplitzOperator(1.0 / (1.0 + k) ** 1.1)
    riesz = _fractional(1.5, n)
    findings = {}
    counts: dict[str, list[int]] = {}
    for name in ("identity", "circulant", "tau"):
        counts[name] = [iterations(a, right_hand_side(a), "cg", name) for a in (positive, riesz)]
    for name in ("circulant", "tau"):
        text = f"CG on Toeplitz matrices of order {n}, one with a positive symbol and a fractional derivative of order "
        text += f"1.5: {counts[name][0]} and {counts[name][1]} iterations, "
        text += f"{counts['identity'][0]} and {counts['identity'][1]} without it."
        values = {"positive": counts[name][0], "fractional": counts[name][1]}
        findings[name] = (text, {key: float(value) for key, value in values.items()})
    return findings


def _fractional(order: float, n: int) -> ToeplitzOperator:
    """Return fractional central differences: coefficients of ``|2 sin(t / 2)|^order``."""
    column = [math.gamma(order + 1) / math.gamma(order / 2 + 1) ** 2]
    for j in range(1, n):
        column.append(column[-1] * (1 - (order + 1) / (order / 2 + j)))
    return ToeplitzOperator(np.array(column))
