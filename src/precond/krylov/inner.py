"""Inner products of batches of vectors, one per row."""

from __future__ import annotations

import torch
from torch import Tensor

_short = 16384  # numbers; where the two calls cost the same, measured on one CPU thread


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


def dots(x: Tensor, y: Tensor) -> list[float]:
    """Return the real part of ``x^H y`` of each row as numbers: for methods whose few scalars are not worth tensors."""
    if x.shape[0] == 1:
        product = torch.vdot(x[0], y[0]) if x.is_complex() else torch.dot(x[0], y[0])
        return [product.item() if not product.is_complex() else product.item().real]
    return real_inner(x, y).tolist()


def add(x: Tensor, alpha: list[float], p: Tensor) -> Tensor:
    """Add ``alpha`` times ``p`` to ``x`` in place, one number for each row."""
    if len(alpha) == 1:
        return x.add_(p, alpha=alpha[0])
    return x.addcmul_(p, column(p.new_tensor(alpha)))


def redirect(p: Tensor, beta: list[float], z: Tensor) -> None:
    """Replace ``p`` by ``z + beta p`` in place, one number for each row."""
    if len(beta) == 1:
        torch.add(z, p, alpha=beta[0], out=p)
    else:
        p.mul_(column(p.new_tensor(beta))).add_(z)


def norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each row; shape ``[batch, n] -> [batch]``."""
    return torch.linalg.vector_norm(x, dim=-1)


def column(scalar: Tensor) -> Tensor:
    """Return one scalar per row, shape ``[batch]``, as ``[batch, 1]`` to multiply rows by."""
    return scalar.unsqueeze(-1)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``, and zero where ``b`` is zero: what a row that has nothing left to do moves by."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)
