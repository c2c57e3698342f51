"""Orthogonal bases of the columns of matrices, batched."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.math.products import fast_products

_PANEL = 96
"""Columns that are reduced at once by LAPACK; everything else is a product of matrices."""
_LEAST_SIDE = 512
"""Smaller matrices are left to LAPACK whole."""


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the square orthogonal factors of QR decompositions, as `torch.linalg.qr` does, but from large products.

    The columns are reduced panel by panel by Householder reflections, which are applied to the rest as the block
    reflections ``I - V T V^T``. As stable as the unblocked algorithm, whatever the columns.

    Source: R. Schreiber, C. Van Loan, "A storage-efficient WY representation for products of Householder
    transformations", SIAM J. Sci. Stat. Comput. 10(1), 1989.

    Args:
        matrices: Shape ``[batch, n, k]`` with ``k <= n``.

    Returns:
        Shape ``[batch, n, n]``; the first ``k`` columns span those of ``matrices``.
    """
    return complete_qr(matrices)[0]


def complete_qr(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square orthogonal factors of QR decompositions, as `orthogonal` does, and the triangular ones.

    Args:
        matrices: Shape ``[batch, n, k]`` with ``k <= n``.

    Returns:
        Shapes ``[batch, n, n]`` and ``[batch, k, k]``.
    """
    batch, n, k = matrices.shape
    if n < _LEAST_SIDE:
        q, r = torch.linalg.qr(matrices, mode="complete")
        return q, r[:, :k]
    rest = matrices.clone(memory_format=torch.contiguous_format)  # products that add to transposed blocks are slow
    panels: list[tuple[int, Tensor, Tensor]] = []
    with fast_products(matrices, matrices.numel() * _PANEL):
        for start in range(0, k, _PANEL):
            end = min(start + _PANEL, k)
            reflections, weights = torch.geqrf(rest[:, start:, start:end])
            rest[:, start:end, start:end].copy_(reflections[:, : end - start])  # whose upper triangle is that of R
            v = reflections.tril_(-1)
            v.diagonal(dim1=-2, dim2=-1).fill_(1.0)
            weighted = torch.bmm(v, _triangle(v, weights))
            if end < k:  # C <- (I - V T^T V^T) C
                block = rest[:, start:, end:]
                block.baddbmm_(v, torch.bmm(weighted.mT, block), alpha=-1.0)
            panels.append((start, v, weighted))
        q = torch.zeros(batch, n, n, dtype=matrices.dtype, device=matrices.device)
        q.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        for start, v, weighted in reversed(panels):  # Q <- (I - V T V^T) Q, still the identity before ``start``
            block = q[:, start:, start:]
            block.baddbmm_(weighted, torch.bmm(v.mT, block), alpha=-1.0)
    return q, rest[:, :k].triu_()


def _triangle(v: Tensor, weights: Tensor) -> Tensor:
    """Return the upper triangular ``T`` with ``I - V T V^T`` the product of the reflections ``I - w_i v_i v_i^T``."""
    scaled = weights[..., None] * (v.mT @ v).triu(1)
    scaled.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return torch.linalg.solve_triangular(scaled, torch.diag_embed(weights), upper=True, unitriangular=True)
