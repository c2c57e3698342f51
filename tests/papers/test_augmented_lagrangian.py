"""The method of multipliers: its rate on a quadratic problem, where it is known, and agreement elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.problems.classical import ALL

F64 = torch.float64


def test_multipliers_converge_at_the_rate_of_the_penalty() -> None:
    """For ``min x'x/2, sum x = 1`` the multiplier's error shrinks by ``1 / (1 + mu n)`` each time."""
    import math

    from precond.recipes.programs import augmented_lagrangian
    from precond.solvers.programs.by_torch import TorchProgram

    free = torch.full((3,), math.inf, dtype=F64)
    program = TorchProgram(lambda x: x @ x / 2, lambda x: x.sum()[None] - 1, -free, free, 1)
    iterates = augmented_lagrangian(mu=2.0, growth=1.0, accuracy=1e-12).iterate(program, torch.zeros(3, dtype=F64), 0.0)
    errors = [abs(float(next(iterates).multipliers) + 1 / 3) for _ in range(5)]
    np.testing.assert_allclose(np.array(errors[1:]) / errors[:-1], 1 / 7, rtol=1e-6)


@pytest.mark.parametrize("name", ["hs6", "hs7", "hs28", "hs42", "hs48", "hs78", "hs79"])
def test_agrees_with_the_known_optima(name: str) -> None:
    problem = ALL[name]
    start = torch.tensor(problem.start, dtype=F64)
    result = precond.minimize(
        problem.fun, start, constraints=problem.constraints, method="augmented-lagrangian", tol=1e-6
    )
    assert result.converged, result.message
    assert min(abs(float(problem.fun(result.x)) - known) for known in problem.optima) < 1e-4
