"""Regularized logistic and softmax regression: minimizers of smooth functions beside SciPy, scikit-learn and torch."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import torch
from torch.nn import functional

import precond
from sections import table

Array = np.ndarray[Any, Any]
Run = Callable[[], tuple[Array, str]]
HEAD = ["data", "method", "seconds", "gradient norm, recomputed", "as asked", "work"]
NOTE = (
    "Tolerance 1e-8 on the Euclidean norm of the gradient, as far as a method lets one ask for it. Seconds of the "
    "processor, medians of interleaved runs."
)


def logistic(options: argparse.Namespace) -> str:
    """Logistic regression with ``lambda = 1/n`` to a gradient of 1e-8: seconds, work, and the norm that was reached."""
    rows = []
    for title, matrix, labels in _data(options.libsvm, ["breast cancer"], lambda classes: classes == 2):
        rows += _contest(title, *_logistic(matrix, np.where(labels == labels.max(), 1.0, -1.0)))
    return table(HEAD, rows, NOTE)


def softmax(options: argparse.Namespace) -> str:
    """Softmax regression of several classes with ``lambda = 1/n`` to a gradient of 1e-8, as for logistic regression."""
    rows = []
    for title, matrix, labels in _data(options.libsvm, ["iris", "wine", "digits"], lambda classes: classes > 2):
        rows += _contest(title, *_softmax(matrix, np.unique(labels, return_inverse=True)[1]))
    return table(HEAD, rows, NOTE)


def _data(folder: Path | None, bundled: list[str], wanted: Callable[[int], bool]) -> Iterator[tuple[str, Array, Array]]:
    """Yield title, rows and labels of scikit-learn's own sets, standardized, and of the LIBSVM files of a folder."""
    from sklearn import datasets

    for title in bundled:
        matrix, labels = getattr(datasets, f"load_{title.replace(' ', '_')}")(return_X_y=True)
        spread = matrix.std(0)
        yield title, (matrix - matrix.mean(0)) / np.where(spread > 0, spread, 1), labels
    for path in sorted(folder.glob("*")) if folder else []:
        if "README" in path.name:
            continue
        sparse, labels = datasets.load_svmlight_file(str(path))
        if wanted(len(np.unique(labels))):
            yield path.name.removesuffix(".gz"), sparse.toarray(), labels


def _contest(title: str, runs: dict[str, Run], gradient: Callable[[Array], Array]) -> list[list[str]]:
    """Run everyone in turn, several times, and return the rows of the table."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    answers: dict[str, tuple[Array, str]] = {}
    repeats = 8
    while repeats:
        for name, run in runs.items():
            begin = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answers[name] = run()
            seconds[name].append(time.process_time() - begin)
        repeats = min(repeats - 1, 2 if sum(each[-1] for each in seconds.values()) > 5 else 8)
    rows = []
    for name, (x, work) in answers.items():
        norm = float(np.linalg.norm(gradient(x)))
        middle = statistics.median(seconds[name][1:])  # the first warms everything up
        rows.append([title, name, f"{middle:.4f}", f"{norm:.1e}", "yes" if norm <= 1e-8 else "no", work])
    return rows


def _ours(fun: Any, n: int, method: str) -> tuple[Array, str]:
    result = precond.minimize(fun, torch.zeros(n, dtype=torch.float64), method=method, tol=1e-8)
    return result.x.numpy(), f"{result.work.gradients} gradients, {result.work.hvps} products"


def _scipy(value: Any, gradient: Any, product: Any, n: int, method: str) -> tuple[Array, str]:
    more: dict[str, Any] = {"hessp": product, "options": {"gtol": 1e-8, "maxiter": 5000}}
    if method == "L-BFGS-B":
        more = {"options": {"ftol": 0.0, "maxfun": 50000, "maxiter": 50000, "gtol": 1e-9}}
    elif method == "Newton-CG":
        more["options"] = {"xtol": 1e-12, "maxiter": 1000}
    answer = scipy.optimize.minimize(value, np.zeros(n), jac=gradient, method=method, **more)
    return answer.x, f"{answer.njev} gradients" + (f", {answer.nhev} products" if "nhev" in answer else "")


def _sklearn(matrix: Array, labels: Array, solver: str) -> tuple[Array, str]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, fit_intercept=False, solver=solver, tol=1e-8, max_iter=5000)
    return model.fit(matrix, labels).coef_.T.reshape(-1), ""


def _torch_lbfgs(loss: Callable[[torch.Tensor], torch.Tensor], n: int) -> tuple[Array, str]:
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=2000, tolerance_grad=1e-9, tolerance_change=0.0, history_size=10, line_search_fn="strong_wolfe"
    )
    evaluations = [0]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        evaluations[0] += 1
        value = loss(x)
        value.backward()
        return value

    optimizer.step(closure)
    return x.detach().numpy(), f"{evaluations[0]} gradients"


def _logistic(matrix: Array, labels: Array) -> tuple[dict[str, Run], Callable[[Array], Array]]:
    m, n = matrix.shape
    features, signs = torch.from_numpy(matrix), torch.from_numpy(labels)
    declared = precond.losses.Logistic(features, signs, ridge=1 / m)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return functional.softplus(-signs * (features @ w)).mean() + (w @ w) / (2 * m)

    def value(w: Array) -> float:
        return float(np.logaddexp(0, -labels * (matrix @ w)).mean() + w @ w / (2 * m))

    def gradient(w: Array) -> Array:
        return matrix.T @ (-labels * scipy.special.expit(-labels * (matrix @ w))) / m + w / m

    def product(w: Array, p: Array) -> Array:
        s = scipy.special.expit(matrix @ w)
        return matrix.T @ (s * (1 - s) * (matrix @ p)) / m + p / m

    return _runs(matrix, labels, n, loss, declared, value, gradient, product), gradient


def _softmax(matrix: Array, labels: Array) -> tuple[dict[str, Run], Callable[[Array], Array]]:
    m, d = matrix.shape
    k = int(labels.max()) + 1
    features, classes = torch.from_numpy(matrix), torch.from_numpy(labels)
    ones = np.eye(k)[labels]
    declared = precond.losses.Softmax(features, classes, ridge=1 / m)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(features @ w.view(d, k), classes) + (w @ w) / (2 * m)

    def value(w: Array) -> float:
        z = matrix @ w.reshape(d, k)
        return float((scipy.special.logsumexp(z, axis=1) - z[np.arange(m), labels]).mean() + w @ w / (2 * m))

    def gradient(w: Array) -> Array:
        p = scipy.special.softmax(matrix @ w.reshape(d, k), axis=1)
        return (matrix.T @ (p - ones)).reshape(-1) / m + w / m

    def product(w: Array, v: Array) -> Array:
        p = scipy.special.softmax(matrix @ w.reshape(d, k), axis=1)
        u = p * (matrix @ v.reshape(d, k))
        return (matrix.T @ (u - p * u.sum(1, keepdims=True))).reshape(-1) / m + v / m

    return _runs(matrix, labels, d * k, loss, declared, value, gradient, product), gradient


def _runs(
    matrix: Array, labels: Array, n: int, loss: Any, declared: Any, value: Any, gradient: Any, product: Any
) -> dict[str, Run]:
    """Return everyone by name."""

    def given() -> tuple[Array, str]:
        result = precond.minimize(value, np.zeros(n), jac=gradient, hessp=product, method="newton-cg", tol=1e-8)
        return result.x, f"{result.work.gradients} gradients, {result.work.hvps} products"

    runs: dict[str, Run] = {
        "precond auto": lambda: _ours(loss, n, "auto"),
        "precond auto, precond.losses": lambda: _ours(declared, n, "auto"),
    }
    for ours in ("newton-cg", "lbfgs"):
        runs[f"precond {ours}"] = lambda ours=ours: _ours(loss, n, ours)
    runs["precond newton-cg, NumPy functions"] = given
    for theirs in ("L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov"):
        runs[f"SciPy {theirs}"] = lambda theirs=theirs: _scipy(value, gradient, product, n, theirs)
    for solver in ("lbfgs", "newton-cholesky"):
        runs[f"scikit-learn {solver}"] = lambda solver=solver: _sklearn(matrix, labels, solver)
    runs["torch.optim.LBFGS"] = lambda: _torch_lbfgs(loss, n)
    return runs
