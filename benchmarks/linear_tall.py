"""Tall dense least squares, ours and LAPACK's: time and backward error.

Matrices have singular values from one down to ``1 / condition``, geometrically spaced, and normal singular vectors;
right-hand sides are ``A x + r`` with ``||x|| = 1``, ``r`` orthogonal to the range and ``||r|| = 1e-3``. Backward errors
are recomputed for everyone by the estimate of Karlson and Walden from a Householder QR of the matrix, in units of
rounding (2^-53), relative to the norm of the matrix; errors in the matrix and the right-hand side count.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import scipy.linalg
import scipy.sparse.linalg
import torch
from torch import Tensor

import precond
from linear_measure import SECTIONS
from sections import table

CONDITIONS = (1e6, 1e10, 1e12)
RESIDUAL = 1e-3
BASELINE = "torch gels (QR)"
_iterations = 100  # of SciPy's LSQR, which does not converge at these conditions


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to solve ``min ||A x - b||``.

    Attributes:
        name: What it is called in the table.
        solve: From ``A`` and ``b`` to ``x``.
        once: Run in the first round alone, because it takes long.
    """

    name: str
    solve: Callable[[Tensor, Tensor], Tensor]
    once: bool = False


CONTENDERS = (
    Contender(BASELINE, lambda a, b: torch.linalg.lstsq(a, b[:, None], driver="gels").solution[:, 0]),
    Contender("precond.lstsq", lambda a, b: precond.lstsq(a, b).x),
    Contender("precond.lstsq, fossils", lambda a, b: precond.lstsq(a, b, method="fossils").x),
    Contender(
        "precond.lstsq, sketch-precondition, rtol 1e-12",
        lambda a, b: precond.lstsq(a, b, method="sketch-precondition", rtol=1e-12).x,
    ),
    Contender(
        "SciPy gelsd (SVD)", lambda a, b: torch.from_numpy(scipy.linalg.lstsq(a.numpy(), b.numpy())[0]), once=True
    ),
    Contender(
        f"SciPy LSQR, {_iterations} iterations",
        lambda a, b: torch.from_numpy(
            scipy.sparse.linalg.lsqr(a.numpy(), b.numpy(), atol=0, btol=0, conlim=0, iter_lim=_iterations)[0]
        ),
        once=True,
    ),
)


def problem(rows: int, columns: int, condition: float) -> tuple[Tensor, Tensor]:
    """Return ``A`` and ``b``, the same for each call."""
    generator = torch.Generator().manual_seed(0)
    normal = {"generator": generator, "dtype": torch.float64}
    u = torch.linalg.qr(torch.randn(rows, columns, **normal)).Q
    v = torch.linalg.qr(torch.randn(columns, columns, **normal)).Q
    values = condition ** -torch.linspace(0, 1, columns, dtype=torch.float64)
    a = ((u * values) @ v.T).contiguous()
    x, r = torch.randn(columns, **normal), torch.randn(rows, **normal)
    r -= u @ (u.T @ r)
    r -= u @ (u.T @ r)
    return a, a @ (x / x.norm()) + RESIDUAL * r / r.norm()


def backward_error(a: Tensor, b: Tensor, x: Tensor, triangle: Tensor) -> float:
    """Return the relative backward error in units of rounding; ``triangle`` is that of a QR factorization of ``a``."""
    size, r = triangle.norm(), b - a @ x
    theta = size / b.norm()
    weight = theta * r.norm() / (1 + (theta * x.norm()) ** 2).sqrt()
    stacked = torch.cat([triangle, weight * torch.eye(len(triangle), dtype=a.dtype)])
    shifted = torch.linalg.qr(stacked, mode="r").R
    error = torch.linalg.solve_triangular(shifted.T, (a.T @ r)[:, None], upper=False).norm() * weight / r.norm()
    return float(error / size) * 2.0**53


@SECTIONS.section
def tall(options: argparse.Namespace) -> str:
    """Tall dense least squares: seconds as a part of LAPACK's QR, and backward errors in units of rounding."""
    small = problem(3000, 100, 10.0)  # compiles, or loads what was compiled
    for contender in CONTENDERS:
        contender.solve(*small)
    rows = []
    for condition in CONDITIONS:
        a, b = problem(options.rows, options.columns, condition)
        triangle = torch.linalg.qr(a, mode="r").R
        seconds: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
        errors: dict[str, float] = {}
        for number in range(options.rounds):
            for contender in CONTENDERS:
                if number > 0 and contender.once:
                    continue
                begin = time.process_time()
                x = contender.solve(a, b)
                seconds[contender.name].append(time.process_time() - begin)
                errors[contender.name] = backward_error(a, b, x, triangle)
        rows += [_row(condition, name, times, seconds[BASELINE], errors[name]) for name, times in seconds.items()]
    return table(
        ("condition", "method", "time / gels, median", "lowest to highest", "seconds", "backward error, units"),
        rows,
        f"{options.rows:,} x {options.columns}, {options.rounds} rounds (slow ones once).",
    )


def _row(condition: float, name: str, times: list[float], baseline: list[float], error: float) -> tuple[str, ...]:
    ratios = [ours / theirs for ours, theirs in zip(times, baseline, strict=False)]
    return (
        f"{condition:.0e}",
        name,
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{statistics.median(times):.2f}",
        f"{error:.2g}",
    )
