"""A complete sparse LU factorization as a preconditioner: exact for its own matrix, good for those nearby."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Preconditioner, Scope, Traits
from precond.preconditioners.triangles import TrianglesState, arrays, operator_with_entries

_log = logging.getLogger(__name__)
_accurate = 1e-6  # relative residual of one solve, above which a factorization is not believed
_symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.1, "options": {"SymmetricMode": True}}


@dataclasses.dataclass
class LUState:
    """``apply(v) = C (triangles) R v`` with permutations of rows and columns.

    Attributes:
        triangles: The two factors.
        rows: Row ``i`` of the factors is row ``rows[i]`` of the matrix.
        columns: Column ``j`` of the matrix is column ``columns[j]`` of the factors.
    """

    triangles: TrianglesState
    rows: Tensor | None = None
    columns: Tensor | None = None


@final
@dataclasses.dataclass(frozen=True)
class LU(Preconditioner[LUState]):
    """``Pr A Pc = L U`` by SuperLU, applied by compiled sweeps.

    For one system this is a direct solver, corrected by the iteration. It is worth its setup in a sequence of systems:
    the factors of one matrix bring a Krylov method for a matrix nearby to its tolerance in a few steps.

    A matrix whose pattern is symmetric is ordered by minimum degree of ``A + A^T`` with pivots near the diagonal, which
    fills in half as much as the ordering of columns that other matrices, and those where this turns out to be
    inaccurate, get. A singular matrix is factored with a small multiple of the identity added, and reported.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def init(self, like: Tensor) -> LUState:
        """Start as the identity."""
        return LUState(TrianglesState())

    def observe(self, state: LUState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.triangles.operator = operator_with_entries(evidence, "lu")

    def refresh(self, state: LUState) -> Health:
        """Factor the matrix."""
        operator = state.triangles.operator
        matrix = None if operator is None else operator.entries()
        if matrix is None:
            return Health()
        largest = float(np.abs(matrix.data).max(initial=0)) or 1.0
        for shift in (0.0, 1e-10, 1e-6, 1e-3, 1.0):
            one = scipy.sparse.eye_array(matrix.shape[0], dtype=matrix.dtype)
            columns = scipy.sparse.csc_array(matrix + (shift * largest) * one if shift else matrix)
            lu = _factored(columns)
            if lu is not None:
                break
        if lu is None:
            return Health(failures=1, detail="lu: the matrix could not be factored; the last factors are kept")
        pivots = lu.U.diagonal()
        triangles = state.triangles
        triangles.lower = arrays(scipy.sparse.tril(lu.L.tocsr(), -1))
        triangles.upper = arrays(scipy.sparse.diags_array(1 / pivots) @ scipy.sparse.triu(lu.U.tocsr(), 1))
        one = np.ones_like(pivots)
        triangles.scales, triangles.shift = (one, 1 / pivots, one), shift
        state.rows = torch.from_numpy(np.argsort(lu.perm_r))
        state.columns = torch.from_numpy(lu.perm_c.astype(np.int64))
        detail = f"lu: singular, {shift:g} times the largest entry was added to the diagonal"
        return Health(detail=detail if shift else "")

    def apply(self, state: LUState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``U``."""
        if shift != 0:
            raise IncompatibleError("lu accepts no shift: use jacobi or identity")
        if state.rows is None or state.columns is None:
            return v
        return state.triangles.apply(v[:, state.rows.to(v.device)])[:, state.columns.to(v.device)]

    def apply_adjoint(self, state: LUState, v: Tensor) -> Tensor:
        """Solve with ``U^H``, then with ``L^H``."""
        if state.rows is None or state.columns is None:
            return v
        swept, out = state.triangles.apply_adjoint(v[:, _inverse(state.columns).to(v.device)]), _inverse(state.rows)
        return swept[:, out.to(v.device)]


def _factored(matrix: scipy.sparse.csc_array) -> Any:
    """Return SuperLU's factors, or ``None`` where they do not exist or are no use."""
    pattern = scipy.sparse.csc_array((np.ones(matrix.nnz, np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
    symmetric = (pattern != pattern.T).nnz == 0
    for options in [_symmetric, {}] if symmetric else [{}]:
        try:
            lu = scipy.sparse.linalg.splu(matrix, **options)
        except (RuntimeError, MemoryError) as error:
            _log.debug("lu: %s", error)
            continue
        probe = np.ones(matrix.shape[0], matrix.dtype)
        image = matrix @ probe
        with np.errstate(all="ignore"):
            residual = np.linalg.norm(matrix @ lu.solve(image) - image)
        tolerance = max(_accurate, 100 * float(np.finfo(matrix.dtype).eps))
        if residual <= tolerance * np.linalg.norm(image):
            return lu
    return None


def _inverse(permutation: Tensor) -> Tensor:
    return torch.argsort(permutation)
