"""The smallest curvature along the constraints at a point that claims to be a minimum under them."""

from __future__ import annotations

import scipy.sparse
import torch
from torch import Tensor

from precond.core import Iterate, Program
from precond.core.materialize import fits, materialize, sparse_entries
from precond.math.draws import normals
from precond.math.krylov.lanczos import lanczos
from precond.programs.newton import SparseNewton
from precond.programs.projected import Constraints
from precond.solvers.smooth.curvature import ASSEMBLED, Curvature

STEPS, INVERSE = 40, 10
"""Lanczos steps with the projected Hessian, and with its inverse where that is at hand."""
DENSE = 2**27
"""Bytes that a Jacobian without entries may take here."""
NEXT = 1e-4
"""Variables this near to a bound, relative to their size, count as held by it."""


def tangent_curvature(program: Program, iterate: Iterate, noise: float, whole: int = ASSEMBLED) -> Curvature | None:
    """Return the smallest curvature of the Lagrangian on the null space of the constraints that hold with equality.

    Bounds count among these where their multiplier exceeds the distance to them, or that is small. All eigenvalues are
    computed where the matrices are small. Where they are sparse the inertia of the two together tells whether there is
    negative curvature at all; else, and where there is some, Lanczos steps give an upper bound of the smallest.

    Args:
        program: The oracle.
        iterate: The point and its multipliers.
        noise: Relative error of a product with the Hessian.
        whole: Up to so many variables all eigenvalues are computed, which takes a product for each.

    Returns:
        The curvature; ``None`` where the null space is empty, or nothing can be projected on it.
    """
    site = iterate.site
    free = _free(program, iterate)
    if not bool(free.any()):
        return None
    hessian = program.hessian(site, iterate.multipliers)
    if site.x.numel() <= whole:
        return _exact(materialize(hessian), materialize(site.jacobian), free, noise)
    entries, curved = sparse_entries(site.jacobian), sparse_entries(hessian)
    mask = free.to(site.x)
    rows: scipy.sparse.csr_array | Tensor
    if entries is not None:
        within = scipy.sparse.diags_array(mask.cpu().numpy())
        rows = scipy.sparse.csr_array(entries @ within)
        if curved is not None:
            known = _definite(scipy.sparse.csr_array(within @ curved @ within), rows, mask, noise)
            if known is not None:
                return known
    elif fits(site.jacobian, DENSE):
        rows = materialize(site.jacobian) * mask
    else:
        return None
    projection = Constraints(rows, torch.ones_like(site.x), 0.0)
    if not projection.usable:
        return None

    def project(v: Tensor) -> Tensor:
        return torch.stack([projection.solve(row * mask)[0] * mask for row in v])

    start = project(normals(torch.tensor([0]), site.x[None]))
    usual = float(hessian.matvec(start).norm() / start.norm().clamp(min=1e-300))

    def product(v: Tensor) -> Tensor:  # what rounding adds outside of the null space gets a curvature like the others
        inside = project(v)
        return project(hessian.matvec(inside)) + usual * (v - inside)

    found = lanczos(product, start, min(STEPS, int(free.sum())))
    if not bool(torch.isfinite(found.diagonal).all() & torch.isfinite(found.beside).all()):
        return None
    values, vectors = found.ritz()
    direction = found.basis[0].mT @ vectors[0, :, 0]
    return Curvature(float(values[0, 0]), float(values[0].abs().max()), direction[None], False, noise)


def _definite(
    hessian: scipy.sparse.csr_array, rows: scipy.sparse.csr_array, mask: Tensor, noise: float
) -> Curvature | None:
    """Return the smallest curvature, by Lanczos steps with the inverse; ``None`` where there may be a negative one.

    There is none beyond ``noise`` if ``[[H + noise ||H|| I, J'], [J, -delta I]]``, whatever ``delta > 0``, has as many
    positive eigenvalues as there are variables.
    """
    largest = float(abs(hessian).sum(axis=1).max())
    if not 0 < largest < float("inf"):
        return None
    shift = noise * largest
    solver = SparseNewton(hessian, rows, (1 - mask) * largest).attempt(shift, 0.0)
    if solver is None:
        return None

    def inverse(v: Tensor) -> Tensor:
        return torch.stack([solver.solve(torch.cat([row * mask, row.new_zeros(rows.shape[0])]))[: len(mask)] * mask
                            for row in v])  # fmt: skip

    start = inverse(normals(torch.tensor([0]), mask[None]))
    if not float(start.norm()) > 0:
        return None
    found = lanczos(inverse, start, min(INVERSE, int(mask.sum())))
    top = float(found.ritz()[0].max())
    if not 0 < top < float("inf"):
        return None
    return Curvature(1 / top - shift, largest, torch.zeros_like(mask)[None], False, noise)


def _free(program: Program, iterate: Iterate) -> Tensor:
    """Return which variables are not held by a bound, ``[n]``; next to a bound all are held, whatever the multiplier.

    A weakly active bound stops a move in one direction, and negative curvature along a line that it cuts says nothing.
    """
    x, z = iterate.site.x, iterate.bound_multipliers
    if z is None:
        return torch.ones_like(x, dtype=torch.bool)
    distance = torch.minimum(x - program.lower, program.upper - x).clamp(min=0)
    return ~((z.abs() > distance) | (distance <= NEXT * x.abs().clamp(min=1)))


def _exact(hessian: Tensor, jacobian: Tensor, free: Tensor, noise: float) -> Curvature | None:
    h, g = ((hessian + hessian.mT) / 2)[free][:, free], jacobian[:, free]
    if not bool(torch.isfinite(h).all() and torch.isfinite(g).all()):
        return None
    if len(g):
        scale = torch.linalg.vector_norm(g, dim=1, keepdim=True)
        _, sizes, basis = torch.linalg.svd(g / torch.where(scale > 0, scale, 1.0), full_matrices=True)
        basis = basis[int((sizes > 1e-8 * sizes.max()).sum()) :] if sizes.numel() else basis
    else:
        basis = torch.eye(len(h), dtype=h.dtype, device=h.device)
    if not len(basis):
        return None
    values, vectors = torch.linalg.eigh(basis @ h @ basis.mT)
    direction = torch.zeros(1, len(free), dtype=h.dtype, device=h.device)
    direction[0, free] = vectors[:, 0] @ basis
    return Curvature(float(values[0]), float(h.abs().sum(1).max()), direction, True, max(noise, 1e-7))
