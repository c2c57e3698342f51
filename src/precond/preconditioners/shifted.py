"""Incomplete Cholesky factorizations that are shifted until they exist."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from precond.core import Evidence, Health, IncompatibleError, Traits
from precond.math.sparse.domains import Domains
from precond.math.sparse.sweeps import Array, Triangle, cholesky_sweeps
from precond.preconditioners.triangles import Swept, TrianglesState

_log = logging.getLogger(__name__)


Factor = Callable[[float], tuple[Triangle, int]]
"""Maps a shift to the rows of ``L``, each ending with its diagonal entry, and to the row that failed (-1: none)."""


class IncompleteCholesky(Swept, abc.ABC):
    """``apply(v) = S L^-H L^-1 S v`` with ``S A S + alpha I ~ L L^H`` and ``S = |diag(A)|^-1/2``."""

    first_shift: float
    """The first ``alpha`` that is tried after a breakdown."""
    domains: int | None
    """Domains into which the matrix is cut."""

    @property
    def traits(self) -> Traits:
        """Symmetric and positive definite, always."""
        return Traits()

    def observe(self, state: TrianglesState, evidence: Evidence) -> None:
        """Take the matrix; refuse one that is known not to be symmetric."""
        super().observe(state, evidence)
        assert state.operator is not None
        if state.operator.traits.symmetric is False:
            name = type(self).__name__.lower()
            raise IncompatibleError(
                f"{name} needs a symmetric matrix, this is not: use preconditioner='ilut', 'ilu0' or 'ssor'"
            )

    def refresh(self, state: TrianglesState) -> Health:
        """Factor the matrix, with the smallest shift of the sequence that works."""
        matrix, domains = state.matrix(self.domains)
        if matrix is None:
            return Health()
        scale = unit_scale(matrix)
        factor = self.factorization(matrix, scale, domains)
        return factor_with_shifts(state, factor, scale, domains, self.first_shift, type(self).__name__.lower())

    @abc.abstractmethod
    def factorization(self, matrix: scipy.sparse.csr_array, scale: Array, domains: Domains | None) -> Factor:
        """Return what factors ``S A S`` with a shift.

        Args:
            matrix: ``A``, with sorted columns.
            scale: The diagonal of ``S``.
            domains: Where domains of the matrix end, if it has any.

        Returns:
            The factorization.
        """


def unit_scale(matrix: scipy.sparse.csr_array) -> Array:
    """Return ``|diag(A)|^-1/2``, one where the diagonal is zero."""
    diagonal = np.abs(matrix.diagonal())
    scale: np.ndarray[Any, Any] = 1 / np.sqrt(np.where(diagonal == 0, 1, diagonal))
    return scale.astype(diagonal.dtype)


def factor_with_shifts(
    state: TrianglesState, factor: Factor, scale: Array, domains: Domains | None, first_shift: float, name: str
) -> Health:
    """Factor ``S A S + alpha I ~ L L^H`` with the smallest ``alpha`` of a sequence that works, and keep the sweeps.

    The sequence is zero, ``first_shift``, twice that and so on; a state that was shifted before begins with half of its
    last shift (T. A. Manteuffel, 1980; warm starts as in C.-J. Lin and J. J. More, 1999).

    Args:
        state: Where the sweeps and the shift are kept.
        factor: Factors with a shift.
        scale: The diagonal of ``S``.
        domains: The order of the matrix.
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
    state.shift, state.domains = shift, domains
    if first_failure < 0 and shift == 0:
        return Health()
    _log.info("%s: pivot %d was not positive, shifted by %g", name, first_failure, shift)
    return Health(detail=f"{name}: the diagonal was shifted by {shift:g} times itself to keep the pivots positive")
