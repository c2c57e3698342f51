"""Induced dimension reduction: short recurrences for any square matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Iteration, Map, Operator, Progress, Status
from precond.krylov.inner import norm
from precond.krylov.lockstep import lockstep

_angle = 0.7  # the step of least residual is lengthened where it is nearly orthogonal to the residual


@final
@dataclasses.dataclass(frozen=True)
class IDR(Iteration):
    """IDR(s) for any square ``A``, preconditioned from the right, with ``3 s + 5`` vectors.

    Residuals are forced into spaces ``G_j = (I - omega_j A)(G_{j-1} and S)`` of shrinking dimension, ``S`` the
    vectors orthogonal to ``s`` random ones (the rows ``p_i``). A cycle has ``s`` steps within ``G_j``::

        M c = f,  f = p^H r                       v = P (r - sum_i c_i g_i)
        u_k = sum_i c_i u_i + omega v,            g_k = A u_k, made orthogonal to p_0 .. p_{k-1}
        beta = f_k / <p_k, g_k>,                  x = x + beta u_k,  r = r - beta g_k

    and one into ``G_{j+1}``: ``x = x + omega P r``, ``r = r - omega A P r``, with the ``omega`` of least residual,
    lengthened where ``A P r`` is at more than ``arccos 0.7`` from ``r``. In exact arithmetic at most ``n + n / s``
    products are needed; IDR(1) is BiCGStab.

    (P. Sonneveld, M. B. van Gijzen, *IDR(s): a family of simple and fast algorithms for solving large nonsymmetric
    systems of linear equations*, 2008; in the biorthogonal form of *Algorithm 913*, 2011.)

    Each row of ``b`` is a system of its own; the random vectors are the same for all and drawn from a fixed seed.

    Attributes:
        shadow: Dimension ``s`` of the shadow space.
    """

    shadow: int = 4

    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the dimension."""
        if self.shadow < 1:
            raise BadInputError(f"idr needs a shadow space of at least 1 vector, not shadow={self.shadow}")

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0``, then after each product; the residual is the recurrence's."""
        return lockstep([
            self._row(operator, b[row : row + 1], precondition, x0[row : row + 1]) for row in range(len(b))
        ])  # fmt: skip

    def _row(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        n, s = b.shape[1], min(self.shadow, b.shape[1])
        vanished = torch.finfo(b.dtype).eps ** 2 * norm(b)
        x = x0.clone()
        r = b - operator.matvec(x) if bool(x.any()) else b.clone()
        yield Progress(norm(r), x.clone)
        p = _shadow(n, s, b)
        g, u = b.new_zeros(s, n), b.new_zeros(s, n)
        m = torch.eye(s, dtype=b.dtype, device=b.device)
        omega = torch.ones((), dtype=b.dtype, device=b.device)
        while bool(norm(r) > vanished):
            f = p.conj() @ r[0]
            for k in range(s):
                c = torch.linalg.solve_triangular(m[k:, k:], f[k:, None], upper=False)[:, 0]
                v = precondition(r - c @ g[k:])
                u[k] = omega * v[0] + c @ u[k:]
                g[k] = operator.matvec(u[k : k + 1])[0]
                for i in range(k):
                    alpha = torch.vdot(p[i], g[k]) / m[i, i]
                    g[k] -= alpha * g[i]
                    u[k] -= alpha * u[i]
                m[k:, k] = p[k:].conj() @ g[k]
                if not bool(m[k, k].abs() > 0):
                    yield Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN)
                    return
                beta = f[k] / m[k, k]
                x = x + beta * u[k]
                r = r - beta * g[k]
                yield Progress(norm(r), x.clone, solved=bool(norm(r) <= vanished))
                f[k + 1 :] -= beta * m[k + 1 :, k]
            v = precondition(r)
            t = operator.matvec(v)
            omega = _longer(t[0], r[0])
            if not bool(omega.abs() > 0):
                yield Progress(norm(r), x.clone, failure=Status.FAILED_BREAKDOWN)
                return
            x = x + omega * v
            r = r - omega * t
            yield Progress(norm(r), x.clone)
        yield Progress(norm(r), x.clone, solved=True)


def _shadow(n: int, s: int, like: Tensor) -> Tensor:
    """Return ``s`` random orthonormal rows."""
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(n, s, generator=generator, dtype=torch.float64))
    return q.mT.contiguous().to(like.device, like.dtype)


def _longer(t: Tensor, r: Tensor) -> Tensor:
    """Return the step along ``t`` of least residual, lengthened where the two are nearly orthogonal."""
    product, sizes = torch.vdot(t, r), norm(t) * norm(r)
    omega = torch.where(sizes > 0, product / norm(t) ** 2, 0)
    cosine = product.abs() / sizes
    return omega * _angle / cosine if bool((cosine > 0) & (cosine < _angle)) else omega
