"""Minimizing a dense quadratic plus a penalty: the subproblem of a proximal Newton step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from precond.core import Penalty, Scalars

ROUNDS = 50
"""Rounds of the solver, each of sweeps and a Newton step on the pieces that they found."""
SWEEPS = 10
PIECES = 20
"""Newton steps between two sweeps, each on the piece where the one before ended."""
BREAKS = 30
"""Points of a step at which the model is looked at."""


def minimize_model(hessian: Tensor, gradient: Tensor, x: Tensor, penalty: Penalty, tolerance: float) -> Tensor:
    """Return ``d`` that nearly minimizes ``gradient' d + d' H d / 2 + g(x + d)``.

    Separable penalties: sweeps of coordinate descent, compiled, and Newton steps on the piece that the sweeps identify
    and on those that they lead to, which are kept where they bring down the slack or the model. Others: the accelerated
    proximal gradient method.

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
        swept, steps = length, 0
        while steps < PIECES and length > tolerance:
            better = _newton(h, slope, y, penalty, scalars, length)
            if better is None:
                break
            y, slope, length = better
            steps += 1
        if length <= tolerance or (not steps and swept >= previous * (1 - 1e-6)):
            break
        previous = swept
    return (y - start).to(x)


def _newton(
    h: Tensor, slope: Tensor, y: Tensor, penalty: Penalty, scalars: Scalars, length: float
) -> tuple[Tensor, Tensor, float] | None:
    """Return point, slope and length of the slack after a Newton step on the support, if that is shorter.

    Otherwise after the best part of the step, up to where a variable vanishes or its penalty bends, if the model falls:
    of two columns that are alike one is given up so, or leaves the concave piece, which takes sweeps as long as the
    columns are close.
    """
    places = penalty.support(y).nonzero()[:, 0]
    if not len(places):
        return None
    matrix = h[places][:, places] + torch.diag(second(scalars, y)[places])
    slack = penalty.slack(y, slope)[places]
    factor, info = torch.linalg.cholesky_ex(matrix)
    convex = not int(info)
    if convex:
        d = torch.cholesky_solve(-slack[:, None], factor)[:, 0]
    else:  # singular, or not convex on this piece: down along negative curvature, too
        values, vectors = torch.linalg.eigh(matrix)
        least = 1e-10 * max(float(h.diagonal().max()), 1e-300)
        d = vectors @ (-(slack @ vectors) / values.abs().clamp(min=least))
    step = torch.zeros_like(y).index_copy(0, places, d)
    whole = _moved(h, slope, y, step, penalty, scalars)
    if convex and whole[2] < length:
        return whole
    best, lowest = None, 0.0
    for share in _breaks(scalars, y, step):
        part = _moved(h, slope, y, share * step, penalty, scalars)
        move = part[0] - y
        change = float(slope.dot(move) + move.dot(h @ move) / 2 + penalty.value(part[0]) - penalty.value(y))
        if change < lowest:
            best, lowest = part, change
    return best


def _breaks(scalars: Scalars, y: Tensor, step: Tensor) -> list[float]:
    """Return the shares of a step at which variables vanish or their penalty bends, the first few, and 1."""
    kink = torch.where(scalars.kind > 1, scalars.shape * scalars.weight, 0.0)
    first = torch.where(scalars.kind == 2, scalars.weight, 0.0)
    at = torch.cat([(bend - y) / step for bend in (torch.zeros_like(y), kink, -kink, first, -first)])
    shares = at[(at > 0) & (at < 1) & (scalars.kind > 0).repeat(5)].unique()[:BREAKS]
    return [*((1 + 1e-9) * shares).tolist(), 1.0]


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
