"""Certificates: residuals recomputed from the problem, in double precision where the operator can."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precond.core import Certificate, Map, Operator, Status
from precond.math.vectors import dots, rows

Certified = tuple[Certificate, Status]
"""A certificate, and the status that it proves where it holds."""
ShiftedInverse = Callable[[Tensor, float], Tensor]
"""Maps ``(v, shift)`` to ``(A^H A + shift I)^-1 v``, up to a small factor."""


_least, _most = 1e-140, 1e140  # norms between which no square of a number that matters is lost
_orthogonal = 5e-9
_wide = (torch.float64, torch.complex128)


def is_least(operator: Operator, b: Tensor, x: Tensor) -> bool:
    """Whether no vector has a much smaller residual: ``||A^H r|| <= 5e-9 ||A||_F ||r||`` for some right-hand side.

    With a residual that is not small this says that the matrix is singular, to that precision, and the system
    inconsistent. Costs two products; false where the adjoint or the norm of the matrix is not known.

    Args:
        operator: The matrix.
        b: Right-hand sides, shape ``[batch, n]``.
        x: Solutions, shape ``[batch, n]``.

    Returns:
        Whether that is so, for a residual of more than a millionth of its right-hand side.
    """
    size = operator.frobenius_norm()
    if not operator.has_adjoint or size is None:
        return False
    b, _, r = _residual(operator, b, x)
    precise = operator.double()
    gradient = _norm(precise.rmatvec(r.to(precise.dtype)).to(r.dtype))
    least = (gradient <= _orthogonal * size * _norm(r)) & (_norm(r) > 1e-6 * _norm(b))
    return bool(least.any())


def certify_system(operator: Operator, b: Tensor, x: Tensor, *, rtol: float, atol: float) -> Certified:
    """Recompute ``||b - A x|| / ||b||`` for each right-hand side and report the worst, measured by its bound.

    The bound is ``max(rtol, atol / ||b||)``. Where the norm of the matrix is known, ``extra`` holds the normwise
    backward error ``||b - A x|| / (||A||_F ||x|| + ||b||)`` (J. L. Rigal, J. Gaches, 1967).

    Args:
        operator: The matrix.
        b: Right-hand sides, shape ``[batch, n]``.
        x: Solutions, shape ``[batch, n]``.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Returns:
        The certificate, and ``CONVERGED_RESIDUAL``.
    """
    b, x, r = _residual(operator, b, x)
    norms, sizes, scale = row_norms(r), row_norms(b), operator.frobenius_norm()
    lengths = sizes if scale is None else row_norms(x)
    certificate = residual_certificate(norms, sizes, lengths, scale, rtol, atol)
    return certificate, Status.CONVERGED_RESIDUAL


RESIDUAL = "relative residual ||b - Ax|| / ||b||"


def residual_certificate(
    norms: list[float], sizes: list[float], lengths: list[float], scale: float | None, rtol: float, atol: float
) -> Certificate:
    """Return the certificate of solutions from norms that were recomputed, one for each right-hand side.

    Args:
        norms: ``||b - A x||``.
        sizes: ``||b||``.
        lengths: ``||x||``.
        scale: ``||A||_F``, where it is known.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Returns:
        The certificate of the worst right-hand side; see `certify_system`.
    """
    worst, backward = (-1.0, 0.0, rtol), 0.0
    for norm, size, length in zip(norms, sizes, lengths, strict=True):
        relative, allowed = quotient(norm, size), max(rtol, quotient(atol, size))
        excess = quotient(relative, allowed)
        if math.isnan(excess):
            excess = math.inf
        if excess > worst[0]:
            worst = (excess, relative, allowed)
        if scale is not None:
            error = quotient(norm, scale * length + size)
            backward = error if error > backward or math.isnan(error) else backward
    extra = {} if scale is None else {"backward error": backward}
    return Certificate(RESIDUAL, worst[1], worst[2], extra)


def quotient(a: float, b: float) -> float:
    """Return ``a / b``; zero where ``a`` is zero, infinite where only ``b`` is."""
    if a == 0:
        return 0.0
    return a / b if b != 0 else math.copysign(math.inf, a) if not math.isnan(a) else math.nan


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
        weight = theta * residual / (1 + (theta * _norm(scale * x)) ** 2).sqrt()
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
    consistent = [_excess(value, bound) for value, bound in zip(measured.relative, allowed, strict=True)]
    stationary = [_excess(value, rtol) for value in measured.normal]
    least = [min(pair) for pair in zip(consistent, stationary, strict=True)]
    stable = [math.inf] * len(least) if measured.backward is None else [_excess(v, rtol) for v in measured.backward]
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


def estimated_frobenius_norm(operator: Operator, probes: int = 10) -> float:
    """Return ``||A||_F``, from the entries or estimated as ``E ||A w||^2 = ||A||_F^2`` with normal ``w`` (seeded).

    Costs ``probes`` products when only products are known; its relative deviation is then at most about
    ``probes^-1/2``.
    """
    known = operator.frobenius_norm()
    if known is not None:
        return known
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(probes, operator.shape[1], generator=generator, dtype=torch.float64)
    return float(_norm(operator.matvec(w.to(operator.device, operator.dtype))).square().mean().sqrt())


def excess(certificate: Certificate) -> float:
    """Return how many times its bound a certificate's value is; infinite when it is not a number."""
    return _excess(certificate.value, certificate.bound)


def _residual(operator: Operator, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``b``, ``x`` and ``b - A x`` in double precision."""
    operator = operator.double()
    wide = b.dtype if b.dtype in _wide else torch.promote_types(b.dtype, torch.float64)
    if b.dtype == x.dtype == operator.dtype == wide:
        return b, x, b - operator.matvec(x)
    b, x = b.to(wide), x.to(wide)
    return b, x, b - operator.matvec(x.to(operator.dtype)).to(wide)


def row_norms(x: Tensor) -> list[float]:
    """Return the norm of each row as numbers, scaled where squares would overflow or vanish."""
    vectors = rows(x)
    if len(x) == 1 and isinstance(vectors, np.ndarray):
        size = math.sqrt(np.vdot(vectors, vectors).real)
        return [size] if _least < size < _most else _norm(x).tolist()
    norms: list[float] = np.sqrt(dots(vectors, vectors)).tolist()
    return norms if all(_least < size < _most for size in norms) else _norm(x).tolist()


def _norm(x: Tensor) -> Tensor:
    """Return the norm of each row, scaled by its largest entry where squares would overflow or vanish."""
    norm = torch.linalg.vector_norm(x, dim=-1)
    if all(_least < size < _most for size in norm.tolist()):
        return norm
    largest = x.abs().amax(dim=-1)
    usable = (largest > 0) & (largest < torch.inf)
    scale = torch.where(usable, largest, 1)
    return torch.where(usable, scale * torch.linalg.vector_norm(x / scale.unsqueeze(-1), dim=-1), norm)


def _over(a: Tensor | float, b: Tensor) -> Tensor:
    """Return ``a / b``; zero where ``a`` is zero, infinite where only ``b`` is."""
    a = torch.as_tensor(a, dtype=b.dtype, device=b.device)
    return torch.where(a == 0, torch.zeros_like(b), a / b)


def _excess(value: float, bound: float) -> float:
    """Return ``value / bound``, infinite for NaN."""
    ratio = quotient(value, bound)
    return math.inf if math.isnan(ratio) else ratio
