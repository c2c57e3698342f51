"""Vector updates of iterations, in place, for each row of a batch.

On the CPU they are compiled: one call updates several vectors, reads each of them once, and costs less than a
microsecond to make, of which torch takes two to five for each of its operations. Elsewhere they are torch's.
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


def dots(x: Rows, y: Rows) -> list[float]:
    """Return the real part of ``x^H y`` of each row."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        return _real(torch.linalg.vecdot(_tensor(x), _tensor(y)))
    out = np.empty(len(x))
    _kernels().dots(x, y, out)
    return out.tolist()


def redirect(p: Rows, beta: list[float], z: Rows) -> None:
    """Replace ``p`` by ``z + beta p``, one number for each row."""
    if isinstance(p, Tensor) or isinstance(z, Tensor):
        p = _tensor(p)
        p.mul_(_column(beta, p)).add_(_tensor(z))
    else:
        _kernels().redirect(p, np.array(beta), z)


def advance(x: Rows, r: Rows, alpha: list[float], p: Rows, q: Rows) -> list[float]:
    """Add ``alpha p`` to ``x``, take ``alpha q`` from ``r``, and return the norms of ``r``."""
    if isinstance(x, Tensor) or isinstance(q, Tensor):
        x, r = _tensor(x), _tensor(r)
        step = _column(alpha, x)
        x.addcmul_(_tensor(p), step)
        r.addcmul_(_tensor(q), step, value=-1)
        return _real(torch.linalg.vector_norm(r, dim=-1))
    out = np.empty(len(x))
    _kernels().advance(x, r, np.array(alpha), p, q, out)
    return out.tolist()


def _tensor(x: Rows) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(x)


def _real(values: Tensor) -> list[float]:
    numbers: list[float] = (values.real if values.is_complex() else values).tolist()
    return numbers


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(-1)
