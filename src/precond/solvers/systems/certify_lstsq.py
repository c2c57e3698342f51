"""Certificates of linear least squares: what is recomputed, and what it proves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Certificate, Map, Operator, Status
from precond.math.row_norms import row_norms, scaled_norms
from precond.solvers.systems.certify import RESIDUAL, Certified, multiple, quotient

ShiftedInverse = Callable[[Tensor, float], Tensor]
"""Maps ``(v, shift)`` to ``(A^H A + shift I)^-1 v``, up to a small factor."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Quantities of least-squares solutions, one number for each right-hand side.

    Attributes:
        size: ``||b||``.
        relative: ``||r|| / ||b||``.
        normal: ``||A^H r|| / (||A||_F ||r||)``.
        backward: The relative backward error, where it can be estimated.
    """

    size: list[float]
    relative: list[float]
    normal: list[float]
    backward: list[float] | None


def measure_least_squares(
    operator: Operator,
    b: Tensor,
    x: Tensor,
    *,
    matrix_norm: float,
    inverse: ShiftedInverse | None = None,
    metric: Map | None = None,
) -> Measured:
    """Recompute the residual and its product with the adjoint, and what follows from them.

    The backward error is the estimate of R. Karlson and B. Walden (*Estimation of optimal backward perturbation bounds
    for the linear least squares problem*, 1997), within a factor of two or so of the smallest ``||[E, theta f]||_F /
    ||A||_F`` for which ``x`` solves ``min ||(A + E) x - (b + f)||``, with ``theta = ||A||_F / ||b||``::

        ||(A^H A + w^2 I)^-1/2 A^H r|| w / (||r|| ||A||_F),      w = theta ||r|| / sqrt(1 + theta^2 ||x||^2)

    With ``M = D^2`` the columns of ``A`` are taken as scaled to unit norm, ``A D^-1`` and ``D x`` in place of ``A`` and
    ``x``, so that small columns count as much as large ones.

    Args:
        operator: The matrix, with an adjoint.
        b: Right-hand sides, shape ``[batch, m]``.
        x: Solutions, shape ``[batch, n]``.
        matrix_norm: ``||A||_F``.
        inverse: Maps ``(v, shift)`` to ``(A^H A + shift M)^-1 v`` up to a small factor.
        metric: Maps ``v`` to ``M v``, the squared norms of the columns times ``v``.

    Returns:
        The quantities.
    """
    wide = torch.promote_types(b.dtype, torch.float64)
    precise = operator.double()
    b, x = b.to(wide), x.to(wide)
    g, residual = precise.normal(x.to(precise.dtype), b.to(precise.dtype))
    residual = residual.double()
    norms, sizes = residual.tolist(), row_norms(b)
    normal = [quotient(value, matrix_norm * norm) for value, norm in zip(row_norms(g), norms, strict=True)]
    backward: list[float] | None = None
    if inverse is not None:
        scale = metric(torch.ones_like(x[:1]).to(operator.dtype)).real.double().sqrt() if metric else torch.ones(1)
        scaled = float(operator.shape[1]) ** 0.5 if metric else matrix_norm
        theta = _over(scaled, torch.tensor(sizes, dtype=residual.dtype, device=residual.device))
        weight = theta * residual / (1 + (theta * scaled_norms(scale * x)) ** 2).sqrt()
        energy = torch.zeros_like(residual)
        for row, w in enumerate(weight.tolist()):
            v = g[row : row + 1].to(operator.dtype)
            if 0 < w < 1e150:
                energy[row] = (v.conj() * inverse(v, w**2)).sum().real.clamp(min=0)
        errors = torch.where(residual == 0, 0, _over(energy.sqrt() * weight, residual * scaled))
        unknown = ~((weight > 0) & (weight < 1e150)) & (residual > 0)
        unknown |= (energy == 0) & g.any(dim=-1)  # products vanished
        backward = torch.where(unknown, torch.inf, errors).tolist()
    relative = [quotient(norm, size) for norm, size in zip(norms, sizes, strict=True)]
    return Measured(sizes, relative, normal, backward)


def judge_least_squares(measured: Measured, *, rtol: float, atol: float) -> Certified:
    """Return the certificate that measured quantities amount to, and the status that it proves where it holds.

    Any one of these proves a least-squares solution: ``||A^H r|| / (||A||_F ||r||)``, an upper bound of the backward
    error of the matrix; ``||r|| / ||b||``, for a consistent system, where the first quotient says nothing; and the
    relative backward error of matrix and right-hand side, where it is known. For each right-hand side the quantity
    that is nearer to its bound counts, the third only where both others fail; the worst right-hand side is reported,
    with all that is known in ``extra``.

    Args:
        measured: What was recomputed.
        rtol: Relative tolerance, of all quantities.
        atol: Absolute tolerance of the residual.

    Returns:
        The certificate and the status.
    """
    allowed = [max(quotient(atol, size), rtol) for size in measured.size]
    consistent = [multiple(value, bound) for value, bound in zip(measured.relative, allowed, strict=True)]
    stationary = [multiple(value, rtol) for value in measured.normal]
    least = [min(pair) for pair in zip(consistent, stationary, strict=True)]
    stable = [math.inf] * len(least) if measured.backward is None else [multiple(v, rtol) for v in measured.backward]
    worst = max(range(len(least)), key=lambda row: min(least[row], stable[row]))
    extra = {
        "relative residual": measured.relative[worst],
        "relative normal-equations residual": measured.normal[worst],
    }
    if measured.backward is not None:
        extra["backward error"] = max(measured.backward)
        if least[worst] > 1 and stable[worst] < least[worst]:
            quantity = "relative backward error (estimate of Karlson and Walden)"
            return Certificate(quantity, measured.backward[worst], rtol, extra), Status.CONVERGED_BACKWARD
    if consistent[worst] < stationary[worst]:
        return Certificate(RESIDUAL, measured.relative[worst], allowed[worst], extra), Status.CONVERGED_RESIDUAL
    quantity = "relative normal-equations residual ||A^H r|| / (||A||_F ||r||)"
    return Certificate(quantity, measured.normal[worst], rtol, extra), Status.CONVERGED_NORMAL


def certify_least_squares(
    operator: Operator, b: Tensor, x: Tensor, *, rtol: float, atol: float, matrix_norm: float
) -> Certified:
    """Return the certificate of solutions, without an inverse; see `measure_least_squares` and `judge_least_squares`.

    In ``extra`` the backward error is bounded from above, by the quotient that certifies a stationary point (G. W.
    Stewart, *Research, development, and LINPACK*, 1977) or, if that is less, by the one of a system, ``||r|| /
    sqrt(||A||_F^2 ||x||^2 + ||b||^2)``.
    """
    measured = measure_least_squares(operator, b, x, matrix_norm=matrix_norm)
    certificate, status = judge_least_squares(measured, rtol=rtol, atol=atol)
    backward = [
        min(normal, quotient(relative * size, math.hypot(matrix_norm * length, size)))
        for normal, relative, size, length in zip(
            measured.normal, measured.relative, measured.size, row_norms(x), strict=True
        )
    ]
    extra = {**certificate.extra, "backward error": math.nan if any(map(math.isnan, backward)) else max(backward)}
    return dataclasses.replace(certificate, extra=extra), status


def _over(a: Tensor | float, b: Tensor) -> Tensor:
    """Return ``a / b``; zero where ``a`` is zero, infinite where only ``b`` is."""
    a = torch.as_tensor(a, dtype=b.dtype, device=b.device)
    return torch.where(a == 0, torch.zeros_like(b), a / b)
