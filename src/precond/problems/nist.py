"""``nist``: nonlinear least squares with certified answers."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from precond.core import Budget, Metric
from precond.problems.base import Smooth, SmoothInstance
from precond.problems.readers.nist import Regression, looks_like_nist, read_nist
from precond.problems.registry import problem


def recognises(path: Path, head: bytes) -> bool:
    """Whether a file starts as NIST's do."""
    return looks_like_nist(head)


@problem(
    purpose="Fit a nonlinear regression of NIST StRD; the files are at itl.nist.gov/div898/strd/nls.",
    example="nist:Thurber.dat.gz",
    recognises=recognises,
)
def nist(path: str | Path) -> Smooth:
    """Return ``min_b 1/2 sum_i (y_i - f(x_i; b))^2`` in float64, with the model and data of a NIST StRD file.

    Even seeds start from the file's first starting point, odd ones from its second. The parameters are those of the
    file, not rescaled. An equivalent minimum with exchanged terms or other signs does not count, as in NIST's tests.

    Args:
        path: A NIST StRD nonlinear regression file, gzipped or not.

    Returns:
        The problem; its metric is the largest relative error of a parameter against its certified value (absolute
        where that is zero), its target four digits.
    """
    regression = read_nist(path)
    observations = len(regression.data["y"])
    return Smooth(
        name=f"nist:{regression.name}",
        description=f"NIST StRD {regression.name}: {regression.formula}; {observations} observations, "
        f"{len(regression.parameters)} parameters",
        metric=Metric("relative parameter error", log=True),
        target=1e-4,
        horizon=Budget(steps=500),
        build=functools.partial(_build, regression),
    )


def _build(regression: Regression, seed: int, device: torch.device) -> SmoothInstance:
    data = {name: torch.from_numpy(column).to(device) for name, column in regression.data.items()}
    certified = torch.from_numpy(regression.certified).to(device)
    scale = torch.where(certified == 0, 1.0, certified.abs())
    observed = torch.as_tensor(regression.left(data))

    def residual(b: Tensor) -> Tensor:
        values = dict(zip(regression.parameters, b.unbind(), strict=True))
        return observed - regression.right({**data, **values})

    def fun(b: Tensor) -> Tensor:
        return residual(b).square().sum() / 2

    def measure(x: Tensor, loss: float, gradient: Tensor) -> float:
        return ((x - certified).abs() / scale).max().item()

    x0 = torch.from_numpy(regression.starts[seed % 2].copy()).to(device)
    return SmoothInstance(fun, x0, measure, residual)
