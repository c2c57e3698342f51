"""Norms of rows, of any size that numbers have."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from precond.math.krylov.vectors import dots, rows

_least, _most = 1e-140, 1e140  # norms between which no square of a number that matters is lost


def row_norms(x: Tensor) -> list[float]:
    """Return the norm of each row as numbers, scaled where squares would overflow or vanish."""
    vectors = rows(x)
    if len(x) == 1 and isinstance(vectors, np.ndarray):
        size = math.sqrt(np.vdot(vectors, vectors).real)
        return [size] if _least < size < _most else scaled_norms(x).tolist()
    norms: list[float] = np.sqrt(dots(vectors, vectors)).tolist()
    return norms if all(_least < size < _most for size in norms) else scaled_norms(x).tolist()


def scaled_norms(x: Tensor) -> Tensor:
    """Return the norm of each row, scaled by its largest entry where squares would overflow or vanish."""
    norm = torch.linalg.vector_norm(x, dim=-1)
    if all(_least < size < _most for size in norm.tolist()):
        return norm
    largest = x.abs().amax(dim=-1)
    usable = (largest > 0) & (largest < torch.inf)
    scale = torch.where(usable, largest, 1)
    return torch.where(usable, scale * torch.linalg.vector_norm(x / scale.unsqueeze(-1), dim=-1), norm)
