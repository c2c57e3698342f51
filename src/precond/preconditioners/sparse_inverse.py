"""The inverse of a sparse positive semidefinite matrix plus any shift, by a sparse factorization for each."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Evidence, Health, Need, Operator, Preconditioner, Scope, Traits
from precond.core.materialize import materialize
from precond.math.sparse.kkt_pattern import Factors, KKTPattern, Patterns

Array = np.ndarray[Any, Any]

LEAST = 1e-15
"""The first shift beside the one asked for where rounding makes the matrix indefinite; then a hundred times more."""
TRIALS = 8


@dataclasses.dataclass
class SparseInverseState:
    """State of `SparseInverse`: the identity before anything was observed.

    Attributes:
        scale: ``d``, what the variables are multiplied by, ``[batch, n]``.
        operator: The operator last observed.
        pattern: Where ``D^-1 B D^-1`` has entries; ``None`` for the identity.
        data: Its entries.
        patterns: What is known of matrices like this one, so that their order of elimination is found once.
    """

    scale: Tensor
    operator: Operator | None = None
    pattern: KKTPattern | None = None
    data: Array = dataclasses.field(default_factory=lambda: np.empty(0))
    patterns: Patterns = dataclasses.field(default_factory=Patterns)


@final
@dataclasses.dataclass(frozen=True)
class SparseInverse(Preconditioner[SparseInverseState]):
    """``(B + shift D^2)^-1`` of a sparse semidefinite matrix, of which there is one for all members of a batch.

    ``d_i`` is the largest ``sqrt(B_ii)`` observed so far (J. J. More, *The Levenberg-Marquardt algorithm*, 1978), 1
    where that is zero. ``D^-1 B D^-1 + shift I`` is factorized with pivots from the diagonal at each `apply`, on the
    CPU in double precision; where it is singular to rounding the shift is raised until it is not. Operators that are
    not sparse are made so, entry by entry.
    """

    needs: ClassVar[Need] = Need.OPERATOR
    scope: ClassVar[Scope] = Scope.GLOBAL
    traits: ClassVar[Traits] = Traits(shiftable=True)

    def init(self, like: Tensor) -> SparseInverseState:
        """Start as the identity."""
        return SparseInverseState(torch.zeros_like(like))

    def observe(self, state: SparseInverseState, evidence: Evidence) -> None:
        """Keep the operator."""
        state.operator = evidence.operator

    def refresh(self, state: SparseInverseState) -> Health:
        """Take the entries of the operator last observed; a matrix that is not finite changes nothing."""
        if state.operator is None:
            return Health()
        entries = state.operator.entries()
        if entries is None:
            entries = scipy.sparse.csr_array(materialize(state.operator).numpy(force=True))
        if not bool(np.isfinite(entries.data).all()):
            return Health(len(state.scale), "the matrix is not finite")
        lengths = torch.from_numpy(np.sqrt(np.maximum(entries.diagonal(), 0.0))).to(state.scale)
        torch.maximum(state.scale, lengths.expand_as(state.scale), out=state.scale)
        n = entries.shape[0]
        d = _positive(state.scale)[0].numpy(force=True).astype(np.float64)
        empty = scipy.sparse.csr_array((0, n))
        pattern = state.patterns.of(entries, empty)
        matrix = pattern.assemble(entries.astype(np.float64), empty, np.zeros(n))
        state.pattern, state.data = pattern, matrix.data / d[pattern.indices] / d[pattern.columns]
        return Health()

    def apply(self, state: SparseInverseState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift D^2)^-1 v``."""
        d = _positive(state.scale)
        if state.pattern is None:
            return v / (1 + shift)
        factors = _definite(state.pattern, state.data, shift)
        rows = (v / d).numpy(force=True).astype(np.float64)
        solved = np.array([factors.solve(row) for row in rows]).reshape(rows.shape)
        return torch.from_numpy(solved).to(v) / d

    def metric(self, state: SparseInverseState, v: Tensor) -> Tensor:
        """Return ``D^2 v``."""
        return _positive(state.scale).square() * v


def _positive(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)


def _definite(pattern: KKTPattern, data: Array, shift: float) -> Factors:
    """Return factors of a matrix with these entries and the least shift of the diagonal that makes it definite."""
    size = float(np.abs(data).max(initial=0.0)) or 1.0
    for trial in range(-1, TRIALS):
        shifted = data.copy()
        shifted[pattern.diagonal] += shift + (size * LEAST * 100.0**trial if trial >= 0 else 0.0)
        try:
            found = pattern.factorize(shifted)
        except RuntimeError:  # exactly singular
            continue
        if found.inertia() == (pattern.n, 0):
            return found
    identity = np.zeros_like(data)  # not semidefinite, by far
    identity[pattern.diagonal] = size + shift
    return pattern.factorize(identity)
