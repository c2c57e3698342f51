"""Inertia of symmetric matrices, against eigenvalues that are known because the matrix was made of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precond.math.sparse.inertia import factorize


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 10**6))
def test_counts_are_those_of_the_eigenvalues(positive: int, negative: int, zero: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = 0.1 + torch.rand(positive + negative + zero, generator=generator, dtype=torch.float64)
    signs = torch.tensor([1.0] * positive + [-1.0] * negative + [0.0] * zero, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(len(signs), len(signs), generator=generator, dtype=torch.float64))
    matrix = (turn * (sizes * signs)) @ turn.mT
    found = factorize((matrix + matrix.mT) / 2)
    assert found is not None
    assert (found.positive, found.negative, found.zero) == (positive, negative, zero)


@pytest.mark.parametrize("seed", range(20))
def test_equations_that_stand_twice_are_zeros_and_not_pairs_of_either_sign(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, m = 8, 5
    hessian = torch.randn(n, n, generator=generator, dtype=torch.float64)
    rows = torch.randn(m, n, generator=generator, dtype=torch.float64)
    rows = torch.cat([rows, rows[:2]])
    matrix = torch.zeros(n + m + 2, n + m + 2, dtype=torch.float64)
    matrix[:n, :n], matrix[n:, :n], matrix[:n, n:] = hessian @ hessian.mT, rows, rows.mT
    found = factorize(matrix)
    assert found is not None
    assert (found.positive, found.negative, found.zero) == (n, m, 2)
