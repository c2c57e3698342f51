"""Claims about linear systems and least squares, in counts of iterations and in errors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import precond
from headline import Finding, headline, iterations, right_hand_side
from precond.krylov import SOR
from precond.preconditioners.nystrom import Nystrom
from precond.problems.load import load


def _spectrum(values: Tensor, seed: int = 0) -> Tensor:
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)).Q
    matrix = q * values @ q.T
    return (matrix + matrix.T) / 2


@headline("chebyshev", "chebyshev-polynomial")
def without_inner_products() -> dict[str, Finding]:
    """Count iterations on the Poisson equation, with Jacobi's preconditioner or a polynomial, against CG."""
    matrix = load("poisson2d:n=32").matrix
    b = right_hand_side(matrix)
    plain = iterations(matrix, b, "cg", "identity")
    alone, poly = iterations(matrix, b, "chebyshev", "jacobi"), iterations(matrix, b, "cg", "chebyshev-polynomial")
    where = f"the 5-point Poisson equation with {matrix.shape[0]} unknowns, relative residual 1e-8"
    return {
        "chebyshev": (f"{where}: {alone} iterations, CG {plain}.", {"iterations": alone, "cg": plain}),
        "chebyshev-polynomial": (
            f"CG on {where}: {poly} iterations of 8 products each, {plain} of one without it.",
            {"iterations": poly, "plain": plain},
        ),
    }


@headline("sor", "richardson")
def stationary() -> dict[str, Finding]:
    """Count sweeps on a Poisson equation: over-relaxed against Gauss-Seidel's, and Richardson's with ILU(0)."""
    side = 24
    matrix = load(f"poisson2d:n={side}").matrix
    b = right_hand_side(matrix)
    best = 2 / (1 + math.sin(math.pi / (side + 1)))
    sweeps = {}
    for omega in (1.0, best):
        result = precond.solve(
            matrix, b, method=SOR(omega=omega), preconditioner="identity", rtol=1e-8, max_iterations=20000
        )
        sweeps[omega] = result.iterations if result.converged else -1
    result = precond.solve(matrix, b, method="richardson", preconditioner="ilu0", rtol=1e-8, max_iterations=20000)
    count = result.iterations if result.converged else -1
    where = f"the 5-point Poisson equation with {matrix.shape[0]} unknowns, relative residual 1e-8"
    text = f"{where}: {sweeps[best]} sweeps with the best omega, {best:.3f}, and {sweeps[1.0]} with 1 (Gauss-Seidel)."
    return {
        "sor": (text, {"sweeps": sweeps[best], "gauss_seidel": sweeps[1.0]}),
        "richardson": (f"{where}, with ILU(0): {count} iterations.", {"iterations": count}),
    }


@headline("block-cg", "deflation", "nystrom", "symmetric-polynomial")
def outlying_eigenvalues() -> dict[str, Finding]:
    """Count iterations of CG on a matrix with a few eigenvalues apart from the others."""
    small = _spectrum(torch.cat([torch.logspace(-4, -3, 6), torch.linspace(1, 2, 294)]).double())
    large = _spectrum(torch.cat([torch.linspace(1, 2, 298), torch.tensor([1e3, 2e3])]).double())
    decaying = _spectrum(torch.logspace(4, -6, 300).double() + 1e-2)
    b = right_hand_side(small)
    findings = {}

    plain = iterations(small, b, "cg", "identity")
    right = torch.randn(300, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result = precond.solve(small, right, method="block-cg", preconditioner="identity", rtol=1e-8)
    count = result.iterations if result.converged else -1
    where = "300 unknowns, six eigenvalues a thousand times smaller than the others"
    text = f"{where}: {count} iterations with 8 right-hand sides, CG {plain} with one."
    findings["block-cg"] = (text, {"iterations": count, "cg": plain})
    grid = load("poisson2d:n=32").matrix
    plain, count = (iterations(grid, right_hand_side(grid), "cg", name) for name in ("identity", "deflation"))
    text = f"the 5-point Poisson equation with {grid.shape[0]} unknowns, eight subdomains: {count} iterations of CG, "
    findings["deflation"] = (f"{text}{plain} without it.", _pair(count, plain))

    plain, count = iterations(large, b, "cg", "identity"), iterations(large, b, "cg", "symmetric-polynomial")
    text = f"300 unknowns, two eigenvalues a thousand times larger than the others: {count} iterations of CG, {plain} "
    findings["symmetric-polynomial"] = (f"{text}without it.", _pair(count, plain))

    plain = iterations(decaying, b, "cg", "identity")
    result = precond.solve(decaying, b, method="cg", preconditioner=Nystrom(mu=1e-2, rank=200), rtol=1e-8)
    count = result.iterations if result.converged else -1
    text = "300 unknowns, eigenvalues decaying from 1e4 to 1e-6, plus 1e-2, rank 200: "
    without = f"{plain} without it" if plain >= 0 else "which does not converge without it"
    findings["nystrom"] = (f"{text}{count} iterations of CG, {without}.", _pair(count, plain))
    return findings


@headline("idr", "lu")
def nonsymmetric() -> dict[str, Finding]:
    """Count iterations on a nonsymmetric system, against BiCGStab."""
    matrix = load("convection-diffusion").matrix
    b = right_hand_side(matrix)
    rival = iterations(matrix, b, "bicgstab", "ilu0")
    where = f"convection-diffusion with {matrix.shape[0]} unknowns, relative residual 1e-8"
    short, direct = iterations(matrix, b, "idr", "ilu0"), iterations(matrix, b, "gmres", "lu")
    text = f"{where}, ILU(0): {short} iterations of one product, BiCGStab {rival} of two."
    return {
        "idr": (text, {"iterations": short, "bicgstab": rival}),
        "lu": (f"GMRES on {where}: {direct} iterations.", {"iterations": direct}),
    }


@headline("gcrodr")
def recycled() -> dict[str, Finding]:
    """Count iterations over a sequence of systems with one matrix, against GMRES that starts anew."""
    matrix = load("convection-diffusion").matrix
    sides = [right_hand_side(matrix).roll(k) for k in range(5)]
    counts = {}
    for method in ("gcrodr", "gmres"):
        sequence = precond.SolveSequence(method=method, preconditioner="jacobi", rtol=1e-8)
        results = [sequence.solve(matrix, b) for b in sides]
        counts[method] = sum(r.iterations for r in results) if all(r.converged for r in results) else -1
    text = f"five systems of convection-diffusion with {matrix.shape[0]} unknowns: {counts['gcrodr']} iterations in "
    text += f"all, GMRES {counts['gmres']}."
    return {"gcrodr": (text, {"iterations": counts["gcrodr"], "gmres": counts["gmres"]})}


@headline("sketch-qr", "sketch-precondition", "spir", "fossils", "iterative-sketching")
def sketches() -> dict[str, Finding]:
    """Solve a tall ill-conditioned problem: errors against LSQR without a preconditioner and Householder's QR."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(4000, 50, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(50, 50, generator=generator, dtype=torch.float64)).Q
    matrix = left * torch.logspace(0, -10, 50, dtype=torch.float64) @ right.T
    exact = torch.ones(50, dtype=torch.float64)
    b = matrix @ exact + 1e-6 * torch.randn(4000, generator=generator, dtype=torch.float64)
    best = _residual(matrix, torch.linalg.lstsq(matrix, b[:, None]).solution[:, 0], b)
    where = "a dense 4000 x 50 problem of condition 1e10"
    findings = {}
    plain = precond.lstsq(matrix, b, method="lsqr", preconditioner="identity", rtol=1e-12, max_iterations=2000)
    sketched = precond.lstsq(matrix, b, method="lsqr", preconditioner="sketch-qr", rtol=1e-12)
    text = f"{where}: LSQR takes {sketched.iterations} iterations; without it {plain.iterations}"
    text += ", and converges." if plain.converged else ", and does not converge."
    findings["sketch-qr"] = (text, _pair(sketched.iterations, plain.iterations))
    for name in ("sketch-precondition", "spir", "fossils", "iterative-sketching"):
        result = precond.lstsq(matrix, b, method=name)
        excess = _residual(matrix, result.x, b) / best - 1
        text = f"{where}: residual {max(excess, 0.0):.0e} above that of Householder's QR, in {result.iterations} "
        findings[name] = (f"{text}iterations.", {"excess": excess, "iterations": result.iterations})
    return findings


@headline("qr")
def orthogonal() -> dict[str, Finding]:
    """Solve a wide ill-conditioned problem, which has many solutions: the norm of ours against that of LAPACK's."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 100, generator=generator, dtype=torch.float64)).Q for n in (100, 400))
    matrix = left * torch.logspace(0, -6, 100, dtype=torch.float64) @ right.T
    b = matrix @ torch.ones(400, dtype=torch.float64)
    factored, plain = (
        precond.lstsq(matrix, b, method="lsqr", preconditioner=name, rtol=1e-10, max_iterations=1000)
        for name in ("qr", "identity")
    )
    least = torch.linalg.lstsq(matrix, b[:, None], driver="gelsd").solution[:, 0]
    excess = float(factored.x.norm() / least.norm()) - 1
    text = f"a dense 100 x 400 problem of condition 1e6: {factored.iterations} iterations, to a solution whose norm is "
    text += f"within {max(abs(excess), 1e-16):.0e} of the least; without it {plain.iterations}"
    text += ", and converges." if plain.converged else ", and does not converge."
    return {"qr": (text, _pair(factored.iterations, plain.iterations) | {"excess": excess})}


def _residual(matrix: Tensor, x: Any, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(b - matrix @ x))


def _pair(count: int, plain: int) -> dict[str, float]:
    return {"iterations": count, "plain": plain}
