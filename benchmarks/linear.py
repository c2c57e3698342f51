"""Times linear systems, and sequences of them, against SciPy, PyAMG and others, in one run.

    python benchmarks/linear.py                          every section, printed
    python benchmarks/linear.py sequence cg --write      some, and into docs/benchmarks.md
    python benchmarks/linear.py matrices --matrices DIR  every Matrix Market file of a folder

A section is a function declared with ``@SECTIONS.section`` in one of the ``linear_*.py``; it gets the options and
returns a table in Markdown. Contestants take turns in rounds and medians are reported; the clock is that of the
processor, on one thread; every residual is recomputed from the matrix in double precision, whatever a method says of
itself.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from linear_measure import SECTIONS

for family in ("many", "petsc", "sequences", "single", "tall", "wrappers"):
    importlib.import_module(f"linear_{family}")  # declares its sections


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=100, help="side of the grid in sequences")
    parser.add_argument("--systems", type=int, default=50, help="systems in a sequence")
    parser.add_argument("--best-rivals", action="store_true", help="in sequences, leave the two slowest rivals out")
    parser.add_argument("--members", type=int, default=256, help="systems in a batch")
    parser.add_argument("--order", type=int, default=512, help="unknowns of a system in a batch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which medians are taken")
    parser.add_argument("--unknowns", type=int, default=250_000, help="unknowns of a system whose multigrid is kept")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[40_000, 250_000, 1_000_000], help="unknowns of elliptic problems"
    )
    parser.add_argument("--rows", type=int, default=200_000, help="rows of tall least squares")
    parser.add_argument("--columns", type=int, default=200, help="columns of tall least squares")
    parser.add_argument("--matrices", type=Path, help="folder of Matrix Market files")
    SECTIONS.run(parser)


if __name__ == "__main__":
    main()
