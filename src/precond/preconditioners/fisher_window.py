"""The inverse of an empirical Fisher matrix that is made of a window of gradients."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Preconditioner, Scope, Traits, map_tensors, need
from precond.math.factors.cholesky import safe_cholesky
from precond.preconditioners.windows import DenseWindow, LowRankWindow, Window


@dataclasses.dataclass
class FisherWindowState:
    """State of `FisherWindow`; ``m`` gradients have room.

    Attributes:
        rows: The gradients of the window, a ring, in the window's own format.
        newest: The gradient observed last, in the same format.
        inner: Its products with the rows, and with itself, in double precision, ``[batch, m + 1]``.
        waiting: Whether it has still to be taken into the window, ``[batch]``.
        count: Gradients taken in so far, ``[batch]``.
        gram: ``G G^T`` in double precision, ``[batch, m, m]``.
        factor: Lower Cholesky factor of ``damping c I + G G^T`` in double precision, ``[batch, m, m]``.
    """

    rows: Any
    newest: Any
    inner: Tensor
    waiting: Tensor
    count: Tensor
    gram: Tensor
    factor: Tensor


@final
@dataclasses.dataclass(frozen=True)
class FisherWindow(Preconditioner[FisherWindowState]):
    """``(damping I + G^T G / c)^-1`` for the last ``m`` gradients, the rows of ``G``, with ``c = m``.

    By Woodbury's identity that is ``v / damping - G^T (damping c I + G G^T)^-1 G v / damping``. A new gradient replaces
    the oldest: when it is observed, its row of ``G G^T`` takes one product with the window; the refresh that takes it
    in factors that ``m x m`` matrix anew, in ``m^3 / 3`` operations. A gradient with which there is no factor is left
    out. Until there are ``m`` gradients, ``c`` is how many there are.

    Source: M-FAC (arXiv 2107.03356), whose dynamic algorithm gives the same map.

    Attributes:
        memory: How many gradients are kept, ``m``.
        damping: What is added to the Fisher matrix, positive.
        window: How they are kept.
        divisor: ``"seen"``, or ``"memory"`` for ``c = m`` from the start, as if gradients of zero came before the
            first: then the first directions are up to ``m`` times as long.
        per_tensor: Whether every tensor has a window of its own, so that the Fisher matrix is block-diagonal, rather
            than all together; always so where rows are matrices of low rank.
    """

    needs: ClassVar[Need] = Need.GRADIENT
    memory: int = 1024
    damping: float = 1e-5
    window: Window[Any] = DenseWindow()
    divisor: Literal["seen", "memory"] = "seen"
    per_tensor: bool = False

    def __post_init__(self) -> None:
        """Check the room and the damping."""
        if self.memory < 1:
            raise BadInputError(f"the window needs room for at least 1 gradient, not {self.memory}")
        if not self.damping > 0:
            raise BadInputError(f"the damping of the Fisher matrix must be positive, not {self.damping}")
        if self.divisor not in ("seen", "memory"):
            raise BadInputError(f"the divisor must be 'seen' or 'memory', not {self.divisor!r}")

    @property
    def scope(self) -> Scope:
        """All parameters, unless each tensor has a window of its own."""
        return Scope.MATRIX if self.per_tensor or isinstance(self.window, LowRankWindow) else Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Exact, so linear and definite; it moves at refreshes alone, and any shift takes another factor."""
        return Traits(shiftable=True, traceable=False)

    def init(self, like: Tensor) -> FisherWindowState:
        """Start with an empty window: the identity divided by the damping."""
        batch, m = like.shape[0], self.memory
        root = torch.full((m,), (self.damping * m) ** 0.5, dtype=torch.float64, device=like.device)
        return FisherWindowState(
            rows=self.window.init(like, m),
            newest=self.window.init(like, 1),
            inner=torch.zeros(batch, m + 1, dtype=torch.float64, device=like.device),
            waiting=torch.zeros(batch, dtype=torch.bool, device=like.device),
            count=torch.zeros(batch, dtype=torch.int64, device=like.device),
            gram=torch.zeros(batch, m, m, dtype=torch.float64, device=like.device),
            factor=torch.diag(root).repeat(batch, 1, 1),
        )

    def observe(self, state: FisherWindowState, evidence: Evidence) -> None:
        """Keep the gradient and its products for the next refresh, in place of one that still waits."""
        gradient = need(evidence.gradient, "gradient")
        self.window.write(state.newest, gradient)
        newest = self.window.read(state.newest, gradient)
        filled = self._filled(state)
        state.inner[:, :filled].copy_(self.window.products(_first(state.rows, filled), newest))
        state.inner[:, -1:].copy_(self.window.products(state.newest, newest))
        state.waiting.fill_(True)

    def refresh(self, state: FisherWindowState) -> Health:
        """Take the newest gradient into the window and factor; a member that cannot keeps its window."""
        if state.waiting.device.type == "cpu" and not bool(state.waiting.any()):
            return Health()
        filled = min(self._filled(state) + 1, self.memory)
        member = torch.arange(state.count.shape[0], device=state.count.device)
        slot, waiting = state.count % self.memory, state.waiting.clone()
        old_gram, old_factor = state.gram[:, :filled, :filled], state.factor[:, :filled, :filled]
        inner, gram = state.inner[:, :filled].clone(), old_gram.clone()
        inner[member, slot] = state.inner[:, -1]
        gram[member, slot] = inner
        gram[member, :, slot] = inner
        factor, failed = safe_cholesky(self._shifted(gram, state.count + 1, 0.0))
        keep = waiting & ~failed
        self.window.put(state.rows, slot, state.newest, keep)
        old_gram.copy_(torch.where(keep[:, None, None], gram, old_gram))
        old_factor.copy_(torch.where(keep[:, None, None], factor, old_factor))
        state.count.add_(keep)
        state.waiting.fill_(False)
        failures = int((waiting & failed).sum())
        return Health(failures, "a gradient left the window without a Cholesky factor" if failures else "")

    def apply(self, state: FisherWindowState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(F + shift I)^-1 v`` with the damped Fisher matrix ``F``."""
        filled = self._filled(state)
        if not filled:
            return v / (self.damping + shift)
        rows, factor = _first(state.rows, filled), state.factor[:, :filled, :filled]
        if shift:
            factor, _ = safe_cholesky(self._shifted(state.gram[:, :filled, :filled], state.count, shift))
        inner = self.window.products(rows, v).to(factor.dtype).unsqueeze(-1)
        weights = torch.cholesky_solve(inner, factor).squeeze(-1)
        return (v - self.window.combine(rows, weights, v)) / (self.damping + shift)

    def _filled(self, state: FisherWindowState) -> int:
        """Return how many rows to look at: as many as a member has at most; the others are zero, and cost nothing.

        On another device all of them, since asking how many there are would keep the processor waiting.
        """
        if state.count.device.type != "cpu":
            return self.memory
        return min(int(state.count.max()), self.memory)

    def _shifted(self, gram: Tensor, count: Tensor, shift: float) -> Tensor:
        """Return ``(damping + shift) c I + G G^T``, or its leading block, for members with ``count`` gradients."""
        divisor = count.clamp(min=1 if self.divisor == "seen" else self.memory, max=self.memory)
        shifted = gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_((self.damping + shift) * divisor.to(gram.dtype)[:, None])
        return shifted


def _first(rows: Any, count: int) -> Any:
    """Return the first rows of a window, as views."""
    return map_tensors(lambda tensor: tensor[:, :count], rows)
