"""The leading eigenvector of ``A^T A`` from one pass over the rows of ``A`` in random order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.core import BadInputError


class StreamingEigenvector:
    """One power step on each block of a stream of rows, with the few heavy rows kept aside.

    A row is heavy when its norm is at least ``||A||_F / sqrt(n log2 n)``: too few blocks would see it, so it is stored
    and takes part in every step. The rest of the stream is cut into ``p`` blocks of equal length, by default
    ``ceil(3 log2 n)``, and ``p A_j^T A_j`` stands for ``A^T A`` by the random order::

        z <- p A_j^T A_j z + H^T H z,    z <- z / ||z||

    (P. Kacham, D. P. Woodruff, *Approximating the top eigenvector in random order streams*, 2024, arXiv 2412.11963.)

    Deviations:
        1. The norm ``||A||_F`` is estimated from the rows so far and the length of the stream, which must be known.
        2. The number of blocks and the logarithm in the threshold are ours; the paper has unspecified powers.
        3. Light rows are not rescaled by their norms.

    >>> stream = StreamingEigenvector(rows=1000, columns=3)
    >>> stream.absorb(torch.randn(1000, 3).double() * torch.tensor([5.0, 1.0, 1.0]).double())
    >>> bool(stream.vector[0].abs() > 0.9)
    True

    Args:
        rows: Length of the stream.
        columns: ``n``.
        blocks: ``p``.
        seed: Seed of the starting vector.
        store_heavy: Keep heavy rows aside (False shows why one must).

    Attributes:
        vector: The estimate, shape ``[n]``, of unit norm.
        heavy: The rows kept aside, shape ``[h, n]``.
    """

    def __init__(
        self, rows: int, columns: int, *, blocks: int | None = None, seed: int = 0, store_heavy: bool = True
    ) -> None:
        if rows < 1 or columns < 1:
            raise BadInputError(f"the stream needs at least one row and one column, not {rows} and {columns}")
        if blocks is not None and blocks < 1:
            raise BadInputError(f"the stream is cut into at least one block, not {blocks}")
        self.rows, self.columns, self.store_heavy = rows, columns, store_heavy
        self.blocks = blocks if blocks is not None else max(1, math.ceil(3 * math.log2(max(columns, 2))))
        self.threshold = 1 / math.sqrt(columns * max(1.0, math.log2(max(columns, 2))))
        start = torch.randn(columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.vector = start / start.norm()
        self.heavy = start.new_zeros(0, columns)
        self._seen, self._squares, self._product, self._in_block = 0, 0.0, torch.zeros_like(start), 0
        self._unit = 0.0

    def absorb(self, rows: Tensor) -> None:
        """Take the next rows of the stream, in any portions.

        Args:
            rows: Shape ``[k, n]``.
        """
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise BadInputError(f"rows have shape {tuple(rows.shape)}: give [k, {self.columns}]")
        if self._seen + len(rows) > self.rows:
            raise BadInputError(f"the stream was said to have {self.rows} rows, here are more")
        if rows.is_complex() or not bool(torch.isfinite(rows).all()):
            raise BadInputError("rows must be real and finite: correct them, or leave them out")
        length = -(-self.rows // self.blocks)
        for given in rows.to(torch.float64):
            if self._unit == 0:
                self._unit = float(given.abs().max())  # the first row sets it: squares neither vanish nor overflow
            row = given / self._unit if self._unit > 0 else given
            squares = float(row @ row)
            self._seen, self._squares = self._seen + 1, self._squares + squares
            size = math.sqrt(self._squares * self.rows / self._seen)
            if self.store_heavy and self._seen > 1 and squares > 0 and math.sqrt(squares) >= self.threshold * size:
                self.heavy = torch.cat([self.heavy, given.unsqueeze(0)])
            else:
                self._product += (row @ self.vector) * row
            self._in_block += 1
            if self._in_block == length or self._seen == self.rows:
                self._turn(self.rows / self._in_block)

    def _turn(self, scale: float) -> None:
        """Take the power step of a block."""
        heavy = self.heavy / self._unit if self._unit > 0 else self.heavy
        z = scale * self._product + heavy.mT @ (heavy @ self.vector)
        size = float(z.norm())
        if size > 0:
            self.vector = z / size
        self._product.zero_()
        self._in_block = 0
