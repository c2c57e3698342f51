"""The inverse of a sparse symmetric matrix by one factorization, shifted where the matrix is not definite."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.core.materialize import sparse_entries
from precond.math.sparse.kkt_pattern import Factors, KKTPattern, Patterns
from precond.preconditioners.shifts import refuse_shift

Array = np.ndarray[Any, Any]

LEAST = 1e-3
"""The first shift that is tried, where the largest entries of all columns are near 1."""
TRIALS = 40
"""Factorizations of one matrix at most; each shift is four times the one before."""
PIVOT = 1e-13
"""Smallest pivot, where the largest entries are near 1, that is no rounding."""


@dataclasses.dataclass
class SparseCholeskyState:
    """State of `SparseCholesky`: ``apply(v) = S F^-1 S v``; the identity while there are no factors.

    Attributes:
        operator: The operator last observed.
        factors: Factors of ``S B S + shift I``.
        scale: The diagonal of ``S``, ``[n]``.
        shift: The last shift that was needed; the next matrix that needs one is tried with a quarter of it.
        patterns: What is known of matrices like this one, so that their order of elimination is found once.
    """

    operator: Operator | None = None
    factors: Factors | None = None
    scale: Array = dataclasses.field(default_factory=lambda: np.empty(0))
    shift: float = 0.0
    patterns: Patterns = dataclasses.field(default_factory=Patterns)


@final
@dataclasses.dataclass(frozen=True)
class SparseCholesky(Preconditioner[SparseCholeskyState]):
    """``(B + E)^-1`` for a sparse symmetric matrix, of which there is one for all members of a batch.

    The matrix is equilibrated and factored with pivots from the diagonal, whose signs tell whether it is positive
    definite. Where it is not, a multiple of the identity is added to the equilibrated matrix, four times more at each
    trial (J. Nocedal, S. Wright, *Numerical Optimization*, 2006, algorithm 3.3), so that ``E`` is as large as the
    variables are. Factors are computed on the CPU in double precision.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL
    traits: ClassVar[Traits] = Traits()

    def init(self, like: Tensor) -> SparseCholeskyState:
        """Start as the identity."""
        return SparseCholeskyState()

    def observe(self, state: SparseCholeskyState, evidence: Evidence) -> None:
        """Keep the operator."""
        state.operator = evidence.operator

    def refresh(self, state: SparseCholeskyState) -> Health:
        """Factor the operator last observed; one without sparse entries, or that is not finite, changes nothing."""
        entries = None if state.operator is None else sparse_entries(state.operator)
        if entries is None:
            return Health()
        if not bool(np.isfinite(entries.data).all()):
            return Health(1, "the matrix is not finite")
        n = entries.shape[0]
        pattern = state.patterns.of(entries, scipy.sparse.csr_array((0, n)))
        matrix = pattern.assemble(entries, scipy.sparse.csr_array((0, n)), np.zeros(n))
        scale = pattern.equilibrate(matrix.data)
        data = matrix.data * scale[pattern.indices] * scale[pattern.columns]
        factors, shift = _definite(pattern, data, 0.0), 0.0
        for trial in range(TRIALS):
            if factors is not None:
                break
            shift = max(LEAST, state.shift / 4) if trial == 0 else 4 * shift
            factors = _definite(pattern, data, shift)
        if factors is None:
            return Health(1, "no shift makes the matrix definite")
        state.factors, state.scale, state.shift = factors, scale, shift or state.shift
        return Health()

    def apply(self, state: SparseCholeskyState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + E)^-1 v``."""
        refuse_shift(self, shift)
        if state.factors is None:
            return v.clone()
        factors, scale = state.factors, state.scale
        rows = [scale * factors.solve(scale * row) for row in v.numpy(force=True).astype(np.float64)]
        return torch.from_numpy(np.array(rows).reshape(v.shape)).to(v)


def _definite(pattern: KKTPattern, data: Array, shift: float) -> Factors | None:
    """Return factors of a matrix with these entries, shifted; ``None`` if it is not definite beyond rounding."""
    if shift:
        data = data.copy()
        data[pattern.diagonal] += shift
    try:
        found = pattern.factorize(data)
    except RuntimeError:  # exactly singular
        return None
    pivots = found.found.U.diagonal()
    return found if found.inertia() == (pattern.n, 0) and pivots.min(initial=1.0) > PIVOT else None
