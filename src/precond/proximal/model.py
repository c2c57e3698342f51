"""Minimizing a dense quadratic plus a penalty: the subproblem of a proximal Newton step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import Penalty, Scalars

ROUNDS = 50
"""Rounds of the solver, each of sweeps and a Newton step on the pieces that they found."""
SWEEPS = 10


def minimize_model(hessian: Tensor, gradient: Tensor, x: Tensor, penalty: Penalty, tolerance: float) -> Tensor:
    """Return ``d`` that nearly minimizes ``gradient' d + d' H d / 2 + g(x + d)``.

    Separable penalties: sweeps of coordinate descent, compiled, and Newton steps on the piece that the sweeps identify,
    which are kept where they bring the slack down. Others: the accelerated proximal gradient method.

    Args:
        hessian: ``H``, positive semidefinite, ``[k, k]``.
        gradient: Shape ``[k]``.
        x: Where the step starts, ``[k]``.
        penalty: The penalty of these variables.
        tolerance: Length of the slack of the subproblem that will do.

    Returns:
        The step, ``[k]``.
    """
    scalars = penalty.scalars(x.numel())
    if scalars is None:
        return _accelerated(hessian, gradient, x, penalty, tolerance)
    return _swept(hessian, gradient, x, penalty, scalars, tolerance)


def _swept(
    hessian: Tensor, gradient: Tensor, x: Tensor, penalty: Penalty, scalars: Scalars, tolerance: float
) -> Tensor:
    from precond.math import scalar_kernels as kernels

    h, start = hessian.detach().cpu().double().contiguous(), x.detach().cpu().double()
    y, slope = start.clone(), gradient.detach().cpu().double().clone()
    columns = [column.numpy() for column in scalars.columns()]
    length, previous = float("inf"), float("inf")
    sweep: Any = kernels.sweep
    for _ in range(ROUNDS):
        sweep(h.numpy(), slope.numpy(), y.numpy(), *columns, SWEEPS, 0.1 * tolerance)
        length = float(penalty.slack(y, slope).norm())
        if length <= tolerance:
            break
        better = _newton(h, slope, y, penalty, scalars, length)
        if better is None and length >= previous * (1 - 1e-6):
            break
        previous = length
        if better is not None:
            y, slope, length = better
        if length <= tolerance:
            break
    return (y - start).to(x)


def _newton(
    h: Tensor, slope: Tensor, y: Tensor, penalty: Penalty, scalars: Scalars, length: float
) -> tuple[Tensor, Tensor, float] | None:
    """Return point, slope and length of the slack after a Newton step on the support, if that is shorter.

    Otherwise after a part of the step, up to where the first variable vanishes, if the model falls: of two columns that
    are alike one is given up so, which takes sweeps as long as the columns are close.
    """
    places = penalty.support(y).nonzero()[:, 0]
    if not len(places):
        return None
    matrix = h[places][:, places] + torch.diag(second(scalars, y)[places])
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):  # singular, or not convex on this piece
        shift = 1e-10 * max(float(h.diagonal().max()), 1e-300)
        factor, info = torch.linalg.cholesky_ex(matrix + shift * torch.eye(len(matrix), dtype=matrix.dtype))
        if int(info):
            return None
    d = torch.cholesky_solve(-penalty.slack(y, slope)[places, None], factor)[:, 0]
    step = torch.zeros_like(y).index_copy(0, places, d)
    whole = _moved(h, slope, y, step, penalty, scalars)
    if whole[2] < length:
        return whole
    crossed = (y * (y + step) < 0) & (scalars.kind > 0)
    if not bool(crossed.any()):
        return None
    share = float((-y[crossed] / step[crossed]).min())
    part = _moved(h, slope, y, share * step, penalty, scalars)
    move = part[0] - y
    change = slope.dot(move) + move.dot(h @ move) / 2 + penalty.value(part[0]) - penalty.value(y)
    return part if bool(change < 0) else None


def _moved(
    h: Tensor, slope: Tensor, y: Tensor, step: Tensor, penalty: Penalty, scalars: Scalars
) -> tuple[Tensor, Tensor, float]:
    """Return point, slope and length of the slack after a step; variables that would cross zero, or meet it, vanish."""
    new = torch.minimum(torch.maximum(y + step, scalars.lower), scalars.upper)
    met = (new * y <= 0) | (new.abs() <= 1e-14 * y.abs())
    new = torch.where(met & (y != 0) & (scalars.kind > 0), 0.0, new)
    moved = slope + h @ (new - y)
    return new, moved, float(penalty.slack(new, moved).norm())


def second(scalars: Scalars, x: Tensor) -> Tensor:
    """Return the second derivative of the functions where they have one, ``[n]``; see `Scalars`."""
    size = x.abs()
    scad = (scalars.kind == 2) & (size > scalars.weight) & (size < scalars.shape * scalars.weight)
    mcp = (scalars.kind == 3) & (size < scalars.shape * scalars.weight)
    bent = torch.where(scad, -1 / (scalars.shape - 1), torch.where(mcp, -1 / scalars.shape, 0.0))
    return scalars.ridge + bent


def _accelerated(hessian: Tensor, gradient: Tensor, x: Tensor, penalty: Penalty, tolerance: float) -> Tensor:
    largest = float(torch.linalg.matrix_norm(hessian, 1))
    if largest > 0 and len(x) <= 2000:
        largest = min(largest, 1.001 * float(torch.linalg.eigvalsh(hessian.double())[-1]))
    step = 1 / largest if largest > 0 else 1.0
    d = ahead = torch.zeros_like(x)
    t = 1.0
    for count in range(2000):
        slope = gradient + hessian @ ahead
        new = penalty.prox(x + ahead - step * slope, step) - x
        if bool((ahead - new).dot(new - d) > 0):
            t = 1.0
        grown = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead, d, t = new + (t - 1) / grown * (new - d), new, grown
        if count % 10 == 9 and float(penalty.slack(x + d, gradient + hessian @ d).norm()) <= tolerance:
            break
    return d
