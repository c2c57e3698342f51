"""Compares smooth, least-squares, sparse and constrained minimization with SciPy, scikit-learn and others, in one run.

    python benchmarks/smooth.py                                every section, printed
    python benchmarks/smooth.py constrained --write            some, and into docs/benchmarks.md
    python benchmarks/smooth.py control regression --libsvm DIR
    python benchmarks/smooth.py nist --nist DIR                NIST's nonlinear regressions in a folder
    python benchmarks/smooth.py logistic softmax --libsvm DIR  every LIBSVM file of a folder
    python benchmarks/smooth.py penalties blocks               sparse regression, and rules of block descent

What counts as solved is recomputed from the problem, whatever a method says of itself. Seconds are those of the
processor on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import torch

import constrained
import constrained_large
import normalized
import precond
import regressions
import sparse
from precond.problems.readers.nist import read_nist
from sections import NoData, Sections, table

SECTIONS = Sections("smooth.py", "smooth")


# ---- constraints

for _section in (
    constrained.constrained, constrained.control, constrained.regression, constrained.sketches, constrained_large.large,
):  # fmt: skip
    SECTIONS.section(_section)


# ---- regressions

for _section in (regressions.logistic, regressions.softmax, normalized.gns):
    SECTIONS.section(_section)


# ---- sparse regression

for _section in (sparse.penalties, sparse.blocks):
    SECTIONS.section(_section)


# ---- least squares


def _digits(found: np.ndarray, certified: np.ndarray) -> float:
    error = np.abs(found - certified) / np.where(certified == 0, 1, np.abs(certified))
    return float(np.clip(-np.log10(np.maximum(error.max(), 1e-300)), 0, 11))


@SECTIONS.section
def nist(options: argparse.Namespace) -> str:
    """NIST's nonlinear regressions from both starts at default settings: digits of the certified parameters."""
    files = sorted(options.nist.glob("*.dat*")) if options.nist else []
    if not files:
        raise NoData("the section nist needs --nist DIR, a folder of NIST StRD files (itl.nist.gov/div898/strd/nls)")
    tallies: dict[str, list[tuple[float, bool]]] = {}
    for path in files:
        regression = read_nist(path)
        data = {name: torch.from_numpy(column) for name, column in regression.data.items()}
        observed = torch.as_tensor(regression.left(data))

        def residual(b: Any, regression: Any = regression, data: Any = data, observed: Any = observed) -> Any:
            values = dict(zip(regression.parameters, torch.as_tensor(b).unbind(), strict=True))
            return observed - regression.right({**data, **values})

        for start in regression.starts:
            for name, digits, claims in _fits(residual, np.array(start, dtype=float), regression.certified):
                tallies.setdefault(name, []).append((digits, claims))
    rows = []
    for name, found in tallies.items():
        digits = [d for d, _ in found]
        good = sum(d >= 6 for d in digits)
        wrong = sum(claims and d < 4 for d, claims in found)
        rows.append(
            [name, f"{good} of {len(found)}", f"{min(digits):.1f}", f"{statistics.median(digits):.1f}", str(wrong)]
        )
    head = ["method", "at least 6 digits", "fewest", "median", "successes claimed with fewer than 4"]
    return table(head, rows, f"{len(files)} data sets, both starting points, default settings.")


def _fits(residual: Callable[[Any], Any], start: np.ndarray, certified: np.ndarray) -> list[tuple[str, float, bool]]:
    ours = precond.least_squares(residual, torch.from_numpy(start))
    without = precond.least_squares(lambda b: residual(b).numpy(), start)
    answers = [
        ("precond, Jacobian by autograd", _digits(ours.x.numpy(), certified), ours.converged),
        ("precond, Jacobian by differences", _digits(without.x, certified), without.converged),
    ]
    for method in ("trf", "lm", "dogbox"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found = scipy.optimize.least_squares(lambda b: residual(b).numpy(), start, method=method)
                answers.append((f"SciPy {method}", _digits(found.x, certified), bool(found.success)))
            except (ValueError, np.linalg.LinAlgError):  # a rival that raises has no digits
                answers.append((f"SciPy {method}", 0.0, False))
    return answers


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--nist", type=Path, help="folder of NIST StRD files")
    parser.add_argument("--libsvm", type=Path, help="folder of LIBSVM files")
    SECTIONS.run(parser)


if __name__ == "__main__":
    main()
