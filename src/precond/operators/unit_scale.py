"""Matrices whose squares would be lost: the same map in a unit of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precond.core import Operator
from precond.operators.convert import as_operator
from precond.operators.function import FunctionOperator

_largest = 1000  # exponent of a factor: a power of two that is itself within the range of double precision


def exponent_of(size: float, dtype: torch.dtype) -> int:
    """Return ``e`` with ``size`` near ``2^e`` where squares of such numbers vanish or overflow; else zero."""
    exponent = math.frexp(size)[1] if math.isfinite(size) else 0
    return max(-_largest, min(_largest, exponent)) if abs(exponent) >= math.log2(torch.finfo(dtype).max) / 4 else 0


def exponent_of_entries(operator: Operator) -> int:
    """Return `exponent_of` the largest entry, or, of an operator known by products, of a random product's."""
    dense, entries = operator.dense(), operator.entries()
    if dense is not None:
        size = float(dense.abs().max())
    elif entries is not None:
        size = float(abs(entries.data).max()) if entries.nnz else 0.0
    else:
        draw = torch.randn(1, operator.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        size = float(operator.matvec(draw.to(operator.device, operator.dtype)).abs().max())
    return exponent_of(size, operator.dtype)


def scaled(operator: Operator, exponent: int) -> Operator:
    """Return ``2^-e A``.

    Multiplication by a power of two rounds nothing. What an operator shows of itself besides its entries, its diagonal
    and its products is not carried over.

    Args:
        operator: ``A``.
        exponent: ``e``, within a thousand of zero.

    Returns:
        The operator as it is where ``e`` is zero, else another.
    """
    if exponent == 0:
        return operator
    dense, entries, factor = operator.dense(), operator.entries(), 2.0**-exponent
    symmetric, definite = operator.traits.symmetric or None, operator.traits.definite
    if dense is not None:
        return as_operator(dense * factor, symmetric=symmetric, definite=definite)
    if entries is not None:
        return as_operator(entries * factor, symmetric=symmetric, definite=definite)
    diagonal = operator.diagonal()
    return FunctionOperator(
        lambda x: operator.matvec(x) * factor, operator.shape, dtype=operator.dtype, device=operator.device,
        rmatvec=(lambda y: operator.rmatvec(y) * factor) if operator.has_adjoint else None,
        symmetric=symmetric, definite=definite, diagonal=None if diagonal is None else diagonal * factor,
    )  # fmt: skip


def times_power(x: Tensor, exponent: int) -> Tensor:
    """Return ``2^e x``, also where ``2^e`` alone is beyond the range."""
    half = exponent // 2
    return x * 2.0**half * 2.0 ** (exponent - half)
