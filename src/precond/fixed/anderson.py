"""Anderson's acceleration, safeguarded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

from precond.core import BadInputError, FixedPointIteration, Footing


@final
@dataclasses.dataclass(frozen=True)
class Anderson(FixedPointIteration):
    """The combination of the last images whose residuals combine to the shortest one, where that is safe.

    Attributes:
        memory: Differences that are kept.
        regularization: Of the least-squares problem, relative.
        bound: An accelerated point is kept while the residual is at most ``bound ||r_0|| / (count + 1)^(1 + 1e-6)``.
    """

    memory: int = 10
    regularization: float = 1e-10
    bound: float = 10.0

    def __post_init__(self) -> None:
        """Check the memory."""
        if self.memory < 1:
            raise BadInputError(f"Anderson's acceleration keeps at least one difference, not {self.memory}")

    def iterate(self, operator: Callable[[Tensor], Tensor], x0: Tensor) -> Iterator[Footing]:
        """Yield every point whose image was taken."""
        x, image = x0, operator(x0)
        yield Footing(x, image)
        residual = x - image
        first, accepted = float(residual.norm()), 0
        moves: list[Tensor] = []
        changes: list[Tensor] = []
        while True:
            plain = image
            trial = self._combine(image, residual, moves, changes) if moves else plain
            level = self.bound * first / (accepted + 1) ** (1 + 1e-6)
            new = operator(trial)
            yield Footing(trial, new)
            if moves:
                safe = bool(torch.isfinite(new).all()) and float((trial - new).norm()) <= level
                accepted += safe
                if not safe:
                    moves.clear()
                    changes.clear()
                    trial, new = plain, operator(plain)
                    yield Footing(trial, new)
            moves.append(new - image)
            changes.append((trial - new) - residual)
            del moves[: -self.memory], changes[: -self.memory]
            x, image, residual = trial, new, trial - new

    def _combine(self, image: Tensor, residual: Tensor, moves: list[Tensor], changes: list[Tensor]) -> Tensor:
        """Return ``T(x) - G gamma`` with the ``gamma`` for which ``||r - R gamma||`` is least."""
        r, g = torch.stack(changes), torch.stack(moves)
        gram = r @ r.mT
        scale = gram.diagonal().mean()
        if not bool(scale > 0) or not bool(torch.isfinite(scale)):
            return image
        gram = gram + self.regularization * scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        gamma = torch.linalg.solve_ex(gram, r @ residual)[0]
        return image - gamma @ g if bool(torch.isfinite(gamma).all()) else image
