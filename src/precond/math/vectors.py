"""Vector updates of conjugate gradients, in place, for each row of a batch.

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

Array = np.ndarray[Any, Any]
Rows = Array | Tensor
"""Rows ``[batch, n]`` as these functions take them: what `rows` made of a tensor, sharing its memory."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loops, imported when first needed."""
    from precond.math import vector_kernels

    return vector_kernels


def rows(x: Tensor) -> Rows:
    """Return a tensor as the functions below take it: as an array on the CPU."""
    if not x.is_cpu or x.is_conj() or x.is_neg():
        return x
    return (x.detach() if x.requires_grad else x).numpy()


def dots(x: Rows, y: Rows) -> Array:
    """Return the real part of ``x^H y`` of each row, shape ``[batch]``."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        return _numbers(torch.linalg.vecdot(_tensor(x), _tensor(y)))
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
    if not (isinstance(x, Tensor) or isinstance(q, Tensor)):
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
    """Replace ``p`` by ``z + beta p`` with ``beta = product / rho``, zero where ``rho <= floor``; ``rho`` by ``product``.

    Args:
        p: Directions.
        z: ``P r``.
        rho: ``<r, P r>`` before the step, shape ``[batch]``, as the next two.
        product: ``<r, P r>`` after it.
        floor: What ``rho`` must exceed.
    """
    if not (isinstance(p, Tensor) or isinstance(z, Tensor)):
        _kernels().turn(p, z, rho, product, floor)
        return
    p = _tensor(p)
    p.mul_(_column(np.divide(product, rho, out=np.zeros_like(rho), where=rho > floor), p)).add_(_tensor(z))
    rho[:] = product


def _tensor(x: Rows) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(x)


def _numbers(values: Tensor) -> Array:
    return (values.real if values.is_complex() else values).double().cpu().numpy()


def _column(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype).unsqueeze(-1)
