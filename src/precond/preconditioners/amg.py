"""Algebraic multigrid: one symmetric cycle over levels that are found from the entries of the matrix."""

from __future__ import annotations

import dataclasses
import logging
from typing import ClassVar, Literal, final

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Evidence,
    Health,
    IncompatibleError,
    Need,
    Operator,
    Preconditioner,
    Scope,
    Traits,
    require,
)
from precond.math.sparse.aggregation import low_energy, smoothed_prolongation
from precond.math.sparse.multigrid import Hierarchy, Sparse, cycle, galerkin, hierarchy
from precond.preconditioners.shifts import refuse_shift
from precond.preconditioners.triangles import operator_with_entries

_log = logging.getLogger(__name__)
_levels = 25
_dense = 2000  # unknowns of the coarsest level at most, where coarsening comes to a halt before
_near = 0.3  # relative change of the entries up to which prolongations are kept


@dataclasses.dataclass
class AMGState:
    """State of `AMG`; the identity while empty.

    Attributes:
        operator: The operator seen last.
        levels: What the cycle needs.
        prolongations: From each level but the finest to the one before.
        made_for: The matrix that the prolongations were made for.
    """

    operator: Operator | None = None
    levels: Hierarchy | None = None
    prolongations: list[Sparse] = dataclasses.field(default_factory=list)
    made_for: Sparse | None = None


@final
@dataclasses.dataclass(frozen=True)
class AMG(Preconditioner[AMGState]):
    """One V(1, 1) cycle of algebraic multigrid, Gauss-Seidel forth before the coarse correction and back after it.

    Coarse levels are Galerkin products ``A_{l+1} = P_l^H A_l P_l``; the coarsest is solved by its pseudoinverse. By the
    symmetry of the sweeps the map is symmetric, and definite where the matrix is.

    ``coarsening="smoothed-aggregation"`` groups strongly connected unknowns and smooths the piecewise constant
    prolongation; ``"ruge-stuben"`` is the classical splitting into coarse and fine points, which PyAMG does.

    A matrix that changes by little (less than a third of its norm, on the same pattern) keeps its prolongations: only
    the Galerkin products are taken anew. Levels rest in single precision, vectors do not.

    Attributes:
        coarsening: How coarse levels are found.
        strength: Connections weaker than this, relative to the diagonal, do not count on the finest level; halved
            from level to level by smoothed aggregation. Zero: every entry counts.
        coarsest: Levels of at most so many unknowns are not coarsened further.
    """

    coarsening: Literal["smoothed-aggregation", "ruge-stuben"] = "smoothed-aggregation"
    strength: float = 0.08
    coarsest: int = 100

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.coarsening not in ("smoothed-aggregation", "ruge-stuben"):
            raise BadInputError(f"amg has coarsening='smoothed-aggregation' or 'ruge-stuben', not {self.coarsening!r}")
        if not 0 <= self.strength < 1 or self.coarsest < 1:
            raise BadInputError(f"amg needs 0 <= strength < 1 and coarsest >= 1, not {self.strength}, {self.coarsest}")

    @property
    def traits(self) -> Traits:
        """Symmetric, and definite for a definite matrix."""
        return Traits()

    def init(self, like: Tensor) -> AMGState:
        """Start as the identity."""
        return AMGState()

    def observe(self, state: AMGState, evidence: Evidence) -> None:
        """Take the matrix; refuse one that is known not to be symmetric."""
        operator = operator_with_entries(evidence, "amg")
        if operator.traits.symmetric is False:
            raise IncompatibleError("amg needs a symmetric matrix, this is not: use preconditioner='ilu0' or 'ilut'")
        if self.coarsening == "ruge-stuben":
            if operator.dtype.is_complex:
                raise IncompatibleError("ruge-stuben needs a real matrix, this is complex: use preconditioner='amg'")
            require("pyamg")
        state.operator = operator

    def refresh(self, state: AMGState) -> Health:
        """Find the levels, or only their matrices where the prolongations still serve."""
        matrix = None if state.operator is None else state.operator.entries()
        if matrix is None:
            return Health()
        if not matrix.has_sorted_indices:
            matrix = matrix.sorted_indices()
        with np.errstate(all="ignore"):
            kept = _is_near(matrix, state.made_for)
            prolongations = state.prolongations if kept else None
            matrices = [matrix] if prolongations is None else galerkin(matrix, prolongations)
            if prolongations is None:
                prolongations = self._coarsen(matrices)
            try:
                levels = hierarchy(matrices, prolongations)
            except np.linalg.LinAlgError as error:
                return Health(failures=1, detail=f"amg: the coarsest level failed ({error}); the last levels are kept")
        if not np.isfinite(levels.coarsest).all():
            return Health(failures=1, detail="amg: a coarse level is not finite; the last levels are kept")
        state.levels, state.prolongations = levels, prolongations
        state.made_for = state.made_for if kept else matrix
        sizes = [level.shape[0] for level in matrices]
        _log.debug("amg: levels of %s unknowns, prolongations %s", sizes, "kept" if kept else "new")
        return Health()

    def _coarsen(self, matrices: list[Sparse]) -> list[Sparse]:
        """Return the prolongations for a matrix, and append those of the coarse levels to the list that it is in."""
        if matrices[0].shape[0] <= self.coarsest:
            return []
        if self.coarsening == "ruge-stuben":
            found = self._classical(matrices[0])
            matrices.extend(galerkin(matrices[0], found)[1:])
        else:
            found = self._aggregated(matrices)
        if matrices[-1].shape[0] > _dense:  # relaxed only: a dense solve would take too long
            found.append(scipy.sparse.csr_array((matrices[-1].shape[0], 0), dtype=matrices[0].dtype))
            matrices.append(scipy.sparse.csr_array((0, 0), dtype=matrices[0].dtype))
        return found

    def _aggregated(self, matrices: list[Sparse]) -> list[Sparse]:
        """Return the prolongations of smoothed aggregation, and append the matrices of the coarse levels."""
        found, threshold, candidate = list[Sparse](), self.strength, low_energy(matrices[0])
        while matrices[-1].shape[0] > self.coarsest and len(found) < _levels:
            step = smoothed_prolongation(matrices[-1], candidate, threshold)
            if step is None or step[0].shape[1] > 0.9 * matrices[-1].shape[0]:
                break
            found.append(step[0])
            matrices.append(galerkin(matrices[-1], found[-1:])[1])
            candidate, threshold = step[1], threshold / 2
        return found

    def _classical(self, matrix: Sparse) -> list[Sparse]:
        """Return the prolongations of PyAMG's Ruge-Stuben coarsening."""
        pyamg = require("pyamg")
        narrow = scipy.sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        solver = pyamg.ruge_stuben_solver(
            narrow, strength=("classical", {"theta": max(self.strength, 0.0)}), max_coarse=self.coarsest,
            max_levels=_levels, presmoother=None, postsmoother=None,
        )  # fmt: skip
        return [scipy.sparse.csr_array(level.P).astype(matrix.dtype) for level in solver.levels[:-1]]

    def apply(self, state: AMGState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return one cycle for each row of ``v``."""
        refuse_shift(self, shift)
        if state.levels is None:
            return v
        swept = cycle(state.levels, v.contiguous().numpy(force=True))
        return torch.from_numpy(swept) if v.device.type == "cpu" else torch.from_numpy(swept).to(v.device)


def _is_near(matrix: Sparse, before: Sparse | None) -> bool:
    """Whether a matrix has the pattern of the one before, and nearly its entries."""
    if before is None or matrix.dtype != before.dtype or matrix.shape != before.shape or matrix.nnz != before.nnz:
        return False
    if not (np.array_equal(matrix.indptr, before.indptr) and np.array_equal(matrix.indices, before.indices)):
        return False
    size = float(np.linalg.norm(before.data))
    return bool(np.linalg.norm(matrix.data - before.data) <= _near * size)
