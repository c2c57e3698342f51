"""Vector updates of iterations, in place, for each row of a batch.

On the CPU they are compiled: one call does several updates, reads each vector once, and costs less than a microsecond
to make, where each of torch's operations takes two to five.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.math.krylov import side

Array = np.ndarray[Any, Any]
Rows = Array | Tensor
"""Rows ``[batch, n]`` as these functions take them: what `rows` made of a tensor, sharing its memory."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math.krylov import vector_kernels

    return vector_kernels


def rows(x: Tensor) -> Rows:
    """Return a tensor as the functions below take it: on the CPU an array, of its memory but for lazy conjugates."""
    if not x.is_cpu:
        return x
    try:
        return x.numpy()
    except RuntimeError:  # a lazy conjugate, or part of a graph
        return x.detach().resolve_conj().resolve_neg().numpy()


def settled(x: Tensor) -> Tensor:
    """Return vectors as rows, each of them contiguous, or as they are where they lie side by side."""
    return x if x.mT.is_contiguous() else x.contiguous()


def dots(x: Rows, y: Rows) -> Array:
    """Return the real part of ``x^H y`` of each row, shape ``[batch]``."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        return _numbers(torch.linalg.vecdot(_tensor(x), _tensor(y)))
    if side.is_side(x):
        return side.dots(x, y)
    out = np.empty(len(x))
    _kernels().dots(x, y, out)
    return out


def forward(
    x: Rows, r: Rows, p: Rows, q: Rows, rho: Array, floor: Array, curvature: Array, *, force: bool = False
) -> Array | None:
    """Add ``alpha p`` to ``x`` and take ``alpha q`` from ``r``, with ``alpha = rho / <p, q>``.

    Rows with ``rho <= floor`` stay where they are.

    Args:
        x: Solutions.
        r: Residuals.
        p: Directions.
        q: ``A p``.
        rho: ``<r, P r>``, shape ``[batch]``, as the next two.
        floor: What ``rho`` must exceed.
        curvature: Receives ``<p, q>``.
        force: Go on although a row does not move, or has no positive curvature.

    Returns:
        The norms of ``r``, or ``None`` where nothing was done.
    """
    if not (isinstance(x, Tensor) or isinstance(r, Tensor) or isinstance(p, Tensor) or isinstance(q, Tensor)):
        if side.is_side(x):
            curvature[:] = side.dots(p, q)
            moving = rho > floor
            if not (force or (moving.all() and (curvature > 0).all())):
                return None
            return side.advance(x, r, p, q, np.divide(rho, curvature, out=np.zeros_like(rho), where=moving))
        norms = np.empty(len(x))
        return norms if _kernels().forward(x, r, p, q, rho, floor, force, curvature, norms) else None
    x, r, p, q = (_tensor(v) for v in (x, r, p, q))
    curvature[:] = _numbers(torch.linalg.vecdot(p, q))
    moving = rho > floor
    if not (force or (moving.all() and (curvature > 0).all())):
        return None
    alpha = _column(np.divide(rho, curvature, out=np.zeros_like(rho), where=moving), x)
    x.addcmul_(p, alpha)
    r.addcmul_(q, alpha, value=-1)
    return _numbers(torch.linalg.vector_norm(r, dim=-1))


def turn(p: Rows, z: Rows, rho: Array, product: Array, floor: Array) -> None:
    """Replace ``p`` by ``z + beta p``, ``beta = product / rho`` or zero where ``rho <= floor``; ``rho`` by ``product``.

    Args:
        p: Directions.
        z: ``P r``.
        rho: ``<r, P r>`` before the step, shape ``[batch]``, as the next two.
        product: ``<r, P r>`` after it.
        floor: What ``rho`` must exceed.
    """
    if not (isinstance(p, Tensor) or isinstance(z, Tensor)):
        if side.is_side(p):
            side.turn(p, z, np.divide(product, rho, out=np.zeros_like(rho), where=rho > floor))
            rho[:] = product
        else:
            _kernels().turn(p, z, rho, product, floor)
        return
    p = _tensor(p)
    p.mul_(_column(np.divide(product, rho, out=np.zeros_like(rho), where=rho > floor), p)).add_(_tensor(z))
    rho[:] = product


def inners(x: Rows, y: Rows) -> tuple[Array, Array]:
    """Return ``x^H y`` and ``||y||`` of each row, both of shape ``[batch]``."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        x, y = _tensor(x), _tensor(y)
        return _scalars(torch.linalg.vecdot(x, y)), _numbers(torch.linalg.vector_norm(y, dim=-1))
    out: Array = np.empty(len(x), _wide(x))
    norms: Array = np.empty(len(x))
    _kernels().inners(x, y, out, norms)
    return out, norms


def subtract(r: Rows, alpha: Array, q: Rows) -> None:
    """Take ``alpha q`` from ``r``, one number for each row."""
    if isinstance(r, Tensor) or isinstance(q, Tensor):
        r = _tensor(r)
        r.addcmul_(_tensor(q), _column(alpha, r), value=-1)
    else:
        _kernels().subtract(r, alpha, q)


def move(x: Rows, r: Rows, alpha: Array, p: Rows, omega: Array, h: Rows, t: Rows, shadow: Rows) -> tuple[Array, Array]:
    """Add ``alpha p + omega h`` to ``x``, take ``omega t`` from ``r``, and return ``shadow^H r`` and ``||r||``.

    Args:
        x: Solutions.
        r: Residuals.
        alpha: One number for each row.
        p: Vectors; may be the memory of others here.
        omega: One number for each row.
        h: Vectors; may be the memory of ``r``.
        t: Vectors.
        shadow: Vectors.

    Returns:
        Both numbers of each row, shape ``[batch]``.
    """
    if not any(isinstance(v, Tensor) for v in (x, p, h, t)):
        assert isinstance(x, np.ndarray)
        out: Array = np.empty(len(x), _wide(x))
        norms: Array = np.empty(len(x))
        _kernels().move(x, r, alpha, p, omega, h, t, shadow, out, norms)
        return out, norms
    x, r, shadow = _tensor(x), _tensor(r), _tensor(shadow)
    a, w = _column(alpha, x), _column(omega, x)
    x.addcmul_(_tensor(p), a).addcmul_(_tensor(h), w)
    r.addcmul_(_tensor(t), w, value=-1)
    return _scalars(torch.linalg.vecdot(shadow, r)), _numbers(torch.linalg.vector_norm(r, dim=-1))


def redirect(p: Rows, r: Rows, beta: Array, omega: Array, v: Rows) -> None:
    """Replace ``p`` by ``r + beta (p - omega v)``, one number for each row."""
    if isinstance(p, Tensor) or isinstance(v, Tensor):
        p = _tensor(p)
        p.addcmul_(_tensor(v), _column(omega, p), value=-1).mul_(_column(beta, p)).add_(_tensor(r))
    else:
        _kernels().redirect(p, r, beta, omega, v)


def _wide(x: Array) -> type:
    return complex if np.iscomplexobj(x) else float


def _scalars(values: Tensor) -> Array:
    return values.to(torch.promote_types(values.dtype, torch.float64)).cpu().numpy()


def _tensor(x: Rows) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(x)


def _numbers(values: Tensor) -> Array:
    return (values.real if values.is_complex() else values).double().cpu().numpy()


def _column(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype).unsqueeze(-1)
