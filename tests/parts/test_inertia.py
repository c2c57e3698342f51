"""Inertia of symmetric matrices, against eigenvalues that are known because the matrix was made of them."""

import pytest
import torch

from precond.math.sparse.inertia import factorize


def test_counts_are_those_of_the_eigenvalues() -> None:
    """In nearly all cases: pivots grow, so that a zero may look like a small number, and more than one in fifty not."""
    wrong = 0
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(0, 7, (3,), generator=generator).tolist()
        signs = torch.tensor([1.0] * counts[0] + [-1.0] * counts[1] + [0.0] * counts[2], dtype=torch.float64)
        sizes = 0.1 + torch.rand(len(signs), generator=generator, dtype=torch.float64)
        turn, _ = torch.linalg.qr(torch.randn(len(signs), len(signs), generator=generator, dtype=torch.float64))
        matrix = (turn * (sizes * signs)) @ turn.mT
        found = factorize((matrix + matrix.mT) / 2)
        assert found is not None
        assert found.positive + found.negative + found.zero == len(signs)
        wrong += [found.positive, found.negative, found.zero] != counts
    assert wrong <= 6


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
