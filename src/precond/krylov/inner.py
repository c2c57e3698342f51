"""Inner products of batches of vectors, one per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_short = 16384  # numbers; where the two calls cost the same, measured on one CPU thread


class Kept:
    """Keeps what a map returned while the map is called again, which may write to the memory that it returned before.

    Results are copied until two that were alive together have been seen in memory of their own.
    """

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._fresh = False

    def __call__(self, result: Tensor) -> Tensor:
        """Return the result, or a copy."""
        if self._fresh:
            return result
        last, self._last = self._last, result
        if last is not None and last.untyped_storage().data_ptr() != result.untyped_storage().data_ptr():
            self._fresh, self._last = True, None
        return result.clone()


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return ``x^H y`` of each row; shapes ``[batch, n], [batch, n] -> [batch]``.

    Short vectors take the call with the least overhead, long ones the call that reads memory once.
    """
    if x.numel() < _short:
        return torch.linalg.vecdot(x, y)
    return torch.bmm(x.conj().unsqueeze(1), y.unsqueeze(2)).reshape(-1)


def real_inner(x: Tensor, y: Tensor) -> Tensor:
    """Return the real part of ``x^H y`` of each row, real also for complex arguments."""
    product = inner(x, y)
    return product.real if product.is_complex() else product


def numbers(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    """Return numbers, one for each row, as a tensor ``[batch]`` where ``like`` is."""
    tensor = torch.from_numpy(values)
    return tensor if like.is_cpu else tensor.to(like.device)


def norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each row; shape ``[batch, n] -> [batch]``."""
    return torch.linalg.vector_norm(x, dim=-1)


def column(scalar: Tensor) -> Tensor:
    """Return one scalar per row, shape ``[batch]``, as ``[batch, 1]`` to multiply rows by."""
    return scalar.unsqueeze(-1)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``, and zero where ``b`` is zero: what a row that has nothing left to do moves by."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)
