"""``logistic``: regularized logistic regression, a smooth convex problem with real conditioning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.nn import functional

from precond.core import Budget, Metric, require
from precond.problems.base import Smooth, SmoothInstance
from precond.problems.readers.contents import fail, stem
from precond.problems.readers.libsvm import line_of_sample, looks_like_libsvm, read_libsvm
from precond.problems.registry import problem
from precond.problems.sparse_product import constant_matrix

_SPREAD = 0.01


def recognises(path: Path, head: bytes) -> bool:
    """Whether a file starts with lines of the LIBSVM format."""
    return looks_like_libsvm(head)


@problem(
    purpose="Fit l2-regularized logistic regression: scikit-learn's breast cancer data, or a LIBSVM file.",
    example="logistic, logistic:FILE.gz",
    recognises=recognises,
)
def logistic(path: str | Path | None = None) -> Smooth:
    r"""Return ``min_w 1/n sum_i log(1 + exp(-y_i x_i . w)) + 1/(2n) ||w||^2`` in float64.

    Without a path: scikit-learn's breast cancer data (W. Street, W. Wolberg, O. Mangasarian, UCI), 569 samples with 30
    features, standardised. With one: a LIBSVM file, its features as they are, kept sparse. A constant feature is
    appended in both, regularized like the others. The smaller of the two labels is ``y = -1``, the larger ``y = +1``.
    The seed draws the starting point, normal with standard deviation 0.01.

    Args:
        path: A LIBSVM file with two different labels, gzipped or not.

    Returns:
        The problem; its metric is ``||g|| / ||g(x0)||``, the gradient norm relative to that of the starting point.
    """
    if path is not None:
        features, labels = read_libsvm(path)
        return _regression(f"logistic:{stem(path)}", stem(path), features, _signs(path, labels))
    data = require("sklearn.datasets").load_breast_cancer()
    dense = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    signs = np.where(data.target > 0, 1.0, -1.0)
    return _regression("logistic", "scikit-learn's breast cancer data", scipy.sparse.csr_array(dense), signs)


def _signs(path: str | Path, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    classes = list(dict.fromkeys(labels.tolist()))
    if len(classes) == 1:
        fail(path, f"one class only (label {classes[0]:g})", "give a file with two different labels")
    if len(classes) > 2:
        line = line_of_sample(path, int(np.argmax(labels == classes[2])))
        shown = ", ".join(f"{label:g}" for label in classes[:6]) + (", ..." if len(classes) > 6 else "")
        fail(path, f"more than two classes ({shown})", "keep the samples of two labels", line)
    return np.where(labels == max(classes), 1.0, -1.0)


def _regression(name: str, source: str, features: scipy.sparse.csr_array, signs: np.ndarray[Any, Any]) -> Smooth:
    samples = features.shape[0]
    constant = scipy.sparse.csr_array(np.ones((samples, 1)))
    matrix = scipy.sparse.csr_array(scipy.sparse.hstack([features, constant], format="csr"))
    unknowns = matrix.shape[1]

    def build(seed: int, device: torch.device) -> SmoothInstance:
        a = constant_matrix(matrix, device)
        y = torch.from_numpy(signs).to(device)

        def fun(w: Tensor) -> Tensor:
            margins = y * (a @ w)
            return -functional.logsigmoid(margins).mean() + w.dot(w) / (2 * samples)

        generator = torch.Generator().manual_seed(seed)
        x0 = (_SPREAD * torch.randn(unknowns, generator=generator, dtype=torch.float64)).to(device)
        start = torch.func.grad(fun)(x0).norm().item()

        def measure(x: Tensor, loss: float, gradient: Tensor) -> float:
            return gradient.norm().item() / start

        return SmoothInstance(fun, x0, measure)

    return Smooth(
        name=name,
        description=f"Logistic regression with l2 term 1/n on {source}: {samples} samples, {unknowns} unknowns",
        metric=Metric("relative gradient norm", log=True),
        target=1e-8,
        horizon=Budget(steps=500),
        build=build,
    )
