"""Products of tensors with one matrix per mode, batched: the algebra of Kronecker-factored methods.

The matrix of a mode of length ``n`` is ``[batch, n, n]``, or block diagonal, ``[batch, blocks, side, side]`` with
``blocks * side = n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from precond.math.machine.products import fast_products, worth_bfloat16

_STRIPS = 4
_LEAST_SIDE = 512
"""Factors with sides from here on are multiplied out in strips of rows, each only as far as the diagonal."""
_TRANSPOSED = 128
"""Side of the pieces in which factors are transposed: few enough rows to stay in the cache."""


def add_gram(
    factor: Tensor,
    v: Tensor,
    mode: int,
    *,
    beta: float,
    alpha: float,
    members: Sequence[int] | None = None,
    half: bool = False,
) -> None:
    """Set ``factor <- beta factor + alpha V V^T`` in place, with ``V`` the unfolding of ``v`` along one mode.

    Half of a symmetric product is enough: above the diagonal, large factors are left behind until `complete` is called.

    Args:
        factor: Shape ``[batch, n, n]`` or ``[batch, blocks, side, side]``; only the blocks are formed.
        v: Shape ``[batch, d_0, ..., d_{k-1}]`` with ``d_mode = n``; other dtypes are cast to that of ``factor``.
        mode: Axis of ``v``, the batch not counted.
        beta: Weight of the old factor.
        alpha: Weight of the new product.
        members: Positions in the batch of those to do this for; ``None`` for all.
        half: Form the product in bfloat16 if it is large; the sum is of the dtype of ``factor``.
    """
    if members is not None:
        for start, end in _runs(members):  # slices, so that no factor is copied
            add_gram(factor[start:end], v[start:end], mode, beta=beta, alpha=alpha, half=half)
        return
    half = half and worth_bfloat16(v.device, v.shape[1:].numel() * factor.shape[-1])
    unfolded = block_rows(unfolding(v.to(torch.bfloat16 if half else factor.dtype), mode), factor)
    factor = by_block(factor)
    n = factor.shape[-1]
    with fast_products(factor, unfolded.numel() * n):
        if n < _LEAST_SIDE:
            if half:
                factor.mul_(beta).add_(torch.bmm(unfolded, unfolded.mT), alpha=alpha)
            else:
                factor.baddbmm_(unfolded, unfolded.mT, beta=beta, alpha=alpha)
            return
        for whole, rows in zip(factor.unbind(0), unfolded.unbind(0), strict=True):
            for start, end in strips(n):
                strip, left, right = whole[start:end, :end], rows[start:end], rows[:end].mT
                if half:
                    strip.mul_(beta).add_(left @ right, alpha=alpha)
                else:
                    strip.addmm_(left, right, beta=beta, alpha=alpha)


def _runs(members: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending positions as slices: ``[0, 1, 4]`` as ``[(0, 2), (4, 5)]``."""
    breaks = [0, *(i for i in range(1, len(members)) if members[i] != members[i - 1] + 1), len(members)]
    return [(members[start], members[end - 1] + 1) for start, end in pairwise(breaks) if end > start]


def unfolding(v: Tensor, mode: int) -> Tensor:
    """Return ``v``, shape ``[batch, d_0, ..., d_{k-1}]``, as matrices ``[batch, d_mode, product of the others]``."""
    if v.ndim == 3:  # matrices, whose steps are many and short
        return v.mT if mode else v
    if mode == v.ndim - 2:  # the last mode needs no copy
        return v.flatten(1, -2).mT if v.ndim > 2 else v.unsqueeze(-1)
    return v.movedim(mode + 1, 1).flatten(2)


def by_block(matrices: Tensor) -> Tensor:
    """Return the matrices of a mode as one batch ``[batch * blocks, side, side]``: a view."""
    return matrices if matrices.ndim == 3 else matrices.flatten(0, -3)


def block_rows(unfolded: Tensor, matrices: Tensor) -> Tensor:
    """Return an unfolding ``[batch, n, rest]`` as the rows of each block, ``[batch * blocks, side, rest]``."""
    if matrices.ndim == 3:
        return unfolded
    blocks = unfolded.unflatten(1, matrices.shape[1:3]).flatten(0, 1)
    return blocks if blocks.stride(-1) == 1 else blocks.mT.contiguous().mT  # columns far apart make slow products


def complete(factor: Tensor) -> None:
    """Copy what is below the diagonal to above it, in place: `add_gram` and storages keep the lower triangle alone.

    Args:
        factor: Shape ``[batch, n, n]`` or ``[batch, blocks, side, side]``.
    """
    n = factor.shape[-1]
    for start in range(0, n, _TRANSPOSED):
        end = min(start + _TRANSPOSED, n)
        if start:
            factor[..., :start, start:end] = factor[..., start:end, :start].mT
        corner = factor[..., start:end, start:end]
        below = corner.tril(-1)
        corner.tril_().add_(below.mT)


def strips(n: int) -> list[tuple[int, int]]:
    """Return where strips of the rows of a large square matrix start and end."""
    return list(pairwise(n * i // _STRIPS for i in range(_STRIPS + 1)))


def mode_products(v: Tensor, matrices: Sequence[Tensor | None], *, transpose: bool = False) -> Tensor:
    """Multiply every mode of ``v`` by its matrix: ``v x_0 M_0 x_1 M_1 ...``.

    Args:
        v: Shape ``[batch, d_0, ..., d_{k-1}]`` with ``k >= 1``.
        matrices: One ``[batch, d_i, d_i]`` or block diagonal ``[batch, blocks, side, side]`` per mode; ``None`` leaves
            the mode as it is.
        transpose: Multiply by the transposed matrices.

    Returns:
        A tensor shaped like ``v`` (``v`` itself when every matrix is ``None``), in the dtype of the matrices. Where
        they are of bfloat16, it is multiplied as such where that is faster, and the result is of float32.
    """
    present = [m for m in matrices if m is not None]
    if not present:
        return v
    half = present[0].dtype == torch.bfloat16
    side = max(m.shape[-1] for m in present)
    if half and not worth_bfloat16(v.device, v.shape[1:].numel() * side):
        matrices = [None if m is None else m.float() for m in matrices]
        present = [m for m in matrices if m is not None]
    v = v if v.dtype == present[0].dtype else v.to(present[0].dtype)
    with fast_products(v, v.numel() * side):
        product = _mode_products(v, matrices, transpose)
    return product.float() if half else product


def _mode_products(v: Tensor, matrices: Sequence[Tensor | None], transpose: bool) -> Tensor:
    if len(matrices) == 1:
        (m,) = [m for m in matrices if m is not None]
        return _from_left(m.mT if transpose else m, v.unsqueeze(-1)).squeeze(-1)
    if len(matrices) == 2:
        left, right = matrices
        if left is not None:
            v = _from_left(left.mT if transpose else left, v)
        if right is not None:
            v = _from_right(v, right if transpose else right.mT)
        return v
    # Each product moves the leading mode to the end, so that after k of them the modes are back in order and
    # every operand is a plain or transposed matrix: nothing is copied.
    for matrix in matrices:
        first, rest = v.shape[1], v.shape[2:]
        unfolded = v.flatten(2).mT  # [batch, rest, first]
        turned = unfolded if matrix is None else _from_right(unfolded, matrix if transpose else matrix.mT)
        v = turned.reshape(v.shape[0], *rest, first)
    return v


def _from_left(m: Tensor, v: Tensor) -> Tensor:
    """Return ``m v`` for ``v``, ``[batch, n, columns]``."""
    if m.ndim == 3:
        return torch.bmm(m, v)
    return torch.matmul(m, v.unflatten(1, m.shape[1:3])).flatten(1, 2)


def _from_right(v: Tensor, m: Tensor) -> Tensor:
    """Return ``v m`` for ``v``, ``[batch, rows, n]``."""
    if m.ndim == 3:
        return torch.bmm(v, m)
    return torch.matmul(v.unflatten(2, m.shape[1:3]).transpose(1, 2), m).transpose(1, 2).flatten(2)
