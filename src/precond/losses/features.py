"""The constant matrix of a regression, with what is kept of it between points."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.math.dense.weighted_gram import weighted_gram

LARGE = 2**16
"""Numbers from which on a matrix of zeros, mostly, is kept as a sparse one, too, and squared in single precision."""
SPARSE = 0.2
"""Share of a matrix that counts as mostly zeros."""
WIDE, FEW = 256, 0.1
"""Columns from which on a product looks for zeros, and the share of others up to which it leaves them out."""
TOGETHER = 2**19
"""Scaled rows of pairs of columns, in numbers, that are multiplied at once rather than pair by pair."""
COPY = 2**30
"""Bytes that a copy of the matrix in single precision may take."""


@dataclasses.dataclass
class Features:
    """A constant matrix.

    Attributes:
        matrix: ``A``, shape ``[m, d]``, dense or sparse CSR.
        trusted: The function that sees ``A w`` was found to be one function for each row of it.
    """

    matrix: Tensor
    trusted: bool = False
    _rows: Tensor | None = None
    _columns: Tensor | None = None
    _coarse: tuple[Tensor, Tensor] | None = None

    @classmethod
    def sparse(cls, rows: scipy.sparse.csr_array, columns: scipy.sparse.csr_array) -> Features:
        """Take a sparse matrix of SciPy and its transpose, both in CSR form."""
        m, n = rows.shape
        matrix = _tensor(rows, (m, n))
        return cls(matrix, _rows=matrix, _columns=_tensor(columns, (n, m)))

    def prepare(self) -> None:
        """Make products faster: keep a dense matrix that is mostly zero as a sparse one, too."""
        matrix = self.matrix
        if matrix.layout is not torch.strided:
            self._rows, self._columns = matrix, matrix.t().to_sparse_csr()
        elif matrix.device.type == "cpu" and matrix.numel() > LARGE:
            sample = matrix[:: max(1, len(matrix) // 256)]
            if int(torch.count_nonzero(sample)) <= SPARSE * sample.numel():
                self._rows, self._columns = sparse_rows_and_columns(matrix)

    @property
    def rows(self) -> Tensor:
        """The matrix as products take it: sparse where it is kept so."""
        return self.matrix if self._rows is None else self._rows

    def forward(self, w: Tensor) -> Tensor:
        """Return ``A w``, for ``w`` of shape ``[d]`` or ``[d, k]``; from the columns that count if these are few."""
        if self._rows is None and w.ndim == 1 and w.numel() >= WIDE:
            kept = w.nonzero()[:, 0]
            if len(kept) <= FEW * len(w):
                return self.matrix[:, kept] @ w[kept]
        return self.rows @ w

    def adjoint(self, z: Tensor) -> Tensor:
        """Return ``A' z``, for ``z`` of shape ``[m]`` or ``[m, k]``."""
        if self._columns is not None:
            return self._columns @ z
        return self.matrix.t() @ z if z.ndim == 1 else (z.t() @ self.matrix).t()  # few rows are faster than few columns

    def block(self, index: Tensor, weights: Tensor) -> Tensor | None:
        """Return the Gram matrix of some columns, ``[k, k]``; ``None`` of a sparse matrix."""
        if self.matrix.layout is not torch.strided:
            return None
        part = self.matrix[:, index]
        return (part * weights[:, None]).mT @ part

    def coupled(
        self, columns: int, weights: Callable[[Tensor, Tensor], Tensor], *, own: bool = True, coarse: bool
    ) -> Tensor:
        """Return ``A' diag(w_ab) A`` for pairs of columns of a matrix ``[d, k]`` of variables.

        Args:
            columns: Their number ``k``.
            weights: Maps places ``a`` and ``b <= a`` of ``p`` pairs, ``[p]`` each, to ``w_ab = w_ba``, ``[p, m]``.
            own: Also the pairs of a column with itself, of which there are zeros otherwise.
            coarse: Entries to single precision will do.

        Returns:
            Shape ``[k, k, d, d]``, float64.
        """
        m, d = self.matrix.shape
        a, b, order = _pairs(columns, own, self.matrix.device)
        found = torch.zeros(len(a) + (not own), d, d, dtype=torch.float64, device=self.matrix.device)
        if self.matrix.layout is torch.strided and m * d * len(a) <= TOGETHER:
            scaled = torch.mul(weights(a, b)[:, None], self.matrix.mT, out=self.matrix.new_empty(len(a), d, m))
            found[: len(a)] = (scaled.view(-1, m) @ self.matrix).view(-1, d, d)
        else:
            for i in range(len(a)):
                found[i] = self.gram(weights(a[i : i + 1], b[i : i + 1])[0], coarse=coarse)
        return found.index_select(0, order).view(columns, columns, d, d)

    def gram(self, weights: Tensor, *, coarse: bool) -> Tensor:
        """Return ``A' diag(w) A``, ``[d, d]``; in single precision with columns of unit norm if ``coarse``."""
        m, d = self.matrix.shape
        dense = self.matrix.layout is torch.strided
        if not coarse or not dense or m * d * 4 > COPY or m * d <= LARGE:
            return weighted_gram(self.matrix, weights)
        if self._coarse is None:
            sample = self.matrix[:: max(1, m // 1024)]  # only the scales matter
            norms = torch.linalg.vector_norm(sample, dim=0) * (m / len(sample)) ** 0.5
            norms = torch.where((norms > 0) & torch.isfinite(norms), norms, 1.0)
            self._coarse = ((self.matrix / norms).float(), norms)
        rows, norms = self._coarse
        top = weights.abs().max() if m else weights.sum()
        top = torch.where(top > 0, top, 1.0)
        return weighted_gram(rows, weights / top) * (top * norms * norms[:, None])


@functools.lru_cache(maxsize=32)
def _pairs(columns: int, own: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the places ``a >= b`` of pairs, and for each entry of a matrix ``[k, k]``, row by row, that of its pair.

    Without pairs of a column with itself their entries name the place after the last pair.
    """
    a, b = torch.tril_indices(columns, columns, 0 if own else -1, device=device)
    order = torch.full((columns, columns), len(a), device=device)
    order[a, b] = order[b, a] = torch.arange(len(a), device=device)
    return a, b, order.view(-1)


def sparse_rows_and_columns(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return a dense matrix on the CPU as two sparse ones in CSR form: itself, and its transpose.

    One pass finds the entries; torch's own conversions take five times as long, and as long again for the transpose.

    Args:
        matrix: Shape ``[m, n]``.

    Returns:
        The matrix and its transpose.
    """
    array = matrix.detach().numpy()
    m, n = array.shape
    flat = np.flatnonzero(array != 0)
    kind = np.int32 if max(len(flat), m, n) < 2**31 else np.int64
    rows = flat // n
    starts = np.searchsorted(flat, np.arange(m + 1) * n).astype(kind)
    found = scipy.sparse.csr_array((array.reshape(-1)[flat], (flat - rows * n).astype(kind), starts), shape=(m, n))
    turned = found.tocsc()
    return _tensor(found, (m, n)), _tensor(turned, (n, m))


def _tensor(parts: scipy.sparse.csr_array | scipy.sparse.csc_array, shape: tuple[int, int]) -> Tensor:
    indptr, indices, data = (torch.from_numpy(getattr(parts, name)) for name in ("indptr", "indices", "data"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse tensors a beta
        return torch.sparse_csr_tensor(indptr, indices, data, shape, check_invariants=False)
