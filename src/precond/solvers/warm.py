"""Warm starts: the combination of earlier solutions that leaves the least residual."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Operator, Work

_deepest = 5
_rest = 8  # systems without a start, after two that were useless, or without a deeper one, after one that was
_apply = 2.0  # an iteration takes as long as so many of its products
_unknown = 8.0  # products for a digit, before any were counted


@dataclasses.dataclass
class WarmStart:
    """The last solutions of a sequence.

    System ``i`` starts at ``c_1 x_{i-1} + ... + c_d x_{i-d}`` with the least residual, so never worse than at zero, for
    ``d`` products. What a start saves are the products that the digits it has won would have taken; the depth ``d`` is
    that which saves most, one more is tried now and then, and where starts save less than they take, most systems begin
    at zero.

    Attributes:
        solutions: The last solutions, each ``[batch, n]``.
        depth: How many of them to use.
        idle: Useless starts in a row, and the systems since that had none.
        hold: Systems until one solution more is tried.
        left: The share of the residual that the last start left; one where there was none.
        price: Products that solves have taken for a digit, lately.
    """

    solutions: list[Tensor] = dataclasses.field(default_factory=list)
    depth: int = 1
    idle: int = 0
    hold: int = 0
    left: float = 1.0
    price: float | None = None

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
        usable = [
            x for x in self.solutions[-self.depth :] if (x.shape, x.dtype, x.device) == (b.shape, b.dtype, b.device)
        ]
        if not usable or not bool(b.any()):
            return None
        if self.idle >= 2:
            self.idle = self.idle + 1 if self.idle < 2 + _rest else 1
            if self.idle > 1:
                return None
        with torch.no_grad():
            x = torch.stack(usable[::-1], dim=1)  # [batch, d, n], the newest first
            products = operator.matvec(x.flatten(0, 1)).reshape(x.shape)
            work.matvecs += len(b) * len(usable)
            size = torch.linalg.vector_norm(products, dim=-1)
            scale = torch.where(size > 0, 1 / size, 0).unsqueeze(-1)
            images, x = products * scale, x * scale
            gram = images.conj() @ images.mT
            gram.diagonal(dim1=-2, dim2=-1).add_(1e-12)  # earlier solutions may be the same
            against = images.conj() @ b.unsqueeze(-1)
            coefficients = torch.linalg.solve(gram, against)
            start = (coefficients.mT @ x).squeeze(1)
            left = b - (coefficients.mT @ images).squeeze(1)
            sizes = b.norm(dim=-1).clamp(min=torch.finfo(size.dtype).tiny)
            reductions = [
                self._without(gram[:, :k, :k], against[:, :k], sizes) for k in range(1, len(usable))
            ] + [float((left.norm(dim=-1) / sizes).max())]  # fmt: skip
        if not (bool(torch.isfinite(start).all()) and reductions[-1] <= 1):
            self.depth, self.idle = 1, self.idle + 1
            return None
        self.left = reductions[-1]
        self._plan(reductions)
        return start

    @staticmethod
    def _without(gram: Tensor, against: Tensor, sizes: Tensor) -> float:
        """Return the share of the residual that fewer solutions would have left, by the normal equations."""
        won = (against.conj() * torch.linalg.solve(gram, against)).sum(dim=(1, 2)).real / sizes**2
        return float((1 - won).clamp(min=1e-14).sqrt().max())

    def _plan(self, reductions: list[float]) -> None:
        """Choose the next depth by what starts of each depth would have saved, in products."""
        price = _unknown if self.price is None else self.price
        saved = [-_apply * price * math.log10(max(left, 1e-16)) - k for k, left in enumerate(reductions, 1)]
        best = max(range(len(saved)), key=saved.__getitem__) + 1
        if not saved[best - 1] > 0:
            self.depth, self.idle = 1, self.idle + 1
            return
        self.idle, self.hold = 0, max(0, self.hold - 1)
        if best < len(reductions):
            self.depth, self.hold = best, _rest
        else:
            self.depth = best if self.hold else min(best + 1, _deepest)

    def learn(self, products: int, digits: float) -> None:
        """Note how many products a solve took, beside those of its start, to win so many digits."""
        rate = products / max(digits, 0.1)
        self.price = rate if self.price is None else (self.price + rate) / 2

    def keep(self, x: Tensor) -> None:
        """Keep a solution; forget the oldest."""
        if bool(torch.isfinite(x).all()):
            self.solutions = [*self.solutions[1 - _deepest :], x]
        else:
            self.solutions = []
