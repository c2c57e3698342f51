"""Rows of batches in another order, against `torch.gather`."""

import pytest
import torch

from precond.math.tensors.orders import rows_in_order, rows_put_back


@pytest.mark.parametrize("shape", [(1, 5, 3), (3, 4, 4), (2, 3, 2, 5), (2, 0, 3)])
def test_rows_follow_the_order_of_their_member(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    order = torch.stack([torch.randperm(shape[1]) for _ in range(shape[0])])
    wide = order.view(*shape[:2], *(1 for _ in shape[2:])).expand(shape)
    sorted_ = rows_in_order(matrices, order)
    assert torch.equal(sorted_, matrices.gather(1, wide))
    assert torch.equal(rows_put_back(sorted_, order), matrices)


def test_rows_of_transposed_matrices() -> None:
    matrices, order = torch.randn(2, 4, 6).mT, torch.tensor([[5, 3, 1, 0, 2, 4], [0, 1, 2, 3, 5, 4]])
    expected = torch.stack([m[o] for m, o in zip(matrices, order, strict=True)])
    assert torch.equal(rows_in_order(matrices, order), expected)
    assert torch.equal(rows_put_back(expected, order), matrices)
