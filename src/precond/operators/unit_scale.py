"""Matrices whose squares would be lost: the same map in a unit of its own."""

from __future__ import annotations

import math

import torch

from precond.core import Operator
from precond.operators.convert import as_operator
from precond.operators.function import FunctionOperator

_largest = 1000  # exponent of a factor: a power of two that is itself within the range of double precision


def at_unit_scale(operator: Operator) -> tuple[Operator, int]:
    """Return ``2^-e A`` and ``e``, with entries near one where squares of those of ``A`` vanish or overflow.

    Multiplication by a power of two rounds nothing. What an operator shows of itself besides its entries, its diagonal
    and its products is not carried over.

    Args:
        operator: Symmetric, ``A``.

    Returns:
        The operator as it is and zero, where its entries are far from the ends of the range of its type; else another.
    """
    dense, entries = operator.dense(), operator.entries()
    if dense is not None:
        size = float(dense.abs().max())
    elif entries is not None:
        size = float(abs(entries.data).max()) if entries.nnz else 0.0
    else:
        draw = torch.randn(1, operator.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        size = float(operator.matvec(draw.to(operator.device, operator.dtype)).abs().max())
    quarter = math.log2(torch.finfo(operator.dtype).max) / 4
    exponent = math.frexp(size)[1]
    if not math.isfinite(size) or size == 0 or abs(exponent) < quarter:
        return operator, 0
    exponent = max(-_largest, min(_largest, exponent))
    factor, definite = 2.0**-exponent, operator.traits.definite
    if dense is not None:
        return as_operator(dense * factor, symmetric=True, definite=definite), exponent
    if entries is not None:
        return as_operator(entries * factor, symmetric=True, definite=definite), exponent
    diagonal = operator.diagonal()
    scaled = FunctionOperator(
        lambda x: operator.matvec(x) * factor, operator.shape, dtype=operator.dtype, device=operator.device,
        symmetric=True, definite=definite, diagonal=None if diagonal is None else diagonal * factor,
    )  # fmt: skip
    return scaled, exponent
