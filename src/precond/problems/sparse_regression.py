"""``sparse-regression``: few variables explain the data, and the penalty is to find them."""

from __future__ import annotations

import math

import torch

from precond.core import BadInputError, Penalty
from precond.losses import LeastSquares, Logistic, Loss
from precond.penalties import L1, MCP, SCAD
from precond.problems.base import Composite, CompositeInstance
from precond.problems.registry import problem

_PENALTIES = {"l1": L1, "scad": SCAD, "mcp": MCP}


@problem(
    purpose="Regression on correlated columns of which few matter, with an l1, SCAD or MCP penalty.",
    example="sparse-regression, sparse-regression:penalty=mcp,rho=0.9,loss=logistic",
)
def sparse_regression(
    *, samples: int = 200, columns: int = 1000, nonzeros: int = 20, rho: float = 0.5, snr: float = 3.0,
    share: float = 0.1, penalty: str = "scad", loss: str = "squares",
) -> Composite:  # fmt: skip
    """Return regression on columns of an autoregressive process, as papers on SCAD and MCP do it.

    Columns are normal with correlations ``rho^|i-j|``, standardised; the seed draws them, the places of the nonzero
    coefficients, their normal values and the noise. The weight of the penalty is a share of the least one for which
    zero is stationary.

    Args:
        samples: Number of rows.
        columns: Number of variables.
        nonzeros: Variables that matter.
        rho: Correlation of neighbours.
        snr: Ratio of the standard deviations of signal and noise.
        share: Weight of the penalty, as a share.
        penalty: ``"l1"``, ``"scad"`` or ``"mcp"``.
        loss: ``"squares"`` or ``"logistic"``.

    Returns:
        The problem; its metric is the distance to stationarity, relative to that of the starting point, zero.
    """
    if penalty not in _PENALTIES or loss not in ("squares", "logistic"):
        raise BadInputError("penalty must be l1, scad or mcp, and loss squares or logistic")
    if not (0 <= rho < 1 and 0 < nonzeros <= columns and samples > 1 and snr > 0 and share > 0):
        raise BadInputError("give 0 <= rho < 1, 0 < nonzeros <= columns, samples > 1, snr > 0 and share > 0")

    def build(seed: int, device: torch.device) -> CompositeInstance:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        a = normal(samples, columns)
        for j in range(1, columns):
            a[:, j] = rho * a[:, j - 1] + math.sqrt(1 - rho * rho) * a[:, j]
        a = (a - a.mean(0)) / a.std(0)
        w = torch.zeros(columns, dtype=torch.float64)
        w[torch.randperm(columns, generator=generator)[:nonzeros]] = normal(nonzeros)
        signal = a @ w
        y = signal + signal.std() / snr * normal(samples)
        a = a.to(device)
        fun: Loss
        if loss == "squares":
            fun = LeastSquares(a, y.to(device))
        else:
            fun = Logistic(a, torch.where(y > 0, 1.0, -1.0).to(device))
        x0 = torch.zeros(columns, dtype=torch.float64, device=device)
        weight = share * float(fun.value_and_gradient(x0)[1].abs().max())
        made: Penalty = _PENALTIES[penalty](weight)
        return CompositeInstance(fun, made, x0)

    return Composite(
        name="sparse-regression",
        description=f"{loss} plus {penalty}: {samples} samples, {columns} columns of correlation {rho:g}, "
        f"{nonzeros} of which matter",
        build=build,
    )
