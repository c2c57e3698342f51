"""The eigenvectors of all Gram matrices of one gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from precond.math.factors.eigen import all_eigenvectors, gram_eigenvectors, singular_vectors
from precond.math.tensors.modes import block_rows, unfolding


def first_bases(gradient: Tensor, bases: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor] | None]:
    """Return the eigenvectors of the Gram matrices of the modes of one gradient, and who failed.

    No matrix is decomposed that is larger than the rank of the gradient, and none twice: a matrix with whole bases on
    both sides has its singular vectors. Rounding errors do not choose the basis of a null space.

    Args:
        gradient: Shape ``[batch, d_0, ..., d_{k-1}]``.
        bases: For each mode a tensor shaped as its basis is to be, ``[batch, n, n]`` or in blocks
            ``[batch, blocks, side, side]``; ``None`` where there is to be none. Values are not read.

    Returns:
        For each mode ``None``, or eigenvectors ``[batch * blocks, side, side]`` in columns, largest eigenvalue first,
        and a mask ``[batch * blocks]`` of those that failed; theirs are the identity.
    """
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    if len(bases) == 2 and all(basis is not None and basis.ndim == 3 for basis in bases):
        left, right, failed = singular_vectors(gradient)
        return [(left, failed), (right, failed)]
    found: list[tuple[Tensor, Tensor] | None] = []
    for mode, basis in enumerate(bases):
        if basis is None:
            found.append(None)
            continue
        rows = block_rows(unfolding(gradient, mode), basis)
        thin = rows.shape[-1] < rows.shape[-2]
        found.append(gram_eigenvectors(rows) if thin else all_eigenvectors(rows @ rows.mT))
    return found
