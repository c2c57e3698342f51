"""Certificates of systems: residuals recomputed from the problem, in double precision where the operator can."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.core import Certificate, Operator, Status
from precond.math.row_norms import row_norms, scaled_norms

Certified = tuple[Certificate, Status]
"""A certificate, and the status that it proves where it holds."""

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
    gradient = scaled_norms(precise.rmatvec(r.to(precise.dtype)).to(r.dtype))
    least = (gradient <= _orthogonal * size * scaled_norms(r)) & (scaled_norms(r) > 1e-6 * scaled_norms(b))
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
        beyond = multiple(relative, allowed)
        if beyond > worst[0]:
            worst = (beyond, relative, allowed)
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
    return float(scaled_norms(operator.matvec(w.to(operator.device, operator.dtype))).square().mean().sqrt())


def excess(certificate: Certificate) -> float:
    """Return how many times its bound a certificate's value is; infinite when it is not a number."""
    return multiple(certificate.value, certificate.bound)


def _residual(operator: Operator, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``b``, ``x`` and ``b - A x`` in double precision."""
    operator = operator.double()
    wide = b.dtype if b.dtype in _wide else torch.promote_types(b.dtype, torch.float64)
    if b.dtype == x.dtype == operator.dtype == wide:
        return b, x, b - operator.matvec(x)
    b, x = b.to(wide), x.to(wide)
    return b, x, b - operator.matvec(x.to(operator.dtype)).to(wide)


def multiple(value: float, bound: float) -> float:
    """Return ``value / bound``, infinite for NaN."""
    ratio = quotient(value, bound)
    return math.inf if math.isnan(ratio) else ratio
