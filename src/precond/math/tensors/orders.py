"""Rows of matrices in another order, batched: whole rows are copied, where `torch.gather` looks up every entry."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_in_order(matrices: Tensor, order: Tensor) -> Tensor:
    """Return the rows in the order asked for.

    Args:
        matrices: Shape ``[batch, n, ...]``.
        order: Row ``order[b, i]`` of member ``b`` becomes its row ``i``; shape ``[batch, n]``.

    Returns:
        The shape of ``matrices``.
    """
    return matrices.flatten(0, 1).index_select(0, _positions(order)).view(matrices.shape)


def rows_put_back(matrices: Tensor, order: Tensor) -> Tensor:
    """Return what `rows_in_order` with the same order turns into ``matrices``.

    Args:
        matrices: Shape ``[batch, n, ...]``.
        order: Shape ``[batch, n]``.

    Returns:
        The shape of ``matrices``.
    """
    rows = matrices.flatten(0, 1)
    return torch.empty_like(rows).index_copy_(0, _positions(order), rows).view(matrices.shape)


def _positions(order: Tensor) -> Tensor:
    """Return the rows of the whole batch below each other."""
    batch, n = order.shape
    if batch == 1:
        return order[0]
    return (order + n * torch.arange(batch, device=order.device)[:, None]).flatten()
