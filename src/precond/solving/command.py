"""The command ``precond solve``: a system from Matrix Market files, its solution, and what was certified of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.sparse
import typer
from rich.table import Table
from rich.text import Text

from precond.core import BadInputError, Result
from precond.core.terminal import console
from precond.linear import lstsq
from precond.linear import solve as solve_system
from precond.problems.readers.contents import stem
from precond.problems.readers.matrix_market import read_matrix_market
from precond.solving.files import check_writable, write_vectors
from precond.solving.picture import draw_convergence

SOLVE_EPILOG = """
[bold]Examples[/bold]

  precond solve A.mtx.gz                 [dim]A x = A 1, all is chosen[/dim]

  precond solve A.mtx b.mtx --out x.mtx  [dim]from files, to a file[/dim]

  precond solve A.mtx --method cg --preconditioner ic0 --rtol 1e-12

  precond solve A.mtx --plot             [dim]a picture of the residuals[/dim]

Exit code: 0 when the recomputed residual meets the tolerance, 1 when it does not, 2 for wrong input.
"""


def solve(
    matrix: Annotated[Path, typer.Argument(metavar="A.mtx[.gz]", help="A Matrix Market file.", show_default=False)],
    rhs: Annotated[
        Path | None,
        typer.Argument(
            metavar="[b.mtx[.gz]]", help="Right-hand sides as columns; b = A 1 if left out.", show_default=False
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="Name of an iteration; `precond methods --family krylov`.")] = "auto",
    preconditioner: Annotated[
        str, typer.Option(help="Name of a preconditioner; `precond methods --family incomplete`.")
    ] = "auto",
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the recomputed residual.")] = 1e-8,
    max_iterations: Annotated[
        int | None, typer.Option(help="Limit on iterations; ten times the size, at least 100.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the solution to this file; .gz is compressed.", show_default=False)
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the convergence, to a PNG file beside the solution.")] = (
        False
    ),
) -> None:
    """Solve A x = b, or min ||A x - b|| when A is not square, and show what was done and what was certified."""
    a, _ = read_matrix_market(matrix)
    b, source = _right_hand_side(a, matrix, rhs)
    picture = (out.parent if out is not None else Path()) / f"{stem(matrix)}-convergence.png"
    given = [path for path in (matrix, rhs) if path is not None]
    for path in (out, picture if plot else None):
        if path is not None:
            check_writable(path, given)
    square = a.shape[0] == a.shape[1]
    run = solve_system if square else lstsq
    result = run(a, b, method=method, preconditioner=preconditioner, rtol=rtol, max_iterations=max_iterations)

    files = {}
    if out is not None:
        write_vectors(out, result.x)
        files["solution"] = str(out)
    if plot:
        draw_convergence(result, b, rtol, stem(matrix), picture)
        files["picture"] = str(picture)
    console().print(_table(result, matrix, a, source, files))
    if not result.converged:
        raise typer.Exit(1)


def _right_hand_side(a: scipy.sparse.csr_array, matrix: Path, path: Path | None) -> tuple[np.ndarray, str]:
    """Return ``b``, shape ``[m]`` or ``[m, k]``, and where it is from."""
    if path is None:
        return np.asarray(a @ np.ones(a.shape[1])), "A 1 (no file given)"
    b = read_matrix_market(path)[0].toarray()
    rows = a.shape[0]
    if b.shape[0] != rows and b.shape == (1, rows):
        b = b.T
    if b.shape[0] != rows:
        raise BadInputError(
            f"{path} has {b.shape[0]} rows, {matrix} has {rows}: give one right-hand side of length {rows}, or several "
            "as columns"
        )
    name = str(path) if b.shape[1] == 1 else f"{path}, {b.shape[1]} columns"
    return (b[:, 0] if b.shape[1] == 1 else b), name


def _table(result: Result, path: Path, a: scipy.sparse.csr_array, source: str, files: dict[str, str]) -> Table:
    """Return what was done and what was certified as a table of two columns."""
    work, certificate = result.work, result.certificate
    outcome = Text(result.status.reason, style="green" if result.converged else "red")
    if result.status.remedy:
        outcome.append(f"; {result.status.remedy}", style="default")
    what, _, why = result.method.partition(" (")
    rows: dict[str, Text | str] = {
        "matrix": f"{path}, {a.shape[0]} x {a.shape[1]}, {a.nnz} entries",
        "right-hand side": source,
        "method": what,
        "chosen because": why.replace("); ", "; ").removesuffix(")"),
        "outcome": outcome,
        "certified": f"{certificate.quantity} = {certificate.value:.2e} (asked {certificate.bound:.2e})",
    }
    rows |= {name: f"{value:.2e}" for name, value in certificate.extra.items() if name not in certificate.quantity}
    rows |= {
        "iterations": str(result.iterations),
        "products with A": str(work.matvecs),
        "preconditioner": f"applied {work.applies} times",
        "seconds": ", ".join(f"{kind} {seconds:.3g}" for kind, seconds in sorted(work.seconds.items(), reverse=True)),
    } | files
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows.items():
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


__all__ = ["SOLVE_EPILOG", "solve"]
