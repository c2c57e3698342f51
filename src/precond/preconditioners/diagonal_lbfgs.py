"""The limited-memory BFGS inverse Hessian, started from a diagonal where that explains the secant pairs."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Scope, Traits
from precond.math.dense.diagonals import weigh
from precond.preconditioners.lbfgs import LBFGS, LBFGSState


@dataclasses.dataclass
class DiagonalLBFGSState:
    """The pairs, and what they say of each variable.

    Attributes:
        pairs: The state of the secant pairs; its ``scale`` is ``[batch, n]``.
        moves: Decaying sum of ``s^2 / s'y``, ``[batch, n]``.
        changes: That of ``y^2 / s'y``, ``[batch, n]``.
        favour: What pairs have said for the diagonal, ``[batch]``, float64.
    """

    pairs: LBFGSState
    moves: Tensor
    changes: Tensor
    favour: Tensor


@final
@dataclasses.dataclass(frozen=True)
class DiagonalLBFGS(Preconditioner[DiagonalLBFGSState]):
    """L-BFGS whose initial inverse Hessian is a diagonal ``D``, or a multiple of the identity where that is as good.

    ``D`` is the root of a decaying sum of ``s^2 / s'y`` over that of ``y^2 / s'y``, entry by entry: exact for functions
    that are separable and quadratic, and free of the scales of the variables. How well a metric explains a pair is the
    squared cosine between ``s`` and ``y`` in it, ``(s'y)^2 / ((s' D^-1 s) (y' D y))``, with the ``D`` of the pairs
    before. Where the geometric mean of the last cosines is at least ``e`` times what the Euclidean ones are, ``D`` is
    taken, times the number that makes ``s'y = y' D y`` for the newest pair.

    Attributes:
        pairs: The memory.
        decay: What the sums keep at each pair.
    """

    pairs: LBFGS = LBFGS()
    decay: float = 0.97

    needs: ClassVar[Need] = Need.SECANT
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the decay."""
        if not 0 <= self.decay <= 1:
            raise BadInputError(f"the decay of the sums must lie in [0, 1], not be {self.decay}")

    @property
    def traits(self) -> Traits:
        """Those of the pairs."""
        return self.pairs.traits

    def init(self, like: Tensor) -> DiagonalLBFGSState:
        """Allocate an empty memory: the identity."""
        flat = like.reshape(like.shape[0], -1)
        pairs = dataclasses.replace(self.pairs.init(like), scale=torch.ones_like(flat))
        return DiagonalLBFGSState(
            pairs, torch.zeros_like(flat), torch.zeros_like(flat),
            torch.zeros(len(flat), dtype=torch.float64, device=like.device),
        )  # fmt: skip

    def observe(self, state: DiagonalLBFGSState, evidence: Evidence) -> None:
        """Absorb a secant pair; members whose pair shows no curvature skip theirs."""
        if evidence.secant is None:
            return
        pairs, before = state.pairs, state.pairs.count.clone()
        self.pairs.observe(pairs, evidence)
        weigh(
            pairs.s, pairs.y, pairs.count > before, pairs.count, state.moves, state.changes, state.favour, pairs.scale,
            self.decay,
        )  # fmt: skip

    def apply(self, state: DiagonalLBFGSState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift I)^-1 v``."""
        return self.pairs.apply(state.pairs, v, shift=shift)
