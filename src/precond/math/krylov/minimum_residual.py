"""Steps of MINRES, in place, for each row of a batch: compiled on the CPU, by torch elsewhere.

Scalars are numbers of the host in double precision, one for each row.
"""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from precond.math.krylov.vectors import Array, Rows


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.krylov import minimum_residual_kernels

    return minimum_residual_kernels


def lanczos(z: Rows, q: Rows, v: Rows, v_old: Rows, gamma: Array, gamma_old: Array) -> Array:
    """Replace ``v_old`` by ``q / gamma - (delta / gamma) v - (gamma / gamma_old) v_old``; quotients by zero are zero.

    Args:
        z: ``P v``.
        q: ``A z``; may be any memory but that of ``v_old``.
        v: ``gamma`` times the last Lanczos vector.
        v_old: ``gamma_old`` times the one before; receives ``gamma_next`` times the next.
        gamma: Shape ``[batch]``.
        gamma_old: Shape ``[batch]``.

    Returns:
        ``delta = <z, q> / gamma^2``, shape ``[batch]``.
    """
    if not (isinstance(z, Tensor) or isinstance(q, Tensor) or isinstance(v, Tensor)):
        delta = np.empty(len(v))
        _kernels().lanczos(z, q, v, v_old, gamma, gamma_old, delta)
        return delta
    z, q, v, v_old = (_tensor(x) for x in (z, q, v, v_old))
    product = torch.linalg.vecdot(z, q)
    scale = _quotient(np.ones_like(gamma), gamma)
    delta = (product.real if product.is_complex() else product).double().cpu().numpy() * scale**2
    v_old.mul_(_column(-_quotient(gamma, gamma_old), v)).addcmul_(v, _column(-delta * scale, v))
    v_old.addcmul_(q, _column(scale, v))
    return delta


def advance(x: Rows, r: Rows, w_old: Rows, w: Rows, z: Rows, v: Rows, factors: Array) -> Array:
    """Replace ``w_old`` by the next direction, step along it, and follow the residual.

    Args:
        x: Solutions.
        r: Residuals.
        w_old: The direction before the last; receives the next.
        w: The last direction.
        z: ``P v`` of the last Lanczos vector.
        v: The next Lanczos vector.
        factors: Of ``z``, ``-w``, ``-w_old``; of the direction in ``x``; of ``r`` and ``v`` in ``r``; shape
            ``[6, batch]``.

    Returns:
        The norms of ``r``, shape ``[batch]``.
    """
    if not any(isinstance(u, Tensor) for u in (x, z, v)):
        norms = np.empty(len(x))
        _kernels().advance(x, r, w_old, w, z, v, factors, norms)
        return norms
    x, r, w_old, w, z, v = (_tensor(u) for u in (x, r, w_old, w, z, v))
    one, two, three, step, keep, turn = (_column(f, x) for f in factors)
    w_old.mul_(-three).addcmul_(w, -two).addcmul_(z, one)
    x.addcmul_(w_old, step)
    r.mul_(keep).addcmul_(v, turn)
    return torch.linalg.vector_norm(r, dim=-1).double().cpu().numpy()


class Rotations:
    """The Givens rotations of MINRES and what they tell, for each row.

    Args:
        eta: Norms of the first residuals, shape ``[batch]``.
        eps: Rounding of the vectors.

    Attributes:
        factors: What `advance` takes.
        less: Rows whose ``||A r|| / ||r||`` was small in the last step and less than ever, shape ``[batch]``.
        kept: Rows for which that ever held.
    """

    def __init__(self, eta: Array, eps: float) -> None:
        self.eps = eps
        self.factors = np.zeros((6, len(eta)))
        self._table = np.zeros((10, len(eta)))
        self._table[:2] = 1  # cosines; then sines, eta, the largest pivot, what is negligible, the least slope and eta
        self._table[4], self._table[6], self._table[7], self._table[8] = eta, eps * eta, np.inf, np.abs(eta)

    @property
    def less(self) -> Array:
        """Rows whose slope has just been the least."""
        return self._table[9] > 0

    @property
    def kept(self) -> Array:
        """Rows that ever had a small slope."""
        return np.isfinite(self._table[7])

    def apply(self, delta: Array, gamma: Array, gamma_next: Array) -> tuple[bool, bool, bool]:
        """Reduce the next column of the tridiagonal matrix.

        Args:
            delta: The diagonal entry, shape ``[batch]``.
            gamma: The entry above it.
            gamma_next: The entry below it; becomes zero where the Krylov space is exhausted.

        Returns:
            Whether a pivot vanished or the least slope was left behind; whether `less` has a row; whether every row is
            exhausted.
        """
        told = _kernels().rotate(delta, gamma, gamma_next, self._table, self.factors, self.eps)
        return bool(told & 1), bool(told & 2), bool(told & 4)


def _quotient(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _tensor(x: Rows) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(x)


def _column(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype).unsqueeze(-1)
