"""A complete sparse LU factorization as a preconditioner: exact for its own matrix, good for those nearby."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import Evidence, Health, IncompatibleError, Need, Operator, Preconditioner, Scope, Traits
from precond.math.dense import elsewhere as dense_elsewhere
from precond.math.dense import matrix as dense
from precond.math.sparse.complete import extents, has_symmetric_pattern
from precond.math.sparse.complete_factors import CompleteFactors
from precond.math.sparse.scaling import by_diagonal, equilibrated, equilibrated_array
from precond.preconditioners.triangles import operator_with_entries

_log = logging.getLogger(__name__)
_spread = 1e3  # ratio of the largest entries of two rows or columns from which on the matrix is scaled
_accurate = 1e-6  # relative residual of one solve, above which a factorization is not believed
_small = 1.01  # size of entries beside a diagonal of ones, as definite matrices have, that promises pivots there
_tiny = 128  # unknowns up to which the factors of a sparse matrix cost less where it is taken for a dense one
_crowd = 10  # entries of a line, in square roots of all unknowns, above which it counts as full
_symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.1, "options": {"SymmetricMode": True}}


Array = np.ndarray[Any, Any]


@dataclasses.dataclass
class LUState:
    """``apply(v) = S_c (S_r A S_c)^-1 S_r v``; the identity while empty.

    Attributes:
        operator: The operator seen last.
        factors: Of the sparse matrix, scaled.
        scales: Scalings ``(S_r, S_c)`` of rows and columns, where the matrix needs them.
        dense: The factors of a dense matrix, in place of these.
    """

    operator: Operator | None = None
    factors: CompleteFactors | None = None
    scales: tuple[Array, Array] | None = None
    dense: dense_elsewhere.Solves | None = None


@final
@dataclasses.dataclass(frozen=True)
class LU(Preconditioner[LUState]):
    """``Pr A Pc = L U`` by SuperLU, applied by compiled sweeps; of a dense matrix by LAPACK.

    For one system this is a direct solver, corrected by the iteration. It is worth its setup in a sequence of systems:
    the factors of one matrix bring a Krylov method for a matrix nearby to its tolerance in a few steps.

    A matrix whose pattern is symmetric and whose diagonal is large is ordered by minimum degree of ``A + A^T`` with
    pivots near the diagonal, which fills in half as much as the ordering of columns that other matrices, and those
    where this turns out to be inaccurate, get; where the diagonal is small it fills in hundreds of times as much. Rows
    and columns whose sizes differ by more than a factor of 1000 are scaled first, by the diagonal where that is large.
    A singular matrix is factored with a small multiple of the identity added, and reported.

    A matrix of few unknowns is taken for a dense one, which is factored in single precision where that gives a vector
    back to a hundredth, which a few iterations make up for (`precond.math.dense.matrix.complete_factors`), by Cholesky
    where it is symmetric and definite; by torch, where it lives, on a device that is not the processor.
    """

    needs: ClassVar[Need] = Need.OPERATOR | Need.ENTRIES
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Linear and fixed."""
        return Traits(symmetric=False, definite=False)

    def init(self, like: Tensor) -> LUState:
        """Start as the identity."""
        return LUState()

    def observe(self, state: LUState, evidence: Evidence) -> None:
        """Take the matrix."""
        state.operator = operator_with_entries(evidence, "lu")

    def refresh(self, state: LUState) -> Health:
        """Factor the matrix."""
        operator = state.operator
        if operator is not None and (array := operator.dense()) is not None:
            return _refresh_dense(state, operator, array)
        matrix = None if operator is None else operator.entries()
        if matrix is None:
            return Health()
        state.dense = None
        if matrix.shape[0] <= _tiny and operator is not None and operator.device.type == "cpu":
            few, left, right = equilibrated_array(matrix.toarray())
            found = dense.complete_factors(few, definite=False)
            if found is not None:
                state.dense, state.scales = _by_lapack(found), (left, right)
                return Health()
        balanced = _Balanced.of(matrix)
        matrix, symmetric = balanced.matrix, balanced.symmetric
        largest = float(np.abs(matrix.data).max(initial=0)) or 1.0
        for shift in (
            *(() if balanced.empty else (0.0,)),
            1e-10,
            1e-6,
            1e-3,
            1.0,
        ):  # SuperLU prints where lines are empty
            lu = _factored(_shifted(matrix, shift * largest) if shift else matrix, symmetric=symmetric)
            if lu is not None:
                break
        if lu is None:
            return Health(failures=1, detail="lu: the matrix could not be factored; the last factors are kept")
        state.factors = CompleteFactors(lu)
        state.scales = balanced.scales
        return Health(detail=_told(shift) if shift else "")

    def apply(self, state: LUState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Solve with ``L``, then with ``U``."""
        if shift != 0:
            raise IncompatibleError("lu accepts no shift: use jacobi or identity")
        if state.dense is not None:
            return _scaled(state.dense.solve(_scaled(v, state.scales, 0)), state.scales, 1)
        if state.factors is None:
            return v
        return _scaled(_by_rows(state.factors.solve, _scaled(v, state.scales, 0)), state.scales, 1)

    def apply_adjoint(self, state: LUState, v: Tensor) -> Tensor:
        """Solve with ``U^H``, then with ``L^H``."""
        if state.dense is not None:
            return _scaled(state.dense.adjoint(_scaled(v, state.scales, 1)), state.scales, 0)
        if state.factors is None:
            return v
        return _scaled(_by_rows(state.factors.adjoint, _scaled(v, state.scales, 1)), state.scales, 0)


def _refresh_dense(state: LUState, operator: Operator, tensor: Tensor) -> Health:
    """Factor a dense matrix, where it lives."""
    state.scales = None
    matrix = tensor.resolve_conj()
    definite = bool(operator.traits.symmetric) and operator.traits.definite is not False
    factors, shift = _complete(matrix, definite=definite), 0.0
    largest = float(matrix.abs().max()) or 1.0
    while factors is None and shift < 1:
        shift = max(1e-10, 1e3 * shift)
        one = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        factors = _complete(matrix + (shift * largest) * one, definite=False)
    if factors is None:
        return Health(failures=1, detail="lu: the matrix could not be factored; the last factors are kept")
    state.dense = factors
    return Health(detail=_told(shift) if shift else "")


def _complete(matrix: Tensor, *, definite: bool) -> dense_elsewhere.Solves | None:
    """Return the factors of a dense matrix: by LAPACK on the processor, by torch elsewhere."""
    if matrix.device.type != "cpu":
        return dense_elsewhere.complete_factors(matrix, definite=definite)
    found = dense.complete_factors(np.ascontiguousarray(matrix.numpy(force=True)), definite=definite)
    if found is None:
        return None
    return _by_lapack(found)


def _by_lapack(found: dense.Factors) -> dense_elsewhere.Solves:
    """Return the maps of LAPACK's factors on rows of vectors."""
    return dense_elsewhere.Solves(
        functools.partial(_by_columns, found.solve), functools.partial(_by_columns, found.adjoint)
    )


def _by_columns(solve: dense.Map, v: Tensor) -> Tensor:
    """Return the map of each row of ``v``."""
    rows = v.resolve_conj().numpy(force=True)
    found = solve(rows[0])[None] if len(rows) == 1 else solve(np.ascontiguousarray(rows.T)).T
    return torch.from_numpy(np.ascontiguousarray(found))


def _shifted(matrix: scipy.sparse.csr_array, shift: float) -> scipy.sparse.csr_array:
    """Return the matrix with a multiple of the identity added."""
    return scipy.sparse.csr_array(matrix + shift * scipy.sparse.eye_array(matrix.shape[0], dtype=matrix.dtype))


def _told(shift: float) -> str:
    return f"lu: singular, {shift:g} times the largest entry was added to the diagonal"


def _scaled(v: Tensor, scales: tuple[Array, Array] | None, which: int) -> Tensor:
    """Return vectors times a scaling, if there is one."""
    return v if scales is None else v * torch.from_numpy(scales[which]).to(v.device)


@dataclasses.dataclass(frozen=True)
class _Balanced:
    """A matrix as SuperLU gets it.

    Attributes:
        matrix: Scaled, where its lines differ by much in size.
        scales: Of rows and columns, where there are any.
        empty: Whether a line is empty.
        symmetric: Whether pivots may be expected to stay near the diagonal, and the pattern is symmetric.
    """

    matrix: scipy.sparse.csr_array
    scales: tuple[Array, Array] | None
    empty: bool
    symmetric: bool

    @staticmethod
    def of(matrix: scipy.sparse.csr_array) -> _Balanced:
        """Scale a matrix, by its diagonal where that is large."""
        spread, empty = 1.0, False
        for sizes in extents(matrix):
            some = sizes[sizes > 0]
            empty = empty or some.size < sizes.size
            spread = max(spread, float(some.max() / some.min()) if some.size else 1.0)
        even = _is_even(matrix)
        found = by_diagonal(matrix, _small) if even else None
        if spread < _spread:
            return _Balanced(matrix, None, empty, found is not None)
        if found is not None:
            return _Balanced(found[0], (found[1], found[1]), empty, symmetric=True)
        scaled, left, right = equilibrated(matrix)
        return _Balanced(scaled, (left, right), empty, even and by_diagonal(scaled, _small) is not None)


def _is_even(matrix: scipy.sparse.csr_array) -> bool:
    """Whether the pattern is symmetric, and no unknown meets most others: the ordering of columns finds such sooner."""
    crowd = _crowd * math.sqrt(matrix.shape[0])
    return int(np.diff(matrix.indptr).max(initial=0)) <= crowd and has_symmetric_pattern(matrix)


def _by_rows(solve: Callable[[Array], Array], v: Tensor) -> Tensor:
    """Return the map of the rows of ``v`` on the processor, where ``v`` lives."""
    return torch.from_numpy(solve(v.resolve_conj().numpy(force=True))).to(v.device)


def _factored(matrix: scipy.sparse.csr_array, *, symmetric: bool) -> Any:
    """Return SuperLU's factors, or ``None`` where they do not exist or are no use."""
    probe = np.ones(matrix.shape[0], matrix.dtype)
    image, columns = matrix @ probe, matrix.tocsc()
    for options in [_symmetric, {}] if symmetric else [{}]:
        try:
            lu = scipy.sparse.linalg.splu(columns, **options)
        except (RuntimeError, MemoryError) as error:
            _log.debug("lu: %s", error)
            continue
        with np.errstate(all="ignore"):
            residual = np.linalg.norm(matrix @ lu.solve(image) - image)
        tolerance = max(_accurate, 100 * float(np.finfo(matrix.dtype).eps))
        if residual <= tolerance * np.linalg.norm(image):
            return lu
    return None
