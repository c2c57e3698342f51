"""Every sketch keeps the laws."""

from __future__ import annotations

import pytest
import torch

from precond.core import Sketch
from tests.laws.discover import instances, name
from tests.laws.feed import random

F64 = torch.float64
ROWS, SIZE = 21, 8
every_sketch = pytest.mark.parametrize("part", instances(Sketch), ids=name)


def matrix_of(part: Sketch, rows: int, size: int, seed: int = 0) -> torch.Tensor:
    return part.draw(rows, size, seed=seed).apply(torch.eye(rows, dtype=F64))


@every_sketch
def test_is_one_matrix(part: Sketch) -> None:
    embedding = part.draw(ROWS, SIZE, seed=3)
    s = matrix_of(part, ROWS, SIZE, 3)
    assert embedding.shape == s.shape == (SIZE, ROWS)
    x, y = random((2, ROWS, 3), 1), random((2, SIZE, 3), 2)
    kept = x.clone()
    torch.testing.assert_close(embedding.apply(x), s @ x)
    torch.testing.assert_close(embedding.adjoint(y), s.T @ y)
    assert torch.equal(x, kept), "apply writes to its argument"
    sparse = embedding.entries()
    if sparse is not None:
        torch.testing.assert_close(torch.from_numpy(sparse.toarray()), s)


@every_sketch
def test_its_seed_says_all(part: Sketch) -> None:
    assert torch.equal(matrix_of(part, ROWS, SIZE, 5), matrix_of(part, ROWS, SIZE, 5))
    assert not torch.equal(matrix_of(part, ROWS, SIZE, 5), matrix_of(part, ROWS, SIZE, 6))


@every_sketch
def test_keeps_lengths_on_average(part: Sketch) -> None:
    """``E S^T S = I``: the mean over many draws deviates like one over the root of their number."""
    draws = 600
    mean = sum(m.T @ m for m in (matrix_of(part, 9, 6, seed) for seed in range(draws))) / draws
    assert float((mean - torch.eye(9, dtype=F64)).abs().max()) < 5 * (2 / (6 * draws)) ** 0.5


@every_sketch
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_follows_the_dtype(part: Sketch, dtype: torch.dtype) -> None:
    x = random((ROWS, 2), 1).to(dtype)
    embedding = part.draw(ROWS, SIZE, seed=3, dtype=dtype)
    result = embedding.apply(x)
    assert result.dtype == dtype
    assert embedding.adjoint(result).dtype == dtype
    torch.testing.assert_close(result, (matrix_of(part, ROWS, SIZE, 3).to(dtype) @ x), rtol=1e-5, atol=1e-6)


@every_sketch
def test_draws_from_one_row_and_into_one(part: Sketch) -> None:
    assert part.draw(1, 4).apply(torch.ones(1, 2, dtype=F64)).shape == (4, 2)
    assert part.draw(5, 1).apply(torch.ones(5, 2, dtype=F64)).shape == (1, 2)
