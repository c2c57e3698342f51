"""Compares smooth, least-squares and constrained minimization with SciPy and scikit-learn, in one run.

    python benchmarks/smooth.py                                every section, printed
    python benchmarks/smooth.py constrained --write            some, and into docs/benchmarks.md
    python benchmarks/smooth.py control regression --libsvm DIR
    python benchmarks/smooth.py nist --nist DIR                NIST's nonlinear regressions in a folder
    python benchmarks/smooth.py logistic --libsvm DIR          every LIBSVM file of a folder

What counts as solved is recomputed from the problem, whatever a method says of itself. Seconds are those of the
processor on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import torch

import constrained
import constrained_large
import precond
from precond.problems.readers.nist import read_nist
from sections import Sections, table

SECTIONS = Sections("smooth.py", "smooth")


# ---- constraints

for _section in (
    constrained.constrained, constrained.control, constrained.regression, constrained.sketches, constrained_large.large,
):  # fmt: skip
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
        raise SystemExit(
            "the section nist needs --nist DIR, a folder of NIST StRD files (itl.nist.gov/div898/strd/nls)"
        )
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


# ---- logistic regression


def _libsvm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_svmlight_file

    matrix, labels = load_svmlight_file(str(path))
    return matrix.toarray(), np.where(labels == labels.max(), 1.0, -1.0)


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    matrix, labels = load_breast_cancer(return_X_y=True)
    return (matrix - matrix.mean(0)) / matrix.std(0), np.where(labels == 1, 1.0, -1.0)


@SECTIONS.section
def logistic(options: argparse.Namespace) -> str:
    """Logistic regression with ``lambda = 1/n`` to a gradient of 1e-8: seconds, work, and the norm that was reached."""
    sets = {"breast cancer": _breast_cancer()}
    _regressions(*sets["breast cancer"])  # warms everything up
    for path in sorted(options.libsvm.glob("*")) if options.libsvm else []:
        if "README" not in path.name:
            sets[path.name.removesuffix(".gz")] = _libsvm(path)
    rows = []
    for title, (matrix, labels) in sets.items():
        for name, seconds, norm, work in _regressions(matrix, labels):
            rows.append([title, name, f"{seconds:.3f}", f"{norm:.1e}", "yes" if norm <= 1e-8 else "no", work])
    head = ["data", "method", "seconds", "gradient norm, recomputed", "as asked", "work"]
    return table(
        head, rows, "Tolerance 1e-8 on the Euclidean norm of the gradient, as far as a method lets one ask for it."
    )


def _regressions(matrix: np.ndarray, labels: np.ndarray) -> list[tuple[str, float, float, str]]:
    n, d = matrix.shape
    features, signs = torch.from_numpy(matrix), torch.from_numpy(labels)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-signs * (features @ w)).mean() + (w @ w) / (2 * n)

    def value(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -labels * (matrix @ w)).mean() + w @ w / (2 * n))

    def gradient(w: np.ndarray) -> np.ndarray:
        return matrix.T @ (-labels / (1 + np.exp(labels * (matrix @ w)))) / n + w / n

    def product(w: np.ndarray, p: np.ndarray) -> np.ndarray:
        s = 1 / (1 + np.exp(-matrix @ w))
        return matrix.T @ (s * (1 - s) * (matrix @ p)) / n + p / n

    zero = np.zeros(d)
    found = []
    for method in ("auto", "newton-cg", "lbfgs", "gradient-normalized"):
        begin = time.process_time()
        result = precond.minimize(loss, torch.zeros(d, dtype=torch.float64), method=method, tol=1e-8)
        seconds = time.process_time() - begin
        work = f"{result.work.gradients} gradients, {result.work.hvps} products"
        found.append((f"precond {method}", seconds, float(np.linalg.norm(gradient(result.x.numpy()))), work))
    begin = time.process_time()
    result = precond.minimize(value, zero, jac=gradient, hessp=product, method="newton-cg", tol=1e-8)
    seconds, work = time.process_time() - begin, f"{result.work.gradients} gradients, {result.work.hvps} products"
    found.append(("precond newton-cg, NumPy functions", seconds, float(np.linalg.norm(gradient(result.x))), work))
    for method in ("L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov"):
        more: dict[str, Any] = {"options": {"gtol": 1e-8, "maxiter": 5000}}
        if method == "L-BFGS-B":
            more["options"] |= {"ftol": 0.0, "maxfun": 50000, "gtol": 1e-9}
        elif method == "Newton-CG":
            more = {"options": {"xtol": 1e-12, "maxiter": 1000}}
        more |= {} if method == "L-BFGS-B" else {"hessp": product}
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = scipy.optimize.minimize(value, zero, jac=gradient, method=method, **more)
        work = f"{answer.njev} gradients" + (f", {answer.nhev} products" if "nhev" in answer else "")
        found.append((f"SciPy {method}", time.process_time() - begin, float(np.linalg.norm(gradient(answer.x))), work))
    from sklearn.linear_model import LogisticRegression

    for solver in ("lbfgs", "newton-cholesky"):
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=1.0, fit_intercept=False, solver=solver, tol=1e-8, max_iter=5000)
            model.fit(matrix, labels)
        seconds = time.process_time() - begin
        found.append((f"scikit-learn {solver}", seconds, float(np.linalg.norm(gradient(model.coef_[0]))), ""))
    return found


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
