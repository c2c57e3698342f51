"""The streaming eigenvector: what heavy rows are stored for, and where it is the power method."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precond.core import BadInputError
from precond.solvers.systems.top_eigenvector import StreamingEigenvector

N, ROWS = 30, 3000


def stream(heavy, seed):
    """Return rows in random order whose leading direction is carried by a few heavy ones (or by all, for none)."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((ROWS, N))
    if heavy:
        a[:heavy] = 0
        a[:heavy, 0] = (4 * ROWS / heavy) ** 0.5
    else:
        a[:, 0] *= 3
    return torch.from_numpy(a[rng.permutation(ROWS)])


def correlation(rows, **options):
    estimate = StreamingEigenvector(ROWS, N, **options)
    for portion in rows.split(700):
        estimate.absorb(portion)
    true = torch.linalg.eigh(rows.T @ rows)[1][:, -1]
    return float((estimate.vector @ true) ** 2)


@pytest.mark.parametrize("heavy", [1, 3])
def test_heavy_rows_must_be_stored(heavy):
    """The headline."""
    kept = np.median([correlation(stream(heavy, s), seed=s) for s in range(5)])
    lost = np.median([correlation(stream(heavy, s), seed=s, store_heavy=False) for s in range(5)])
    assert kept >= 0.98
    assert lost <= 0.9


def test_light_rows_alone_are_found_too():
    assert np.median([correlation(stream(0, s), seed=s) for s in range(5)]) > 0.95


def test_the_order_must_be_random():
    """Rows sorted by their leading entry: the last blocks have seen nothing of it."""
    rows = stream(0, 0)
    in_order = rows[rows[:, 0].abs().argsort(descending=True)]
    assert correlation(in_order) < 0.5 < correlation(rows)


def test_equal_blocks_give_the_power_method():
    rng = np.random.default_rng(3)
    block = rng.standard_normal((40, 6))
    estimate = StreamingEigenvector(160, 6, blocks=4, store_heavy=False, seed=5)
    z = estimate.vector.numpy()
    estimate.absorb(torch.from_numpy(np.tile(block, (4, 1))))
    for _ in range(4):
        z = block.T @ (block @ z)
        z /= np.linalg.norm(z)
    np.testing.assert_allclose(estimate.vector, z, rtol=1e-10)


def test_bad_input_is_refused():
    with pytest.raises(BadInputError):
        StreamingEigenvector(0, 3)
    estimate = StreamingEigenvector(2, 3)
    with pytest.raises(BadInputError, match=r"\[k, 3\]"):
        estimate.absorb(torch.ones(2, 2))
    with pytest.raises(BadInputError, match="here are more"):
        estimate.absorb(torch.ones(3, 3))


def test_streams_of_any_scale_and_with_zero_rows_are_the_same():
    a = torch.randn(300, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a[:, 2] *= 9
    a[:5] = 0
    found = []
    for scale in (1.0, 1e-200, 1e200):
        stream = StreamingEigenvector(300, 4)
        stream.absorb(a * scale)
        assert not bool((stream.heavy == 0).all(1).any())
        found.append(stream.vector)
    assert float(found[0][2].abs()) > 0.9
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
    with pytest.raises(BadInputError, match="finite"):
        StreamingEigenvector(3, 1).absorb(torch.tensor([[float("nan")]]))
    with pytest.raises(BadInputError, match="block"):
        StreamingEigenvector(3, 1, blocks=0)
