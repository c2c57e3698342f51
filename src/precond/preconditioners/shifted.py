"""Incomplete Cholesky factorizations that are shifted until they exist."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from precond.core import Health
from precond.math.incomplete import Array, Triangle, cholesky_sweeps
from precond.preconditioners.triangles import TrianglesState

_log = logging.getLogger(__name__)


def unit_scale(matrix: scipy.sparse.csr_array) -> Array:
    """Return ``|diag(A)|^-1/2``, one where the diagonal is zero."""
    diagonal = np.abs(matrix.diagonal())
    scale: np.ndarray[Any, Any] = 1 / np.sqrt(np.where(diagonal == 0, 1, diagonal))
    return scale.astype(diagonal.dtype)


def factor_with_shifts(
    state: TrianglesState, factor: Callable[[float], tuple[Triangle, int]], scale: Array, first_shift: float, name: str
) -> Health:
    """Factor ``S A S + alpha I ~ L L^H`` with the smallest ``alpha`` of a sequence that works, and keep the sweeps.

    The sequence is zero, ``first_shift``, twice that and so on; a state that was shifted before begins with half of its
    last shift (T. A. Manteuffel, 1980; warm starts as in C.-J. Lin and J. J. More, 1999).

    Args:
        state: Where the sweeps and the shift are kept.
        factor: Maps a shift to the rows of ``L``, each ending with its diagonal entry, and to the row that failed (-1:
            none).
        scale: The diagonal of ``S``.
        first_shift: The first ``alpha`` after a breakdown.
        name: Of the factorization, for the report.

    Returns:
        What was done about breakdowns.
    """
    shift = 0.0 if state.shift <= first_shift else state.shift / 2
    lower, failed = factor(shift)
    first_failure = failed
    while failed >= 0 and np.isfinite(shift):
        shift = max(2 * shift, first_shift)
        lower, failed = factor(shift)
    if failed >= 0:
        return Health(failures=1, detail=f"{name}: no shift made the pivots positive; the last factor is kept")
    state.lower, state.upper, between = cholesky_sweeps(lower, scale)
    state.scales = (between[:0], between, between[:0])
    state.shift = shift
    if first_failure < 0 and shift == 0:
        return Health()
    _log.info("%s: pivot %d was not positive, shifted by %g", name, first_failure, shift)
    return Health(detail=f"{name}: the diagonal was shifted by {shift:g} times itself to keep the pivots positive")
