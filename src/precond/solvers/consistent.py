"""Whether derivatives are those of the functions: suspicions from the steps of a run, confirmed by differences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import Operator, Site
from precond.operators.constant import sparse_times
from precond.operators.dense import DenseOperator
from precond.solvers.check_derivatives import Mismatch, compare, wrong_along
from precond.solvers.programs.constraints import Block, Rows
from precond.solvers.programs.slacked import Oracles

OFF = 0.05
"""Relative error of a slope from which on a derivative is suspected."""
SEEN = 1e6
"""A change of a value tells something if it is this many rounding errors."""
SUSPECTS = 4
"""Constraints that are looked at where more are suspected."""


@dataclasses.dataclass
class Slopes:
    """Compares changes of the objective and of each constraint with the trapezoidal rule.

    Its error falls with the cube of the step if the derivatives are right, so the last steps whose change is not lost
    in rounding decide. They raise a suspicion, which differences must confirm.

    Attributes:
        before: The point before.
        loss_off: Relative errors of the last two steps that tell something of the objective.
        rows_off: The same of each constraint, ``[2, m]``.
    """

    before: Site | None = None
    loss_off: Tensor | None = None
    rows_off: Tensor | None = None
    _seen: Tensor | None = None

    def observe(self, site: Site) -> None:
        """Absorb the next point."""
        before, self.before = self.before, site
        if before is None or before.x is site.x:
            return
        d, x = site.x - before.x, torch.maximum(site.x.abs(), before.x.abs())
        values = [each.loss[None] for each in (before, site)]
        slopes = [(each.gradient @ d)[None] for each in (before, site)]
        terms = (site.gradient.abs() @ x)[None]
        if _cheap(before.jacobian) and _cheap(site.jacobian):
            terms = torch.cat([terms, _terms(site.jacobian, x)])
            values = [torch.cat([v, each.constraints]) for v, each in zip(values, (before, site), strict=True)]
            slopes = [
                torch.cat([s, each.jacobian.matvec(d[None])[0]]) for s, each in zip(slopes, (before, site), strict=True)
            ]
        elif self.rows_off is not None:
            return  # the form of the Jacobian has changed on the way
        off = self._off(*values, *slopes, terms=terms)
        self.loss_off = _shifted(self.loss_off, off[:1])
        self.rows_off = _shifted(self.rows_off, off[1:])

    def _off(
        self, before: Tensor, after: Tensor, slope_before: Tensor, slope_after: Tensor, *, terms: Tensor
    ) -> Tensor:
        """Return the relative errors of the trapezoidal rule; not a number where a change tells nothing.

        What rounding may change are values, slopes, and ``terms``, sums of what each variable adds, which may cancel.
        """
        change, size = after - before, slope_before.abs() + slope_after.abs()
        largest = torch.maximum(change.abs(), size)
        level = torch.stack([before.abs(), after.abs(), largest, terms]).amax(0)
        if self._seen is not None and len(self._seen) == len(level):
            level = torch.maximum(level, self._seen)  # a small value may be the difference of larger ones
        self._seen = level
        error = (change - (slope_before + slope_after) / 2).abs() / largest
        telling = largest > SEEN * torch.finfo(before.dtype).eps * level
        return torch.where(telling, error, torch.nan)

    @property
    def loss_suspect(self) -> bool:
        """Whether the gradient of the objective is suspected."""
        return self.loss_off is not None and bool((self.loss_off > OFF).any())

    @property
    def suspects(self) -> list[int]:
        """The constraints whose Jacobian is suspected most, at most `SUSPECTS`."""
        if self.rows_off is None or not self.rows_off.numel():
            return []
        worst, places = self.rows_off.amax(0).sort(descending=True)
        return places[worst > OFF][:SUSPECTS].tolist()


def _shifted(known: Tensor | None, new: Tensor) -> Tensor:
    """Return the last two numbers of each column that are numbers."""
    known = new.new_zeros(2, len(new)) if known is None or known.shape[1] != len(new) else known
    return torch.where(torch.isnan(new), known, torch.stack([known[1], new]))


def _cheap(jacobian: Operator) -> bool:
    return isinstance(jacobian, DenseOperator) or jacobian.entries() is not None


def _terms(jacobian: Operator, x: Tensor) -> Tensor:
    """Return ``|J| x`` of a Jacobian whose entries are at hand."""
    dense = jacobian.dense()
    if dense is not None:
        return dense.abs() @ x
    entries = jacobian.entries()
    assert entries is not None, "cheap ones have them"
    return sparse_times(abs(entries), x)


def complaint_about_loss(oracles: Oracles, x: Tensor) -> str | None:
    """Return a complaint where the gradient of the objective disagrees with differences at ``x``."""
    if oracles.gradient is not None:
        given, name = oracles.gradient(x), "jac"
    else:
        given, name = _autograd(lambda y: oracles.loss(y).reshape(1), x), "the gradient by autograd"
    wrong = _compare(lambda y: _plain(oracles.loss, y).reshape(1), given.reshape(1, -1), x)
    if wrong is None:
        return None
    return _advice(dataclasses.replace(wrong, place=wrong.place[1:]).message(name, "fun"), oracles.gradient is None)


def complaint_about_rows(
    blocks: list[Block], x: Tensor, suspects: list[int] | None = None, *, by_differences: bool = False
) -> str | None:
    """Return a complaint where the Jacobian of some constraints disagrees with differences at ``x``.

    Args:
        blocks: The constraints.
        x: The point, ``[n]``.
        suspects: The constraints that are looked at, numbered through the blocks; ``None`` for all of those whose
            Jacobians users wrote.
        by_differences: Functions without a Jacobian were differentiated by differences, which says nothing of them.

    Returns:
        The complaint.
    """
    first = 0
    for number, block in enumerate(blocks):
        count = block.lower.numel()
        chosen = [i - first for i in suspects or () if first <= i < first + count]
        first += count
        by_user = block.jacobian is not None and not block.differences
        if block.differences or (by_differences and block.jacobian is None):
            continue
        if not count or not (chosen if suspects is not None else by_user):
            continue
        places = list(range(count)) if suspects is None else chosen

        def rows(y: Tensor, block: Block = block, places: list[int] = places) -> Tensor:
            return block.function(y)[places]

        given = _autograd(rows, x) if block.jacobian is None else block.jacobian(x)[places]
        wrong = _compare(functools.partial(_plain, rows), given, x)
        if wrong is not None:
            wrong = dataclasses.replace(wrong, place=(places[wrong.place[0]], *wrong.place[1:]))
            name = "jac" if by_user else "the Jacobian by autograd"
            return _advice(wrong.message(name, f"constraint {number} (counted from 0)"), not by_user)
    return None


def _compare(function: Callable[[Tensor], Tensor], given: Rows, x: Tensor) -> Mismatch | None:
    """Return the entry of a derivative that is wrong, where a few evaluations along one direction say that one is."""
    draw = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
    d = draw * x.abs().clamp(min=1)
    slope = given @ d if isinstance(given, Tensor) else torch.from_numpy(given @ d.cpu().double().numpy()).to(x)
    return compare(function, given, x) if wrong_along(function, slope, x, d) else None


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
