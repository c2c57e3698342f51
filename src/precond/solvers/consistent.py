"""Whether first derivatives are those of the functions: suspicions from the steps of a run, confirmed by differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Operator, Site
from precond.operators.dense import DenseOperator
from precond.solvers.check_derivatives import compare
from precond.solvers.constraints import Block
from precond.solvers.slacked import Oracles

OFF = 0.05
"""Relative error of a slope from which on a derivative is suspected."""
SEEN = 1e4
"""A change of a value tells something if it is this many rounding errors."""


@dataclasses.dataclass
class Slopes:
    """Compares changes of the objective and of each constraint with the trapezoidal rule.

    Its error falls with the cube of the step if the derivatives are right, so the last steps whose change is not lost in
    rounding decide. They raise a suspicion, which differences must confirm.

    Attributes:
        before: The point before.
        loss_off: Relative errors of the last two steps that tell something of the objective.
        rows_off: The same of each constraint, ``[2, m]``.
    """

    before: Site | None = None
    loss_off: Tensor | None = None
    rows_off: Tensor | None = None

    def observe(self, site: Site) -> None:
        """Absorb the next point."""
        before, self.before = self.before, site
        if before is None or before.x is site.x:
            return
        d = site.x - before.x
        off = _off(before.loss, site.loss, before.gradient @ d, site.gradient @ d)
        self.loss_off = _shifted(self.loss_off, off[None])
        if _cheap(before.jacobian) and _cheap(site.jacobian):
            slopes = [each.jacobian.matvec(d[None])[0] for each in (before, site)]
            rows = _off(before.constraints, site.constraints, *slopes)
            self.rows_off = _shifted(self.rows_off, rows)

    @property
    def loss_suspect(self) -> bool:
        """Whether the gradient of the objective is suspected."""
        return self.loss_off is not None and bool((self.loss_off > OFF).any())

    @property
    def rows_suspect(self) -> bool:
        """Whether the Jacobian of the constraints is."""
        return self.rows_off is not None and bool((self.rows_off > OFF).any())


def _shifted(known: Tensor | None, new: Tensor) -> Tensor:
    """Return the last two numbers of each column that are numbers."""
    known = new.new_zeros(2, len(new)) if known is None else known
    return torch.where(torch.isnan(new), known, torch.stack([known[1], new]))


def _off(before: Tensor, after: Tensor, slope_before: Tensor, slope_after: Tensor) -> Tensor:
    """Return the relative errors of the trapezoidal rule; not a number where a change tells nothing."""
    change, size = after - before, slope_before.abs() + slope_after.abs()
    rounding = torch.finfo(before.dtype).eps * torch.maximum(before.abs(), after.abs())
    largest = torch.maximum(change.abs(), size)
    error = (change - (slope_before + slope_after) / 2).abs() / largest
    return torch.where(largest > SEEN * rounding.clamp(min=torch.finfo(before.dtype).tiny), error, torch.nan)


def _cheap(jacobian: Operator) -> bool:
    return isinstance(jacobian, DenseOperator) or jacobian.entries() is not None


def complaint_about_loss(oracles: Oracles, x: Tensor) -> str | None:
    """Return a complaint where the gradient of the objective disagrees with differences at ``x``."""
    if oracles.gradient is not None:
        given, name = oracles.gradient(x), "jac"
    else:
        given, name = _autograd(lambda y: oracles.loss(y).reshape(1), x), "the gradient by autograd"
    wrong = compare(lambda y: _plain(oracles.loss, y).reshape(1), given.reshape(1, -1), x)
    if wrong is None:
        return None
    return _advice(dataclasses.replace(wrong, place=wrong.place[1:]).message(name, "fun"), oracles.gradient is None)


def complaint_about_rows(blocks: list[Block], x: Tensor, *, given: bool = False) -> str | None:
    """Return a complaint where the Jacobian of some constraints disagrees with differences at ``x``.

    Args:
        blocks: The constraints.
        x: The point, ``[n]``.
        given: Look at Jacobians that users wrote alone.

    Returns:
        The complaint.
    """
    for number, block in enumerate(blocks):
        torch_function = block.jacobian is None
        if not block.lower.numel() or (torch_function and given):
            continue
        rows = _autograd(block.function, x) if block.jacobian is None else block.jacobian(x)
        wrong = None if rows is None else compare(lambda y, f=block.function: _plain(f, y), rows, x)  # type: ignore[misc]
        if wrong is not None:
            name = "the Jacobian by autograd" if torch_function else "jac"
            return _advice(wrong.message(name, f"constraint {number} (counted from 0)"), torch_function)
    return None


def _advice(message: str, torch_function: bool) -> str:
    if not torch_function:
        return message
    return message.rpartition(";")[0] + "; some of its value leaves torch, as by float(x[0]): keep to torch operations"


def _plain(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return function(x)


def _autograd(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the Jacobian ``[m, n]`` by autograd; zeros where the values have no graph."""
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = function(leaf)
    if not value.requires_grad:
        return x.new_zeros(value.numel(), x.numel())
    rows = [
        torch.autograd.grad(each, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
        for each in value
    ]
    return torch.stack(rows)
