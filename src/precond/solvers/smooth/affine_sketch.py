"""Sketches of the roots of Hessians ``A' D A``, in one pass over the data."""

from __future__ import annotations

import scipy.sparse
import torch
from torch import Tensor

from precond.sketches.sparse_sign import SparseEmbedding, SparseSign

NONZEROS = 4
"""Entries in each column of a sketch."""


def row_roots(blocks: Tensor) -> Tensor:
    """Return ``R`` with ``R' R = |D|`` for each of a stack of symmetric matrices ``D``, shape ``[m, k, k]``."""
    if blocks.shape[-1] == 1:
        return blocks.abs().sqrt()
    values, vectors = torch.linalg.eigh(blocks)
    return values.abs().sqrt()[..., None] * vectors.mT


def sketched_rows(matrix: Tensor, roots: Tensor, size: int, seed: int) -> Tensor:
    """Return ``S B`` where ``B`` has, for each ``i`` and ``a``, the row ``(roots[i, a, 0] A_i, ..)``.

    Args:
        matrix: ``A``, shape ``[m, d]``, dense or sparse CSR.
        roots: Shape ``[m, k, k]``.
        size: Rows of the sparse sign sketch ``S``.
        seed: Its seed.

    Returns:
        Shape ``[size, k d]``.
    """
    m, k = roots.shape[:2]
    embedding = SparseSign(NONZEROS).draw(m * k, size, seed=seed, dtype=roots.dtype, device=roots.device)
    assert isinstance(embedding, SparseEmbedding)
    places, values = (part.reshape(m, k, -1) for part in (embedding.places, embedding.values))
    blocks = []
    for b in range(k):
        total = torch.zeros(size, matrix.shape[1], dtype=roots.dtype, device=roots.device)
        for a in range(k):
            part = SparseEmbedding(size, places[:, a].contiguous(), values[:, a] * roots[:, a, b, None])
            total += _times(part, matrix)
        blocks.append(total)
    return torch.cat(blocks, dim=1)


def _times(embedding: SparseEmbedding, matrix: Tensor) -> Tensor:
    """Return ``S A``, dense."""
    if matrix.layout is torch.strided:
        return embedding.apply(matrix)
    rows = scipy.sparse.csr_array(
        (matrix.values().cpu().numpy(), matrix.col_indices().cpu().numpy(), matrix.crow_indices().cpu().numpy()),
        shape=tuple(matrix.shape),
    )
    return torch.from_numpy((embedding.entries() @ rows).toarray()).to(matrix.device)
