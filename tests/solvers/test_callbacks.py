"""A callback may stop a run by ``StopIteration``, whatever is run, and the result is the best point so far."""

import numpy as np
import pytest
import torch

import precond
from precond.core import Status

START = torch.tensor([-1.2, 1.0, 2.0], dtype=torch.float64)
GRID = np.diag(np.full(60, 2.0)) - np.diag(np.ones(59), 1) - np.diag(np.ones(59), -1)


def rosen(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


RUNS = {
    "minimize": lambda callback: precond.minimize(rosen, START, callback=callback),
    "constraints": lambda callback: precond.minimize(
        rosen, START, constraints=lambda x: x[:1] * x[1] - 1, callback=callback
    ),
    "penalty": lambda callback: precond.minimize(rosen, START, penalty=precond.penalties.L1(0.1), callback=callback),
    "least_squares": lambda callback: precond.least_squares(lambda x: x**3 - 2, START, callback=callback),
    "solve": lambda callback: precond.solve(GRID, np.ones(60), method="cg", callback=callback),
    "sequence": lambda callback: precond.SolveSequence(method="cg").solve(GRID, np.ones(60), callback=callback),
}


@pytest.mark.parametrize("kind", RUNS)
def test_stop_iteration_stops(kind):
    seen = []

    def callback(event):
        seen.append(event)
        raise StopIteration

    result = RUNS[kind](callback)
    assert result.status is Status.STOPPED_USER
    assert len(seen) == 1
    assert np.isfinite(np.asarray(result.x)).all()
