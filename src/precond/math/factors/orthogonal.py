"""Orthogonal bases of the columns of matrices, batched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from precond.math.machine.products import fast_products

PANEL = 128
"""Columns that are reduced at once by LAPACK; everything else is a product of matrices.

Every shape of a product is a kernel that oneDNN keeps, with half a megabyte: this divides the common sides, so that
matrices of several sizes share them.
"""
LEAST_SIDE = 512
"""Smaller matrices are left to LAPACK whole."""
Panel = tuple[int, Tensor, Tensor]
"""The first coordinate that a block reflection ``I - V T V^T`` moves, ``V`` and ``V T``."""


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
    found = reduced(matrices)
    return found.q(), found.triangle()


@dataclasses.dataclass(frozen=True)
class Reduced:
    """A QR decomposition whose orthogonal factor is still a product of reflections.

    Attributes:
        reflected: ``[batch, n, k]``; on and above the diagonal it is the triangular factor.
        panels: The reflections in blocks.
        weights: Those of the reflections whose vectors stand below the diagonal, where there are no blocks.
    """

    reflected: Tensor
    panels: Sequence[Panel]
    weights: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """What is left of each column beside those before it, ``[batch, k]``."""
        return self.reflected.diagonal(dim1=-2, dim2=-1).abs()

    def triangle(self) -> Tensor:
        """Return the triangular factor, ``[batch, k, k]``."""
        return self.reflected[:, : self.reflected.shape[-1]].triu()

    def q(self) -> Tensor:
        """Return the square orthogonal factor, ``[batch, n, n]``."""
        if self.weights is None:
            return accumulated(self.panels, self.reflected)
        n, k = self.reflected.shape[-2:]
        square = torch.nn.functional.pad(self.reflected, (0, n - k)) if k < n else self.reflected
        return torch.linalg.householder_product(square, self.weights)


def reduced(matrices: Tensor) -> Reduced:
    """Return QR decompositions; forming the orthogonal factors is half of the work, and left for later.

    Args:
        matrices: Shape ``[batch, n, k]`` with ``k <= n``.

    Returns:
        The decompositions.
    """
    k = matrices.shape[-1]
    if matrices.shape[-2] < LEAST_SIDE:
        reflected, weights = torch.geqrf(matrices)
        return Reduced(reflected, (), weights)
    rest = matrices.clone(memory_format=torch.contiguous_format)  # products that add to transposed blocks are slow
    panels: list[Panel] = []
    with fast_products(matrices, matrices.numel() * PANEL):
        for start in range(0, k, PANEL):
            end = min(start + PANEL, k)
            triangle, v, weighted = reflect(rest[:, start:, start:end])
            rest[:, start:end, start:end].copy_(triangle)
            if end < k:
                reflect_by(v, weighted, rest[:, start:, end:])
            panels.append((start, v, weighted))
    return Reduced(rest, panels)


def reflect(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reflections that reduce some columns to a triangle, as one block reflection ``I - V T V^T``.

    Args:
        columns: Shape ``[batch, rows, k]``.

    Returns:
        The triangle, shape ``[batch, k, k]``, below whose diagonal anything may stand; ``V`` and ``V T``, shape
        ``[batch, rows, k]``.
    """
    reflections, weights = torch.geqrf(columns)
    triangle = reflections[:, : columns.shape[-1]].clone()
    v = reflections.tril_(-1).contiguous()  # laid out like `V T`, so that products with either share a kernel
    v.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return triangle, v, torch.bmm(v, _triangle(v, weights))


def reflect_by(v: Tensor, weighted: Tensor, block: Tensor) -> None:
    """Set ``C <- (I - V T V^T)^T C`` in place, as reducing does."""
    block.baddbmm_(v, torch.bmm(weighted.mT, block), alpha=-1.0)


def accumulated(panels: Sequence[Panel], like: Tensor) -> Tensor:
    """Return the product of block reflections, each of which leaves the coordinates before its first alone.

    Args:
        panels: For each its first coordinate, ``V`` and ``V T``.
        like: A tensor ``[batch, n, ...]`` with the shape, dtype and device of the result.

    Returns:
        Shape ``[batch, n, n]``.
    """
    batch, n = like.shape[:2]
    q = torch.zeros(batch, n, n, dtype=like.dtype, device=like.device)
    q.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    with fast_products(q, q.numel() * PANEL):
        for start, v, weighted in reversed(panels):  # still the identity before ``start + k``
            k = v.shape[-1]
            rest = q[:, start:, start + k :]
            if rest.shape[-1]:  # products of the same shapes as those that reduced: kernels are kept for each shape
                rest.baddbmm_(weighted, torch.bmm(v.mT, rest), alpha=-1.0)
            q[:, start:, start : start + k].baddbmm_(weighted, v[:, :k].mT, alpha=-1.0)
    return q


def _triangle(v: Tensor, weights: Tensor) -> Tensor:
    """Return the upper triangular ``T`` with ``I - V T V^T`` the product of the reflections ``I - w_i v_i v_i^T``."""
    scaled = weights[..., None] * (v.mT @ v).triu(1)
    scaled.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return torch.linalg.solve_triangular(scaled, torch.diag_embed(weights), upper=True, unitriangular=True)
