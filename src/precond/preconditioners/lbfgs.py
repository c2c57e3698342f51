"""The limited-memory BFGS inverse Hessian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Preconditioner, Scope, Traits
from precond.math.dense import secants


@dataclasses.dataclass
class LBFGSState:
    """The last ``m`` secant pairs, each divided by ``sqrt(s'y)`` so that ``s'y = 1``.

    Attributes:
        s: Scaled differences of points in a ring, ``[batch, m, n]``.
        y: Scaled differences of gradients in the same ring, ``[batch, m, n]``.
        triangle: ``R[i, j] = s_i' y_j`` for ``i <= j`` from the oldest pair to the newest, unit upper triangular,
            ``[batch, m, m]``.
        scale: The diagonal of the initial inverse Hessian, ``s'y / y'y`` of the newest pair, ``[batch, 1]``; a diagonal
            ``[batch, n]`` that was put in its place is used until the next pair comes.
        count: Pairs absorbed so far, ``[batch]``.
    """

    s: Tensor
    y: Tensor
    triangle: Tensor
    scale: Tensor
    count: Tensor


@final
@dataclasses.dataclass(frozen=True)
class LBFGS(Preconditioner[LBFGSState]):
    """The L-BFGS inverse Hessian of the last ``memory`` secant pairs, started from ``s'y / y'y`` times the identity.

    The two-loop recursion (Nocedal, Updating quasi-Newton matrices with limited storage, 1980) is run blocked, as in
    the compact form of Byrd, Nocedal & Schnabel (1994): with the pairs as rows of ``S`` and ``Y``, the first loop is
    the substitution ``R a = S v``, the second ``R' c = a - Y scale q`` with ``q = v - Y' a``, and the result is
    ``scale q + S' c``. On the CPU, with few variables, both loops are compiled as they stand. With a shift it is the
    inverse of the same paper's compact form of the direct matrix ``B``, which is ``delta - W M^-1 W'`` with
    ``W = [delta S, Y]`` and ``M = [[S' delta S, L], [L', -D]]``.

    Attributes:
        memory: How many pairs are kept.
        curvature: Pairs with ``s'y <= curvature ||s|| ||y||`` are skipped, which keeps the map positive definite.
    """

    memory: int = 10
    curvature: float = 1e-10

    needs: ClassVar[Need] = Need.SECANT
    scope: ClassVar[Scope] = Scope.GLOBAL

    def __post_init__(self) -> None:
        """Check the memory."""
        if self.memory < 1:
            raise BadInputError(f"L-BFGS needs room for at least 1 pair, not {self.memory}")

    @property
    def traits(self) -> Traits:
        """Symmetric, positive definite, constant between pairs; accepts a shift."""
        return Traits(shiftable=True)

    def init(self, like: Tensor) -> LBFGSState:
        """Allocate an empty memory: the identity."""
        batch, n, m = like.shape[0], like[0].numel(), self.memory
        return LBFGSState(
            s=like.new_zeros(batch, m, n),
            y=like.new_zeros(batch, m, n),
            triangle=torch.eye(m, dtype=like.dtype, device=like.device).repeat(batch, 1, 1),
            scale=like.new_ones(batch, 1),
            count=torch.zeros(batch, dtype=torch.int64, device=like.device),
        )

    def observe(self, state: LBFGSState, evidence: Evidence) -> None:
        """Absorb a secant pair in place of the oldest; members whose pair shows no curvature skip theirs."""
        if evidence.secant is None:
            return
        s, y = (v.reshape(v.shape[0], -1) for v in evidence.secant)
        if secants.small(state.s):
            secants.absorb((s, y), state.s, state.y, state.triangle, state.scale, state.count, self.curvature)
            return
        long, steep = (v.abs().amax(1) for v in (s, y))  # squares of huge differences overflow
        p, q = s / long[:, None], y / steep[:, None]
        sy, yy = (p * q).sum(1), (q * q).sum(1)
        keep = (sy > self.curvature * p.norm(dim=1) * yy.sqrt()) & torch.isfinite(long) & torch.isfinite(steep)
        root = (torch.where(keep, sy, 1).sqrt() * long.sqrt() * steep.sqrt())[:, None]
        s, y = s / root, y / root

        member = torch.arange(s.shape[0], device=s.device)
        slot = state.count % self.memory
        state.s[member, slot] = torch.where(keep[:, None], s, state.s[member, slot])
        state.y[member, slot] = torch.where(keep[:, None], y, state.y[member, slot])
        state.count += keep
        column = torch.einsum("bmn,bn->bm", state.s, y).gather(1, self._order(state))
        shifted = torch.nn.functional.pad(state.triangle[:, 1:, 1:], (0, 1, 0, 1))
        shifted[:, :, -1] = column
        shifted[:, -1, -1] = 1
        state.triangle.copy_(torch.where(keep[:, None, None], shifted, state.triangle))
        state.scale.copy_(torch.where(keep[:, None], (long / steep * (sy / yy))[:, None], state.scale))

    def apply(self, state: LBFGSState, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Return ``(B + shift I)^-1 v``: by two loops without a shift, by the compact form with one."""
        if shift:
            return self._shifted(state, v.reshape(v.shape[0], -1, 1), shift).reshape(v.shape)
        if secants.small(state.s):
            flat = v.reshape(v.shape[0], -1)
            return secants.two_loops(flat, state.s, state.y, state.scale, state.count).reshape(v.shape)
        flat, order, scale = v.reshape(v.shape[0], -1, 1), self._order(state)[..., None], state.scale[..., None]
        place = order.argsort(1)
        a = torch.linalg.solve_triangular(
            state.triangle, (state.s @ flat).gather(1, order), upper=True, unitriangular=True
        )
        q = flat - state.y.mT @ a.gather(1, place)
        c = torch.linalg.solve_triangular(
            state.triangle.mT, a - (state.y @ (scale * q)).gather(1, order), upper=False, unitriangular=True
        )
        return (scale * q + state.s.mT @ c.gather(1, place)).reshape(v.shape)

    @staticmethod
    def _parts(state: LBFGSState) -> tuple[Tensor, Tensor, Tensor]:
        """Return the diagonal ``delta``, ``W'`` and ``M`` of ``B = delta - W M^-1 W'``."""
        delta = (1 / state.scale)[:, None]
        batch, m, _ = state.s.shape
        # the ring's order does not matter to S'S, but "older than" does to the triangle below the diagonal
        age = (torch.arange(m, device=state.s.device) - state.count[:, None]) % m
        older = age[:, None, :] < age[:, :, None]
        products = state.s @ state.y.mT
        lower = torch.where(older, products, 0)
        there = (torch.arange(m, device=state.s.device) < state.count[:, None]).to(state.s)
        eye = torch.diag_embed(1 - there)
        top = torch.cat([(delta * state.s) @ state.s.mT + eye, lower], 2)
        bottom = torch.cat([lower.mT, -torch.eye(m, dtype=lower.dtype, device=lower.device).expand(batch, m, m)], 2)
        return delta, torch.cat([delta * state.s, state.y], 1), torch.cat([top, bottom], 1)

    def _shifted(self, state: LBFGSState, v: Tensor, shift: float) -> Tensor:
        """Return ``(B + shift I)^-1 v`` by the compact form of ``B`` and the formula of Woodbury."""
        delta, w, middle = self._parts(state)
        total = (delta + shift).mT
        first = v / total
        inner = torch.linalg.solve(middle - w @ (w.mT / total), w @ first)
        return first + (w.mT @ inner) / total

    def _order(self, state: LBFGSState) -> Tensor:
        """Return the slots of the ring from the oldest pair to the newest, ``[batch, m]``."""
        steps = torch.arange(self.memory, device=state.count.device)
        return (state.count[:, None] + steps) % self.memory
