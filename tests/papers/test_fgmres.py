"""FGMRES against the minimization it promises, with a preconditioner that changes in every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, IncompatibleError
from precond.krylov import CG, FGMRES, GMRES
from precond.operators import as_operator
from precond.preconditioners.identity import Identity
from precond.preconditioners.inverse_of import InverseOf
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(13)


@pytest.mark.parametrize("kind", [float, complex])
def test_minimizes_over_what_the_preconditioners_gave(kind):
    n, restart = 14, 5
    a = rng.standard_normal((n, n)) + 4 * np.eye(n) + (1j * rng.standard_normal((n, n)) if kind is complex else 0)
    b, x0 = rng.standard_normal(n) + 0 * a[0], rng.standard_normal(n) + 0 * a[0]
    maps = [np.eye(n) + 0.3 * rng.standard_normal((n, n)) for _ in range(12)]
    given = []

    def precondition(v):
        z = v @ torch.from_numpy(maps[len(given)].T).to(v.dtype)
        given.append(z[0].numpy().copy())
        return z

    base = x0
    running = FGMRES(restart=restart).iterate(
        as_operator(a), torch.from_numpy(b)[None], precondition, torch.from_numpy(x0)[None]
    )
    for k, progress in zip(range(13), running, strict=False):
        x = progress.solution()[0].numpy()
        if k:
            assert len(given) == k, "one application a step, and none for the solution"
            z = np.stack(given[(k - 1) // restart * restart : k], axis=1)
            reference = base + z @ np.linalg.lstsq(a @ z, b - a @ base, rcond=None)[0]
            np.testing.assert_allclose(x, reference, rtol=1e-8, atol=1e-10)
            if k % restart == 0:
                base = reference
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-9)


def test_is_gmres_when_the_preconditioner_is_fixed():
    a, p = rng.standard_normal((12, 12)) + 4 * np.eye(12), np.eye(12) + 0.1 * rng.standard_normal((12, 12))
    b = rng.standard_normal(12)
    ours, theirs = (steps(part(restart=4), a, b, p, 9) for part in (FGMRES, GMRES))
    for (x, _), (y, _) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


def test_takes_another_iteration_as_preconditioner_where_others_refuse():
    a, inner = poisson(12), InverseOf(CG(), Identity(), limit=4)
    result = precond.solve(a, np.ones(144), method="fgmres", preconditioner=inner, rtol=1e-9)
    assert result.converged
    assert result.iterations < precond.solve(a, np.ones(144), method="fgmres", preconditioner="identity").iterations
    with pytest.raises(IncompatibleError, match="linear"):
        precond.solve(a, np.ones(144), method="gmres", preconditioner=inner)
    with pytest.raises(BadInputError, match="restart=0"):
        FGMRES(restart=0)
