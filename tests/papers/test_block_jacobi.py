"""Block Jacobi against the dense inverse of the block diagonal."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch

import precond
from precond.core import BadInputError
from precond.preconditioners.block_jacobi import BlockJacobi
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(16)


@pytest.mark.parametrize("size", [1, 3, 5, 20])
@pytest.mark.parametrize("kind", ["definite", "indefinite", "general", "complex", "float32"])
def test_inverts_the_blocks(size, kind):
    n = 11
    a = rng.standard_normal((n, n)) + (6 * np.eye(n) if kind != "indefinite" else 0)
    a = a + a.T if kind in ("definite", "indefinite") else a
    a = a + 1j * rng.standard_normal((n, n)) if kind == "complex" else a
    a = a.astype(np.float32) if kind == "float32" else a
    blocks = [a[i : i + size, i : i + size] for i in range(0, n, size)]
    if kind == "indefinite":
        blocks = [scipy.linalg.sqrtm(block @ block).real for block in blocks]
    p = np.linalg.inv(scipy.linalg.block_diag(*blocks))
    part = BlockJacobi(size=size)
    state, health = ready(part, a)
    v = rng.standard_normal((2, n)).astype(a.dtype)
    tolerance = 1e-3 if kind == "float32" else 1e-8
    applied, adjoint = part.apply(state, torch.from_numpy(v)), part.apply_adjoint(state, torch.from_numpy(v))
    np.testing.assert_allclose(applied.numpy(), v @ p.T, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(adjoint.numpy(), v @ p.conj(), rtol=tolerance, atol=tolerance)
    assert health.detail == ""


def test_singular_blocks_are_replaced_and_reported():
    a = scipy.linalg.block_diag(np.ones((2, 2)), np.zeros((2, 2)), np.diag([2.0, 3.0]))
    part = BlockJacobi(size=2)
    state, health = ready(part, a)
    assert "3 vanishing" in health.detail
    assert torch.isfinite(part.apply(state, torch.ones(2, 6, dtype=torch.float64))).all()
    with pytest.raises(BadInputError, match="size=0"):
        BlockJacobi(size=0)


def test_blocks_that_belong_together_beat_points():
    coupled = np.eye(3) + 0.97 * (np.ones((3, 3)) - np.eye(3))
    scales = scipy.sparse.diags_array(10.0 ** rng.uniform(-1, 1, 100))
    a = scipy.sparse.csr_array(
        scipy.sparse.kron(scales @ (poisson(10) + scipy.sparse.eye_array(100)) @ scales, coupled)
    )
    b = rng.standard_normal(300)
    count = {
        name: precond.solve(a, b, method="cg", preconditioner=part).iterations
        for name, part in (("points", "jacobi"), ("blocks", BlockJacobi(size=3)))
    }
    assert 2 * count["blocks"] < count["points"]
