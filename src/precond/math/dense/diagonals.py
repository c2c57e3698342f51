"""Diagonals that secant pairs suggest for an inverse Hessian, and how well they explain pairs."""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor

from precond.math.dense.secants import small

FLOOR = 1e-16
"""Share of the largest sum that is added to all, as of variables that never moved."""
MEMORY = 0.9
"""What the mean of the evidence keeps of itself at each pair."""
MARGIN = 1.0
"""Logarithm of how much better the diagonal must explain the pairs than a multiple of the identity does."""
LEAST = 2
"""Pairs that a diagonal is made of at least before it is asked to explain the next."""


@functools.cache
def _kernels() -> ModuleType:
    """Return the compiled loop, imported when first needed."""
    from precond.math.dense import diagonal_kernels

    return diagonal_kernels


def weigh(
    s: Tensor, y: Tensor, absorbed: Tensor, count: Tensor, moves: Tensor, changes: Tensor, favour: Tensor,
    scale: Tensor, decay: float,
) -> None:  # fmt: skip
    """Take note of the newest pairs of a memory, and write the diagonal where it explains pairs better.

    The diagonal is ``D = sqrt(moves / changes)``. How well a metric explains a pair is the squared cosine of ``s`` and
    ``y`` in it, ``(s'y)^2 / ((s' D^-1 s) (y' D y))``, with the ``D`` of the pairs before.

    Args:
        s: The ring of differences of points, with ``s'y = 1``, ``[batch, m, n]``.
        y: That of gradients.
        absorbed: Members whose newest pair is new, ``[batch]``.
        count: Pairs absorbed so far, ``[batch]``.
        moves: Decaying sum of ``s^2``, ``[batch, n]``; brought up to date.
        changes: That of ``y^2``.
        favour: Decaying mean, begun at zero, of the logarithm of how much better the diagonal explained pairs than the
            identity does, ``[batch]``, float64; brought up to date.
        scale: Where ``D / (y' D y)`` is written, of members for whom it is better, ``[batch, n]``.
        decay: What the sums keep at each pair.
    """
    if small(s):
        arrays = (each.numpy() for each in (s, y, absorbed, count, moves, changes, favour, scale))
        _kernels().weigh(*arrays, decay, MEMORY, MARGIN, FLOOR, LEAST)
        return
    member = torch.arange(len(count), device=count.device)
    ss, yy = (each[member, (count - 1) % s.shape[1]].square() for each in (s, y))
    diagonal = _root(moves, changes)
    told = [each.sum(1).double().log() for each in (ss, yy, ss / diagonal, yy * diagonal)]
    better = told[0] + told[1] - told[2] - told[3]
    mean = MEMORY * favour + (1 - MEMORY) * torch.where(torch.isfinite(better), better, favour)
    favour.copy_(torch.where(absorbed & (count > LEAST), mean, favour))
    new = absorbed[:, None]
    moves.copy_(torch.where(new, decay * moves + ss, moves))
    changes.copy_(torch.where(new, decay * changes + yy, changes))
    diagonal = _root(moves, changes)
    wide = (yy * diagonal).sum(1)
    seen = 1 - MEMORY ** (count - LEAST).clamp(min=0).double()  # the mean began at zero
    taken = absorbed & (seen > 0) & (favour > MARGIN * seen) & (wide > 0) & torch.isfinite(wide)
    scale.copy_(torch.where(taken[:, None], diagonal / wide[:, None], scale))


def _root(moves: Tensor, changes: Tensor) -> Tensor:
    above, below = (each.add(FLOOR * each.amax(1, keepdim=True)).sqrt() for each in (moves, changes))
    return above / below
