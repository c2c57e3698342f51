"""Warm starts: the combination of earlier solutions that leaves the least residual."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Operator, Work
from precond.math.machine.clock import now

_deepest = 5
_rest = 8  # systems without a start, after two that were useless, or without a deeper one, after one that was
_unknown = 16.0  # a digit takes as long as so many products, before any was timed


@dataclasses.dataclass
class WarmStart:
    """The last solutions of a sequence.

    System ``i`` starts at ``c_1 x_{i-1} + ... + c_d x_{i-d}`` with the least residual, so never worse than at zero, for
    ``d`` products. What a start saves is the time that the digits it has won would have taken. The depth ``d`` is that
    which saves most beyond its own time, one more is tried now and then, and where starts save less than they take,
    most systems begin at zero.

    Attributes:
        solutions: The last solutions, each ``[batch, n]``.
        depth: How many of them to use.
        idle: Useless starts in a row, and the systems since that had none.
        hold: Systems until one solution more is tried.
        left: The share of the residual that the last start left; one where there was none.
        price: Seconds that a digit takes, lately; ``None`` when none was timed.
        beside: The least seconds that a start of each depth has taken beside its products.
        product: The least seconds that a product has taken.
        clock: The seconds of now.
    """

    solutions: list[Tensor] = dataclasses.field(default_factory=list)
    depth: int = 1
    idle: int = 0
    hold: int = 0
    left: float = 1.0
    price: float | None = None
    beside: dict[int, float] = dataclasses.field(default_factory=dict)
    product: float = math.inf
    clock: Callable[[], float] = now

    def start(self, operator: Operator, b: Tensor, work: Work) -> Tensor | None:
        """Return the best start for ``A x = b``; ``None`` where there is none that fits.

        Args:
            operator: The matrix.
            b: Right-hand sides, shape ``[batch, n]``.
            work: The account to charge.

        Returns:
            The starting points, shape ``[batch, n]``.
        """
        self.left = 1.0
        begin, usable = self.clock(), self._usable(b, self.depth)
        if not usable or not bool(b.any()):
            return None
        if self.idle >= 2:
            self.idle = self.idle + 1 if self.idle < 2 + _rest else 1
            if self.idle > 1:
                return None
            usable = self._usable(b, _deepest)  # to see at once how deep one would have to be
        with torch.no_grad():
            x = torch.stack(usable[::-1], dim=1)  # [batch, d, n], the newest first
            rows, before = x.flatten(0, 1), self.clock()
            products = operator.matvec(rows).reshape(x.shape)
            multiplied = self.clock() - before
            work.matvecs += len(b) * len(usable)
            coefficients, won = _fitted(products, b)
            start = (coefficients.unsqueeze(1) @ x).squeeze(1)
            reductions = _shares(b - (coefficients.unsqueeze(1) @ products).squeeze(1), won, b)
        if not (bool(torch.isfinite(start).all()) and reductions[-1] <= 1):
            self.depth, self.idle = 1, self.idle + 1
            return None
        self.left, depth = reductions[-1], len(usable)
        self.product = min(self.product, multiplied / depth)
        self.beside[depth] = min(self.beside.get(depth, math.inf), self.clock() - begin - multiplied)
        self._plan(reductions)
        return start

    def _usable(self, b: Tensor, depth: int) -> list[Tensor]:
        """Return the last solutions, at most so many, that are like the right-hand sides."""
        return [x for x in self.solutions[-depth:] if (x.shape, x.dtype, x.device) == (b.shape, b.dtype, b.device)]

    def _taken(self, depth: int) -> float:
        """Return the seconds that a start of this depth takes; where none was seen, by the next that was."""
        known = max((d for d in self.beside if d <= depth), default=min(self.beside))
        return depth * self.product + self.beside[known] * max(1.0, depth / known)

    def _plan(self, reductions: list[float]) -> None:
        """Choose the next depth by the seconds that starts of each depth would have saved."""
        price = _unknown * self.product if self.price is None else self.price
        saved = [-price * math.log10(max(left, 1e-16)) - self._taken(k) for k, left in enumerate(reductions, 1)]
        best = max(range(len(saved)), key=saved.__getitem__) + 1
        if not saved[best - 1] > 0:
            self.depth, self.idle = 1, self.idle + 1
            return
        self.idle, self.hold = 0, max(0, self.hold - 1)
        if best < len(reductions):
            self.depth, self.hold = best, _rest
        else:
            self.depth = best if self.hold else min(best + 1, _deepest)

    def keep(self, x: Tensor) -> None:
        """Keep a solution; forget the oldest."""
        if bool(torch.isfinite(x).all()):
            self.solutions = [*self.solutions[1 - _deepest :], x]
        else:
            self.solutions = []


def _fitted(images: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Fit right-hand sides by images, which may be the same; by QR, as those of smooth sequences are nearly dependent.

    Args:
        images: Shape ``[batch, d, n]``.
        b: Shape ``[batch, n]``.

    Returns:
        The coefficients, ``[batch, d]``, and what each image has won beside those before it, ``[batch, d]``.
    """
    numbers = torch.finfo(images.dtype)
    damping = numbers.eps**0.5  # beside which a coefficient would be rounding
    sizes = torch.linalg.vector_norm(images, dim=-1).clamp(min=numbers.tiny / damping)
    damped = torch.diag_embed((damping * sizes).to(images.dtype))
    basis, factor = torch.linalg.qr(torch.cat([images, damped], dim=2).mT)
    won = basis[:, : b.shape[1]].mH @ b.unsqueeze(-1)
    return torch.linalg.solve_triangular(factor, won, upper=True).squeeze(-1), won.squeeze(-1)


def _shares(left: Tensor, won: Tensor, b: Tensor) -> list[float]:
    """Return the share of the residual that the first, the first two, ..., all of the images leave; the worst system.

    Args:
        left: What all leave, shape ``[batch, n]``.
        won: Shape ``[batch, d]``, from `_fitted`.
        b: Shape ``[batch, n]``.

    Returns:
        The shares, the first image's first.
    """
    sizes, last = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (b, left))
    parts = torch.cat([last, won[:, 1:].abs().flip(1)], dim=1) / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)
    shares: list[float] = parts.square_().cumsum(dim=1).sqrt_().amax(dim=0).tolist()
    return shares[::-1]
