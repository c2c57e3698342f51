"""Newton-Schulz iterations that never touch the long side: all steps run on the small Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Quintic = tuple[float, float, float]

_NEGATIVE = 0.25
"""How far below zero rounding may push an eigenvalue of the Gram matrix before the iteration starts afresh."""
_NEGATIVE_BFLOAT16 = 1.2
"""The same where results have two digits: the last polynomial before a fresh start multiplies what should be zero by
three times as much then. As far from the polar factor as with more fresh starts, whatever the spectrum, and cheaper."""


def iterate_gram(x: Tensor, quintics: Sequence[Quintic], first: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Return ``Q X`` where ``Q`` multiplies out all the polynomials ``a I + b R + c R^2`` of the Gram matrices ``R``.

    ``X <- (a I + b R + c R^2) X`` with ``R = X X^T`` changes the Gram matrix to ``Z R Z`` with ``Z = a I + b R + c
    R^2``: so ``Q <- Z Q`` and ``R <- Z R Z`` need products of the short side alone, and ``X`` is multiplied once at the
    end. Rounding makes eigenvalues of ``R`` that should be zero negative, and every step multiplies them by ``a^2``;
    before that matters, ``X <- Q X`` and ``R = X X^T`` are formed anew.

    Source: J. Zhang, N. Amsel, B. Chen, T. Dao, "Gram Newton-Schulz" (2026),
    https://tridao.me/blog/2026/gram-newton-schulz/.

    Args:
        x: Shape ``[batch, m, n]``, spectral norms at most (about) one; the shorter side is iterated on.
        quintics: Coefficients ``(a, b, c)``, one triple per step.
        first: The Gram matrices of the shorter side, if they are known.
        scale: What to multiply the result by.

    Returns:
        Shape ``[batch, m, n]``.
    """
    tall = x.shape[-2] > x.shape[-1]
    fresh = restarts(quintics, x.dtype)
    gram = _gram(x, tall) if first is None else first.clone()
    z, product, spare = (torch.empty_like(gram) for _ in range(3))
    begun = False
    for step, (a, b, c) in enumerate(quintics):
        if step in fresh:
            x, begun = _multiply(x, product, tall), False
            gram.copy_(_gram(x, tall))
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=z)
        z.diagonal(dim1=-2, dim2=-1).add_(a)
        polynomial = z
        if begun:
            torch.bmm(z, product, out=spare)
            product, spare = spare, product
        else:
            product, z = z, product
            begun = True
        if step + 1 < len(quintics) and step + 1 not in fresh:
            torch.bmm(gram, polynomial, out=spare)
            torch.bmm(polynomial, spare, out=gram)
    if not begun:
        return x * scale
    return _multiply(x, product if scale == 1.0 else product.mul_(scale), tall)


def restarts(quintics: Sequence[Quintic], dtype: torch.dtype) -> frozenset[int]:
    """Return the steps (counted from 0) before which the Gram matrix is formed anew, in this precision."""
    steps, growth = set(), 1.0
    bound = _NEGATIVE_BFLOAT16 if dtype == torch.bfloat16 else _NEGATIVE
    for step in range(1, len(quintics)):
        growth *= quintics[step - 1][0] ** 2
        if growth * torch.finfo(dtype).eps > bound:
            steps.add(step)
            growth = 1.0
    return frozenset(steps)


def operations(rows: int, columns: int, quintics: Sequence[Quintic], dtype: torch.dtype) -> tuple[int, int]:
    """Return the multiplications of ``rows x columns`` matrices by ordinary steps, and by steps on the Gram matrix."""
    short, long = min(rows, columns), max(rows, columns)
    steps, fresh = len(quintics), len(restarts(quintics, dtype))
    ordinary = steps * (2 * short**2 * long + short**3)
    runs = (
        fresh + 1
    )  # each forms one Gram matrix, multiplies X once, and extends neither R at its end nor Q at its start
    return ordinary, runs * 2 * short**2 * long + (4 * steps - 3 * runs) * short**3


def _gram(x: Tensor, tall: bool) -> Tensor:
    return torch.bmm(x.mT, x) if tall else torch.bmm(x, x.mT)


def _multiply(x: Tensor, product: Tensor, tall: bool) -> Tensor:
    return torch.bmm(x, product) if tall else torch.bmm(product, x)
