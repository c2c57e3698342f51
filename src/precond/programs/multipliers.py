"""Multipliers that fit a point best."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Site
from precond.core.materialize import fits, materialize, sparse_entries
from precond.krylov.lsmr import LSMR
from precond.krylov.run import run
from precond.operators.function import FunctionOperator
from precond.programs.newton import SparseNewton

DENSE = 2**27
"""Bytes up to which the Jacobian is made dense for this."""
HUGE = 1e3
"""Multipliers above this come from nearly dependent constraints, and none are better than they."""


def least_squares_multipliers(site: Site, gradient: Tensor | None = None, largest: float = HUGE) -> Tensor:
    """Return ``lambda`` of least ``||gradient + J' lambda||``, ``[m]``; zero where it is larger than ``largest``.

    Args:
        site: The point.
        gradient: What to balance, ``[n]``; the gradient of the objective unless given.
        largest: Bound on the entries.

    Returns:
        The multipliers.
    """
    gradient = site.gradient if gradient is None else gradient
    m = site.constraints.numel()
    if m == 0 or gradient.numel() == 0 or not bool(torch.isfinite(gradient).all()):
        return torch.zeros_like(site.constraints)
    matrix = sparse_entries(site.jacobian)
    if matrix is not None:
        if not np.isfinite(matrix.data).all():
            return torch.zeros_like(site.constraints)
        n = gradient.numel()
        solver = SparseNewton(scipy.sparse.csr_array((n, n)), matrix, torch.ones_like(gradient)).attempt(0.0, 0.0)
        if solver is None:
            return torch.zeros_like(site.constraints)
        found = solver.solve(torch.cat([-gradient, torch.zeros_like(site.constraints)]))[n:]
    elif fits(site.jacobian, DENSE):
        rows = materialize(site.jacobian)
        if not bool(torch.isfinite(rows).all()):
            return torch.zeros_like(site.constraints)
        found = -(torch.linalg.pinv(rows.mT, rtol=1e-12) @ gradient)
    else:
        jacobian = site.jacobian
        transposed = FunctionOperator(
            jacobian.rmatvec, (gradient.numel(), m), rmatvec=jacobian.matvec, dtype=gradient.dtype,
            device=gradient.device,
        )  # fmt: skip
        bound = 1e-8 * float(gradient.norm())
        progress, _ = run(
            LSMR(), transposed, -gradient[None], lambda v: v, gradient.new_zeros(1, m),
            stop=lambda p: p.normal is not None and bool((p.normal <= bound).all()), max_iterations=200,
        )  # fmt: skip
        found = progress.solution()[0]
    usable = bool(torch.isfinite(found).all()) and float(found.abs().max()) <= largest
    return found if usable else torch.zeros_like(found)
