"""The triangles of successive over-relaxation."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from precond.math.sparse.sweeps import Array, Sweep, arrays, sweep


def relaxation(
    matrix: scipy.sparse.csr_array, omega: float, *, symmetric: bool = True
) -> tuple[Sweep, Sweep, tuple[Array, Array, Array], int]:
    """Return what `two_sweeps` needs for a sweep of SOR, or for one forth and one back (SSOR).

    With ``A = L + D + U``: forth alone is ``(D / omega + L)^-1``, both are
    ``omega (2 - omega) (D + omega U)^-1 D (D + omega L)^-1``.

    Args:
        matrix: Square.
        omega: Relaxation.
        symmetric: Sweep forth and back.

    Returns:
        ``omega D^-1 L`` and ``omega D^-1 U`` (empty unless symmetric), the three diagonals, and how many zeros on the
        diagonal were taken as one.
    """
    diagonal = matrix.diagonal()
    zeros = int((diagonal == 0).sum())
    diagonal = np.where(diagonal == 0, 1, diagonal).astype(matrix.dtype)
    scaled = scipy.sparse.diags_array((omega / diagonal).astype(matrix.dtype)) @ matrix
    lower = arrays(scipy.sparse.tril(scaled, -1))
    upper = arrays(
        scipy.sparse.triu(scaled, 1) if symmetric else scipy.sparse.csr_array(matrix.shape, dtype=matrix.dtype)
    )
    one = np.ones_like(diagonal)
    none = one[:0]
    first = omega * (2 - omega) / diagonal if symmetric else omega / diagonal
    return sweep(lower, -1), sweep(upper, 1), (first.astype(matrix.dtype), one, none), zeros
