"""The form of a Newton system: sparse, dense, or by products with the Hessian."""

from __future__ import annotations

from torch import Tensor

from precond.core import Operator
from precond.core.materialize import LIMIT, materialize, sparse_entries
from precond.math.sparse.kkt_pattern import Patterns
from precond.programs.newton import DenseNewton, Newton, SparseNewton
from precond.programs.projected import ProjectedNewton, entries_or_dense, scaled_rows


def newton_system(
    hessian: Operator, jacobian: Operator, diagonal: Tensor, rows: Tensor, loss: float, right: Tensor, dense: int,
    patterns: Patterns | None = None,
) -> Newton:  # fmt: skip
    """Return the system of the scaled problem in the form that its operators allow.

    Args:
        hessian: Of the Lagrangian, ``[n, n]``.
        jacobian: ``[m, n]``.
        diagonal: Added to the scaled Hessian, ``[n]``.
        rows: Factors of the constraints, ``[m]``.
        loss: Factor of the Hessian.
        right: The first right-hand side that it will be solved for, ``[n + m]``.
        dense: Side up to which a system without entries is made dense.
        patterns: What is known of the sparse systems before this one.

    Returns:
        The system: sparse where both have entries; dense where it is small; else the Hessian by products, with the
        Jacobian's entries.

    Raises:
        IncompatibleError: The Jacobian has no entries, and a dense one would take more than the limit on memory.
    """
    h, g = sparse_entries(hessian), sparse_entries(jacobian)
    if h is not None and g is not None:
        return SparseNewton(h * loss, scaled_rows(g, rows), diagonal, patterns)
    if hessian.shape[0] + jacobian.shape[0] <= dense:
        matrix = materialize(hessian) * loss
        return DenseNewton((matrix + matrix.mT) / 2 + diagonal.diag(), materialize(jacobian) * rows[:, None])
    return ProjectedNewton(hessian, entries_or_dense(jacobian, rows, LIMIT // 4), diagonal, loss, right)
