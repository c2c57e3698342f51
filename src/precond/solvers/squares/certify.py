"""Certificates of nonlinear least squares: from a dense Jacobian, or from its products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.core import Certificate, Operator, Status, Work
from precond.core.materialize import materialize
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.squares.forms import ResidualForm
from precond.solvers.squares.jacobians import largest_cosine
from precond.solvers.squares.products import PROBES, column_norms
from precond.solvers.squares.residuals import SquaresObjective

CURVED = 300
"""Variables up to which a whole Hessian is formed where the Jacobian alone gives no certificate."""


def measure_dense(r: Tensor, jacobian: Tensor, x: Tensor) -> float:
    """Return the largest cosine between the residual and a column; zero where the residual vanishes to rounding."""
    if r.norm() <= 4 * torch.finfo(r.dtype).eps * _scale(jacobian, x) < math.inf:
        return 0.0
    return largest_cosine(jacobian, r)


def certify_dense(
    form: ResidualForm,
    x: Tensor,
    tol: float,
    work: Work,
    seen: SquaresObjective | None = None,
    first: Tensor | None = None,
) -> tuple[Status, Certificate, Tensor | None]:
    """Recompute residuals and Jacobian at a point, and judge.

    Differences are not taken again where the residuals are, bit for bit, what the run has seen at the point.

    Losses cannot tell points apart whose gradient is below about ``sqrt(eps)``, nor can Gauss-Newton steps end at a
    solution where a column of ``J`` vanishes. There the step of the whole Hessian, had for the certificate, is exact;
    and where that Hessian is definite and its step small, a variable without influence is at its minimum.

    Args:
        form: The problem.
        x: The point, ``[1, n]``.
        tol: Bound on the cosines.
        work: The account to charge.
        seen: The oracle of the run, if there is one that forms Jacobians.
        first: Lengths of the columns of the Jacobian at the start, ``[n]``; ``None`` computes them.

    Returns:
        What the certificate proves where it holds, the certificate, and, where it does not hold, the point after a
        small Newton step, ``[1, n]``, if the whole Hessian was had and is positive definite.
    """
    again = form.squares(work, finest=True)
    known = seen.again(x) if seen is not None else None
    r, jacobian = known or again.linearization(x)
    held = (again if known is None or seen is None else seen).held
    free = torch.ones_like(jacobian[0] if len(jacobian) else x[0], dtype=torch.bool) if held is None else ~held
    lengths = torch.linalg.vector_norm(jacobian, dim=0)
    first = torch.linalg.vector_norm(again.linearization(form.start)[1], dim=0) if first is None else first
    eps = torch.finfo(r.dtype).eps
    size, scale = float(r.double().norm()), float(_scale(jacobian, x[0]))
    extra = {"loss": size**2 / 2, "||r||": size}
    floor = eps**0.75 * scale
    if size <= floor < math.inf:
        return Status.CONVERGED_RESIDUAL, Certificate("||r||_2", size, floor, extra), None
    nearer = None
    idle = (lengths <= eps**0.75 * first) & (lengths * x[0].abs() <= eps * scale) & (first > 0) & free
    value = largest_cosine(jacobian, r)
    extra["variables without influence"] = float(idle.sum())
    certificate = Certificate("largest |J_i' r| / (|J_i| |r|)", value, float(tol), extra)
    if bool(idle.any()):
        certificate = Certificate("the same, with a variable that lost its influence", 1.0, float(tol), extra)
    elif bool(free.any()) and not bool((lengths[free] > 0).any()):
        certificate = Certificate("the same, where no variable has any influence", 1.0, float(tol), extra)
    if not certificate.holds and 0 < len(lengths) <= CURVED:
        step = _newton(form, x, r, jacobian, free, tol, work)
        if step is not None:
            left = float((r @ jacobian @ step).clamp(min=0).sqrt()) / size
            if left <= tol:
                certificate = Certificate("sqrt(g' H^-1 g) / |r|, H the whole Hessian", left, float(tol), extra)
            else:
                nearer = again.within(x - step)
    return Status.CONVERGED_GRADIENT, certificate, nearer


def _newton(
    form: ResidualForm, x: Tensor, r: Tensor, jacobian: Tensor, free: Tensor, tol: float, work: Work
) -> Tensor | None:
    """Return ``H^-1 J'r`` of the free variables, zero for the others, ``[n]``.

    ``None`` where the whole Hessian ``H`` is not definite or the step is not small.
    """
    g = (r @ jacobian)[free]
    if not bool(torch.isfinite(g).all()):
        return None
    h: Tensor | None
    if form.torch:
        try:
            objective = TorchObjective(lambda y: form.function(y).square().sum() / 2, curvature=True, work=work)
            h = materialize(objective.hessian(x))[free][:, free]
        except (RuntimeError, ValueError):  # a residual without second derivatives, in torch's words or in ours
            return None
        least = 1e-12
    else:
        h = hessian_by_differences(form, x[0], r, jacobian, free, work)
        least = 1e-6
    if h is None or not bool(torch.isfinite(h).all()) or not bool((h.diagonal() > 0).all()):
        return None
    root = h.diagonal().sqrt()
    values, vectors = torch.linalg.eigh((h + h.mT) / 2 / root / root[:, None])
    if not float(values[0]) > least:
        return None
    inside = vectors.mT @ (g / root) / values
    step = torch.zeros_like(x[0]).masked_scatter(free, (vectors @ inside) / root)
    reach = torch.maximum(x[0].abs(), form.start[0].abs())
    if not bool((step.abs() <= tol**0.5 * torch.where(reach > 0, reach, 1.0)).all()):
        return None
    return step


def hessian_by_differences(
    form: ResidualForm, x: Tensor, r: Tensor, jacobian: Tensor, free: Tensor, work: Work
) -> Tensor | None:
    """Return the Hessian ``J'J + sum_i r_i r_i''``, the sum by ``n^2 + n`` second differences of ``r . r(y)``.

    Those of two variables come from the corners on both sides of the point, so that all are of second order
    (M. Abramowitz, I. Stegun, *Handbook of mathematical functions*, 1964, 25.3.27).

    Args:
        form: The problem.
        x: The point, ``[n]``.
        r: The residuals there, ``[m]``.
        jacobian: Their Jacobian, ``[m, n]``.
        free: By which variables, ``[n]``.
        work: The account to charge.

    Returns:
        The Hessian by the free variables; ``None`` where bounds leave no room for the differences.
    """

    def along(y: Tensor) -> float:
        work.losses += 1
        work.differences += 1
        return float(r.dot(form.function(y).detach()))

    step = torch.finfo(x.dtype).eps ** (1 / 4)
    reach = torch.maximum(x.abs(), step * form.start[0].abs())  # a start that is far too large is no scale
    h = torch.diag(step * torch.where(reach > 0, reach, 1.0))[free]
    if form.box is not None and not bool((form.box.clip(both := torch.cat([x + h, x - h])) == both).all()):
        return None
    jacobian, sizes = jacobian[:, free], h.sum(1)
    here, sum_of_both = float(r.dot(r)), [along(x + move) + along(x - move) for move in h]
    bent = h.new_zeros(len(h), len(h))
    for i, both_i in enumerate(sum_of_both):
        bent[i, i] = (both_i - 2 * here) / sizes[i] / sizes[i]
        for j in range(i):
            corners = along(x + h[i] + h[j]) + along(x - h[i] - h[j])
            bent[i, j] = bent[j, i] = (corners - both_i - sum_of_both[j] + 2 * here) / 2 / sizes[i] / sizes[j]
    return jacobian.mT @ jacobian + bent


def _scale(jacobian: Tensor, x: Tensor) -> Tensor:
    """Return the largest ``|J_i| |x_i|``: how much the residuals move when a variable changes by itself."""
    moves = torch.linalg.vector_norm(jacobian, dim=0) * x.abs()
    return moves.max() if moves.numel() else jacobian.new_zeros(())


def _sizes(jacobian: Operator, x: Tensor) -> tuple[float, float]:
    """Return ``||J||_F`` and ``||J diag(x)||_F``; estimates where only products are known."""
    if jacobian.entries() is not None:
        norms = column_norms(jacobian)
        return float(norms.norm()), float((norms * x).norm())
    probes = torch.randn(PROBES, len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x)
    both = jacobian.matvec(torch.cat([probes, probes * x]))
    norms = torch.linalg.vector_norm(both, dim=1).square().reshape(2, -1).mean(1).sqrt()
    return float(norms[0]), float(norms[1])


def measure_products(r: Tensor, jacobian: Operator, x: Tensor) -> float:
    """Return ``||J'r|| / (||J||_F ||r||)``, the norm estimated; zero where the residual vanishes to rounding."""
    whole, moves = _sizes(jacobian, x)
    size = float(r.norm())
    if size <= 4 * torch.finfo(r.dtype).eps * moves < math.inf:
        return 0.0
    return float(jacobian.rmatvec(r[None]).norm()) / (whole * size) if whole * size > 0 else 0.0


def certify_products(r: Tensor, jacobian: Operator, x: Tensor, tol: float) -> tuple[Status, Certificate]:
    """Judge a point from the residual and products with its Jacobian, by variables of similar influence.

    Args:
        r: The residual, ``[m]``.
        jacobian: The Jacobian.
        x: The point, ``[n]``.
        tol: Bound on ``||J'r|| / (||J||_F ||r||)``.

    Returns:
        What the certificate proves where it holds, and the certificate.
    """
    size = float(r.double().norm())
    extra = {"loss": size**2 / 2, "||r||": size}
    whole, moves = _sizes(jacobian, x)
    floor = torch.finfo(r.dtype).eps ** 0.75 * moves
    if size <= floor < math.inf:
        return Status.CONVERGED_RESIDUAL, Certificate("||r||_2", size, floor, extra)
    value = float(jacobian.rmatvec(r[None]).norm()) / (whole * size) if whole > 0 else 1.0
    return Status.CONVERGED_GRADIENT, Certificate("||J'r|| / (||J||_F ||r||)", value, float(tol), extra)
