"""Warm starts: the combination of earlier solutions that leaves the least residual."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import Operator, Work

_deepest = 5
_useless = 0.9  # a start that leaves more than this of the residual is not worth its product
_rest = 8  # systems without a start, after two that were useless
_worth = 0.3  # one more solution is kept where those at hand leave less than this of the residual


@dataclasses.dataclass
class WarmStart:
    """The last solutions of a sequence.

    System ``i`` starts at ``c_1 x_{i-1} + ... + c_d x_{i-d}`` with the least residual, so never worse than at zero, for
    ``d`` products. The depth ``d`` grows while the start is good and shrinks to one where it is not; where starts are
    useless, most systems begin at zero.

    Attributes:
        solutions: The last solutions, each ``[batch, n]``.
        depth: How many of them to use.
        idle: Useless starts in a row, and the systems since that had none.
        left: The share of the residual that the last start left; one where there was none.
    """

    solutions: list[Tensor] = dataclasses.field(default_factory=list)
    depth: int = 1
    idle: int = 0
    left: float = 1.0

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
            x = torch.stack(usable, dim=1)  # [batch, d, n]
            products = operator.matvec(x.flatten(0, 1)).reshape(x.shape)
            work.matvecs += len(b) * len(usable)
            size = torch.linalg.vector_norm(products, dim=-1)
            scale = torch.where(size > 0, 1 / size, 0).unsqueeze(-1)
            images, x = products * scale, x * scale
            gram = images.conj() @ images.mT
            gram.diagonal(dim1=-2, dim2=-1).add_(1e-12)  # earlier solutions may be the same
            coefficients = torch.linalg.solve(gram, images.conj() @ b.unsqueeze(-1))
            start = (coefficients.mT @ x).squeeze(1)
            left = b - (coefficients.mT @ images).squeeze(1)
            reduction = float((left.norm(dim=-1) / b.norm(dim=-1).clamp(min=torch.finfo(size.dtype).tiny)).max())
        self.idle = 0 if reduction < _useless else self.idle + 1
        if not (bool(torch.isfinite(start).all()) and reduction <= 1):
            self.depth = 1
            return None
        self.left = reduction
        self.depth = min(len(usable) + 1, _deepest) if reduction < _worth else 1
        return start

    def keep(self, x: Tensor) -> None:
        """Keep a solution; forget the oldest."""
        if bool(torch.isfinite(x).all()):
            self.solutions = [*self.solutions[1 - _deepest :], x]
        else:
            self.solutions = []
