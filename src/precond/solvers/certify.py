"""Certificates: residuals recomputed from the problem, in double precision where the operator can."""

from __future__ import annotations

import torch
from torch import Tensor

from precond.core import Certificate, Operator, Status

Certified = tuple[Certificate, Status]
"""A certificate, and the status that it proves where it holds."""


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
    residual, size = _norm(r), _norm(b)
    relative, allowed = _over(residual, size), torch.clamp(_over(atol, size), min=rtol)
    worst = int(_excess(relative, allowed).argmax())
    extra = {}
    matrix_norm = operator.frobenius_norm()
    if matrix_norm is not None:
        extra["backward error"] = float(_over(residual, matrix_norm * _norm(x) + size).max())
    quantity = "relative residual ||b - Ax|| / ||b||"
    certificate = Certificate(quantity, float(relative[worst]), float(allowed[worst]), extra)
    return certificate, Status.CONVERGED_RESIDUAL


def certify_least_squares(
    operator: Operator, b: Tensor, x: Tensor, *, rtol: float, atol: float, matrix_norm: float
) -> Certified:
    """Recompute ``||A^H r|| / (||A||_F ||r||)`` and ``||r|| / ||b||``; either may prove a least-squares solution.

    A small residual proves it for a consistent system, where the first quotient says nothing. For each right-hand side
    the quantity that is nearer to its bound counts; the worst right-hand side is reported, and both in ``extra``.

    Args:
        operator: The matrix, with an adjoint.
        b: Right-hand sides, shape ``[batch, m]``.
        x: Solutions, shape ``[batch, n]``.
        rtol: Relative tolerance, of both quantities.
        atol: Absolute tolerance of the residual.
        matrix_norm: ``||A||_F``.

    Returns:
        The certificate, and ``CONVERGED_RESIDUAL`` or ``CONVERGED_NORMAL``, whichever it is about.
    """
    b, x, r = _residual(operator, b, x)
    residual, size = _norm(r), _norm(b)
    gradient = _norm(operator.double().rmatvec(r.to(operator.double().dtype)))
    relative, allowed = _over(residual, size), torch.clamp(_over(atol, size), min=rtol)
    normal = _over(gradient, matrix_norm * residual)
    consistent, stationary = _excess(relative, allowed), _excess(normal, torch.full_like(normal, rtol))
    worst = int(torch.minimum(consistent, stationary).argmax())
    extra = {
        "relative residual": float(relative[worst]),
        "relative normal-equations residual": float(normal[worst]),
    }
    if bool(consistent[worst] < stationary[worst]):
        quantity = "relative residual ||b - Ax|| / ||b||"
        certificate = Certificate(quantity, float(relative[worst]), float(allowed[worst]), extra)
        return certificate, Status.CONVERGED_RESIDUAL
    quantity = "relative normal-equations residual ||A^H r|| / (||A||_F ||r||)"
    return Certificate(quantity, float(normal[worst]), rtol, extra), Status.CONVERGED_NORMAL


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
    return float(_excess(torch.tensor(certificate.value), torch.tensor(certificate.bound)))


def _residual(operator: Operator, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``b``, ``x`` and ``b - A x`` in double precision."""
    wide = torch.promote_types(b.dtype, torch.float64)
    operator = operator.double()
    b, x = b.to(wide), x.to(wide)
    return b, x, b - operator.matvec(x.to(operator.dtype)).to(wide)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def _over(a: Tensor | float, b: Tensor) -> Tensor:
    """Return ``a / b``; zero where ``a`` is zero, infinite where only ``b`` is."""
    a = torch.as_tensor(a, dtype=b.dtype, device=b.device)
    return torch.where(a == 0, torch.zeros_like(b), a / b)


def _excess(value: Tensor, bound: Tensor) -> Tensor:
    """Return ``value / bound``, infinite for NaN."""
    return torch.nan_to_num(_over(value, bound), nan=torch.inf, posinf=torch.inf)
