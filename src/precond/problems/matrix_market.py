"""``matrix``: a linear system, or a least-squares problem, with a matrix from a Matrix Market file."""

from __future__ import annotations

from pathlib import Path

from precond.problems.base import LeastSquares, LinearSystem
from precond.problems.readers.contents import stem
from precond.problems.readers.matrix_market import BANNER, read_matrix_market
from precond.problems.registry import problem


def recognises(path: Path, head: bytes) -> bool:
    """Whether ``path`` is a Matrix Market file, by its suffix or its first bytes."""
    return path.name.removesuffix(".gz").endswith(".mtx") or head[: len(BANNER)].lower() == BANNER.lower()


@problem(
    name="matrix",
    purpose="Solve A x = b, or min ||A x - b|| when A is not square, with A from a Matrix Market file.",
    example="matrix:FILE.mtx.gz",
    recognises=recognises,
)
def matrix_market(path: str | Path) -> LinearSystem | LeastSquares:
    """Return the problem with the matrix of a file and a right-hand side drawn from the seed.

    A square matrix makes a linear system, any other a least-squares problem. Whether the matrix is symmetric comes
    from the file's first line, or is left to the entries; whether it is definite is not known.

    Args:
        path: A Matrix Market file, gzipped or not; real, complex or pattern (ones).

    Returns:
        The problem.
    """
    matrix, header = read_matrix_market(path)
    rows, columns = matrix.shape
    name = f"matrix:{stem(path)}"
    entries = f"{stem(path)}, {rows} x {columns} with {matrix.nnz} entries"
    if rows != columns:
        return LeastSquares(name, f"Least squares with {entries}", matrix)
    hermitian = header.symmetry == "hermitian" or (header.symmetry == "symmetric" and header.field != "complex")
    form = header.symmetry if header.symmetry != "general" else "no symmetry declared"
    return LinearSystem(
        name, f"Linear system with {entries}, {form}", matrix, symmetric=True if hermitian else None
    )  # fmt: skip
