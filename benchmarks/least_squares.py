"""Measures tall dense least squares, ours and LAPACK's, by time and by backward error.

Matrices have singular values from one down to ``1 / condition``, geometrically spaced, and normal singular vectors;
right-hand sides are ``A x + r`` with ``||x|| = 1``, ``r`` orthogonal to the range and ``||r|| = 1e-3``. All methods
solve the same problem in turn in one process, in float64; with one thread the thread's own time is read, else wall
time. Backward errors are recomputed for everyone by the estimate of Karlson and Walden from a Householder QR of the
matrix, in units of rounding (2^-53), relative to the norm of the matrix; errors in the matrix and the right-hand side
count.

    python benchmarks/least_squares.py                      print the table
    python benchmarks/least_squares.py --rows 20000         a smaller problem
    python benchmarks/least_squares.py --write              write it into docs/benchmarks.md, between the marks
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable

import scipy
import scipy.linalg
import scipy.sparse.linalg
import torch
from torch import Tensor

import pages
import precond

NAME, PROGRAM = "least squares on {device}", "least_squares.py"
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


def measure(rows: int, columns: int, rounds: int, threads: int, conditions: tuple[float, ...] = CONDITIONS) -> str:
    """Measure everything and return it as Markdown."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    small = problem(3000, 100, 10.0)  # compiles, or loads what was compiled
    for contender in CONTENDERS:
        contender.solve(*small)
    lines = []
    for condition in conditions:
        a, b = problem(rows, columns, condition)
        triangle = torch.linalg.qr(a, mode="r").R
        seconds: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
        errors: dict[str, float] = {}
        for number in range(rounds):
            for contender in CONTENDERS:
                if number > 0 and contender.once:
                    continue
                print(
                    f"\r{condition:.0e}, round {number + 1}: {contender.name:<50}", end="", file=sys.stderr, flush=True
                )
                begin = clock()
                x = contender.solve(a, b)
                seconds[contender.name].append(clock() - begin)
                errors[contender.name] = backward_error(a, b, x, triangle)
        lines += [_row(condition, name, times, seconds[BASELINE], errors[name]) for name, times in seconds.items()]
    print(file=sys.stderr)
    about = (
        f"{rows:,} x {columns}, {rounds} rounds (slow ones once); {threads} thread(s) of {platform.machine()}, torch "
        f"{torch.__version__}, SciPy {scipy.__version__}, {datetime.date.today()}."
    )
    head = [
        "| condition | method | time / gels, median | lowest to highest | seconds | backward error, units |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines, "", about])


def _row(condition: float, name: str, times: list[float], baseline: list[float], error: float) -> str:
    ratios = [ours / theirs for ours, theirs in zip(times, baseline, strict=False)]
    return (
        f"| {condition:.0e} | {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
        f"{statistics.median(times):.2f} | {error:.2g} |"
    )


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which all take turns (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor (default 1)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = measure(options.rows, options.columns, options.rounds, options.threads)
    print(text)
    if options.write:
        pages.write(text, NAME.format(device="cpu"), PROGRAM)


if __name__ == "__main__":
    main()
