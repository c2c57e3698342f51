"""Programs of users' functions with a slack variable for each inequality."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Program, Work
from precond.solvers.programs.by_torch import TorchProgram
from precond.solvers.programs.constraints import Block, Rows
from precond.solvers.programs.given import GivenProgram, Product, Scalar
from precond.solvers.squares.difference_jacobians import DifferenceJacobian

SMALL = 1000
"""Newton systems up to this side are dense; for larger ones sparsity is looked for."""


@dataclasses.dataclass(frozen=True)
class Oracles:
    """The functions of a program over the flat variables ``[n]``, before constraints are sorted.

    Attributes:
        start: The starting point, ``[n]``.
        loss: The objective, 0-d.
        gradient: Its gradient, or ``None`` when all functions are differentiated by autograd.
        give: Turns flat variables into what users see.
        call: Calls a user's function at flat variables.
        finish: Turns the flat solution into what the result holds.
        hessian: Maps a point to the product of the objective's Hessian there with a vector ``[n]``; ``None`` where
            differences of gradients have to do, or autograd.
    """

    start: Tensor
    loss: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor] | None
    give: Callable[[Tensor], Any]
    call: Callable[[Callable[..., Any], Tensor], Any]
    finish: Callable[[Tensor], Any]
    hessian: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None

    def holding(self, fixed: Tensor, values: Tensor) -> Oracles:
        """Return the objective as a function of the other variables: these are seen at their values alone.

        Args:
            fixed: Which variables, ``[n]``.
            values: Their values, at the same places of ``[n]``.

        Returns:
            The functions; derivatives by fixed variables are zero.
        """

        def at(x: Tensor) -> Tensor:
            return torch.where(fixed.to(x.device), values.to(x), x)

        def free(v: Tensor) -> Tensor:
            return torch.where(fixed.to(v.device), 0.0, v)

        def curved(x: Tensor) -> Callable[[Tensor], Tensor]:
            assert self.hessian is not None
            product = self.hessian(at(x))
            return lambda v: free(product(free(v)))

        gradient = self.gradient
        return dataclasses.replace(
            self, start=at(self.start), loss=lambda x: self.loss(at(x)), give=lambda x: self.give(at(x)),
            gradient=None if gradient is None else lambda x: free(gradient(at(x))),
            hessian=None if self.hessian is None else curved,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slacked:
    """A program over variables and slacks ``(x, s)``, ``[n + k]``.

    Attributes:
        oracles: The functions of the variables.
        blocks: The constraints.
        lower: Lower bounds of the variables and slacks.
        upper: Upper bounds.
        target: What equations are to equal, ``[m]``; zero for inequalities.
        slacked: Which constraints have a slack, ``[m]``.
        start: The starting point with slacks, ``[n + k]``.
    """

    oracles: Oracles
    blocks: list[Block]
    lower: Tensor
    upper: Tensor
    target: Tensor
    slacked: Tensor
    start: Tensor

    @classmethod
    def of(cls, oracles: Oracles, blocks: list[Block], lower: Tensor, upper: Tensor) -> Slacked:
        """Return the program; slacks start at the values of their constraints, within their bounds.

        Args:
            oracles: The functions of the variables.
            blocks: The constraints.
            lower: Lower bounds of the variables, ``[n]``.
            upper: Upper bounds of the variables, ``[n]``.

        Returns:
            The program.
        """
        x0 = oracles.start
        low = torch.cat([x0.new_zeros(0), *(block.lower for block in blocks)])
        high = torch.cat([x0.new_zeros(0), *(block.upper for block in blocks)])
        slacked = low != high
        with torch.no_grad():
            values = torch.cat([x0.new_zeros(0), *(block.function(x0) for block in blocks)])
        slacks = values[slacked].clamp(low[slacked], high[slacked])
        return cls(
            oracles, blocks, torch.cat([lower, low[slacked]]), torch.cat([upper, high[slacked]]),
            torch.where(slacked, 0.0, low), slacked, torch.cat([x0, torch.nan_to_num(slacks)]),
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Number of variables without slacks."""
        return self.oracles.start.numel()

    def constraints(self, y: Tensor) -> Tensor:
        """Return the equations ``[m]`` at ``(x, s)``."""
        x, s = y[: self.n], y[self.n :]
        values = [block.function(x) for block in self.blocks]
        stacked = torch.cat(values) if values else y.new_zeros(0)
        places = self.slacked.nonzero()[:, 0]
        return (stacked - self.target.to(stacked)).index_add(0, places, -s)

    def jacobian(self, y: Tensor) -> Rows:
        """Return the Jacobian of the equations, ``[m, n + k]``; sparse for large problems that have sparse parts."""
        x = y[: self.n]
        rows: list[Rows] = []
        for block in self.blocks:
            if block.jacobian is not None:
                rows.append(block.jacobian(x))
            else:
                rows.append(self._differences.at(block.function, x, block.function(x)))
        for block, part in zip(self.blocks, rows, strict=True):
            if tuple(part.shape) != (len(block.lower), self.n):
                raise BadInputError(
                    f"a constraint's jac returned shape {tuple(part.shape)}: it must be "
                    f"[{len(block.lower)}, {self.n}], a row for each constraint"
                )
        if self.sparse:
            return self._sparse_rows(rows, y)
        dense = [_dense(each, y) for each in rows]
        stacked = torch.cat(dense) if dense else y.new_zeros(0, self.n)
        slack = -torch.eye(len(self.target), dtype=y.dtype, device=y.device)[:, self.slacked]
        return torch.cat([stacked, slack], dim=1)

    @functools.cached_property
    def sparse(self) -> bool:
        """Whether Jacobians keep their sparsity: the problem is large, and the user gave sparse ones, or none."""
        if self.start.numel() + len(self.target) <= SMALL or self.oracles.gradient is None:
            return False
        x = self.oracles.start
        shown = [None if block.jacobian is None else block.jacobian(x) for block in self.blocks]
        return not shown or any(scipy.sparse.issparse(each) for each in shown)

    def _sparse_rows(self, rows: list[Rows], y: Tensor) -> scipy.sparse.csr_array:
        m, places = len(self.target), self.slacked.nonzero()[:, 0].cpu().numpy()
        k = len(places)
        parts = [each.cpu().numpy() if isinstance(each, Tensor) else each for each in rows]
        stacked = scipy.sparse.vstack(parts) if parts else scipy.sparse.csr_array((0, self.n))
        slack = scipy.sparse.csr_array((np.full(k, -1.0), (places, np.arange(k))), shape=(m, k))
        matrix = scipy.sparse.csr_array(scipy.sparse.hstack([stacked, slack]))
        return matrix.astype(torch.empty(0, dtype=y.dtype).numpy().dtype, copy=False)

    def curvature(self, y: Tensor, multipliers: Tensor) -> tuple[list[Product], Scalar | None]:
        """Return the Hessian of the Lagrangian as parts that are known and one that is to be differentiated.

        Args:
            y: The variables and slacks, ``[n + k]``.
            multipliers: ``[m]``.

        Returns:
            Products with the known parts, and a function that returns the gradient of the rest; ``None`` where nothing
            is left.
        """
        known: list[Product] = []
        left: list[Scalar] = []
        x, n = y[: self.n], self.n
        gradient, hessian = self.oracles.gradient, self.oracles.hessian
        assert gradient is not None
        if hessian is None:
            left.append(gradient)
        else:
            known.append(hessian(x))
        for block, weights in zip(self.blocks, multipliers.split([len(b.lower) for b in self.blocks]), strict=True):
            if block.hessian is not None:
                known.append(block.hessian(x, weights))
            else:
                left.append(functools.partial(self._weighted, block, weights))

        def padded(part: Scalar) -> Scalar:
            return lambda v: torch.cat([part(v[:n]), torch.zeros_like(v[n:])])

        inside = self.lower[:n].to(y), self.upper[:n].to(y)
        rest = padded(lambda at: torch.stack([part(at.clamp(*inside)) for part in left]).sum(0))
        return [padded(product) for product in known], rest if left else None

    @functools.cached_property
    def _differences(self) -> DifferenceJacobian:
        return DifferenceJacobian(exact=True, bounds=(self.lower[: self.n], self.upper[: self.n]))

    def _weighted(self, block: Block, weights: Tensor, x: Tensor) -> Tensor:
        """Return ``J' v`` of some constraints at ``x``."""
        rows: Rows
        if block.jacobian is None:
            rows = self._differences.at(block.function, x, block.function(x))
        else:
            rows = block.jacobian(x)
        if isinstance(rows, Tensor):
            return weights @ rows
        return torch.from_numpy(rows.T @ weights.cpu().double().numpy()).to(x)

    @property
    def exact(self) -> bool:
        """Whether the Hessian of the Lagrangian takes no differences."""
        return self.oracles.hessian is not None and all(block.hessian is not None for block in self.blocks)

    @property
    def rough(self) -> bool:
        """Whether gradients of the Lagrangian hold differences where its Hessian is asked for."""
        return any((block.jacobian is None or block.differences) and block.hessian is None for block in self.blocks)

    def program(self, work: Work, *, double: bool = False) -> Program:
        """Return the oracle; in double precision if asked and the functions allow it."""
        loss, gradient = self.oracles.loss, self.oracles.gradient
        lower, upper = (b.double() if double else b for b in (self.lower, self.upper))
        equations = len(self.target)
        if gradient is None:
            program: Program = TorchProgram(
                lambda y: loss(y[: self.n]), self.constraints, lower, upper, equations, work
            )
        else:
            program = self._given(gradient, lower, upper, work)
        if bool(self.slacked.any()):
            program.slacks = self.slacked.nonzero()[:, 0]
        return program

    def _given(self, gradient: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor, work: Work) -> Program:
        loss, n, equations = self.oracles.loss, self.n, len(self.target)

        def padded(y: Tensor) -> Tensor:
            return torch.cat([gradient(y[: self.n]), torch.zeros_like(y[n:])])

        return GivenProgram(
            lambda y: loss(y[: self.n]), padded, self.constraints, self.jacobian, lower, upper, equations, work,
            curvature=self.curvature, exact=self.exact, rough=self.rough,
        )  # fmt: skip


def _dense(rows: Rows, like: Tensor) -> Tensor:
    return rows.to(like) if isinstance(rows, Tensor) else torch.from_numpy(rows.toarray()).to(like)
