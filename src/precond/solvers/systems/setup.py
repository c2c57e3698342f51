"""What the drivers of linear problems do before the first product: check, find a start, set the preconditioner up."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Map, Operator, Preconditioner, Work
from precond.solvers.systems.counted import counted_apply, counted_identity


def check_tolerances(rtol: float, atol: float, max_iterations: int | None) -> None:
    """Refuse tolerances and limits that make no sense."""
    if not all(isinstance(value, Real) for value in (rtol, atol, 0 if max_iterations is None else max_iterations)):
        raise BadInputError(
            f"tolerances and limits are numbers: got rtol={rtol!r}, atol={atol!r}, max_iterations={max_iterations!r}"
        )
    if not (0 <= rtol < 1 and 0 <= atol < math.inf) or (rtol == 0 and atol == 0):
        raise BadInputError(f"tolerances need 0 <= rtol < 1, 0 <= atol, not both zero: got rtol={rtol}, atol={atol}")
    if max_iterations is not None and (max_iterations < 0 or max_iterations != int(max_iterations)):
        raise BadInputError(f"max_iterations must be a whole number, not negative: got {max_iterations}")


def iteration_limit(unknowns: int, max_iterations: int | None) -> int:
    """Return the limit on iterations: the one asked for, else ten times the number of unknowns, at least 100."""
    return max(100, 10 * unknowns) if max_iterations is None else max_iterations


def check_callback(callback: object) -> None:
    """Refuse a callback that cannot be called."""
    if callback is not None and not callable(callback):
        raise BadInputError(f"callback is a {type(callback).__name__}: give a function of an Event, or None")


def starting_points(operator: Operator, b: Tensor, x0: Tensor | None) -> Tensor:
    """Return ``x0`` (zero when not given, and wherever the right-hand side is zero) after checking shapes."""
    rows, columns = operator.shape
    if b.shape[-1] != rows:
        raise BadInputError(f"the matrix has {rows} rows, the right-hand side {b.shape[-1]}: they must be equal")
    if x0 is None:
        return b.new_zeros(len(b), columns)
    if x0.shape != (len(b), columns):
        raise BadInputError(
            f"x0 holds {len(x0)} vectors of length {x0.shape[-1]}, the problem asks for {len(b)} of length {columns}"
        )
    return torch.where(b.any(dim=-1, keepdim=True), x0, 0)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A preconditioner that is set up.

    Attributes:
        apply: Applies it; counted.
        detail: What the setup has to say.
        guess: Maps right-hand sides to starting points, or to ``None``.
        inverse: Maps ``(v, shift)`` to ``(A + shift M)^-1 v`` up to a small factor, where the preconditioner can.
        metric: Maps ``v`` to ``M v``.
        sweeps: The preconditioner as `core.Kernel` takes it.
    """

    apply: Map
    detail: str
    guess: Callable[[Tensor], Tensor | None]
    inverse: Callable[[Tensor, float], Tensor] | None
    metric: Map
    sweeps: tuple[Any, ...] | None


def prepare(
    preconditioner: Preconditioner[Any], operator: Operator, like: Tensor, work: Work, *, trivial: bool = False
) -> Prepared:
    """Set a preconditioner up with the operator.

    Args:
        preconditioner: The preconditioner.
        operator: What it is fed with.
        like: Vectors of the shape and type that it will be applied to.
        work: The account to charge.
        trivial: It is the identity, and whoever uses it writes to nothing that it returns: applying it copies nothing.

    Returns:
        Its maps, and what it has to say about the setup.
    """
    begin = time.perf_counter()
    state = preconditioner.init(like)
    preconditioner.observe(state, Evidence(operator=operator))
    detail = ""
    if preconditioner.refreshes:
        health = preconditioner.refresh(state)
        work.refreshes += 1
        work.refresh_failures += health.failures
        detail = health.detail
    work.spend("setup", time.perf_counter() - begin)

    def inverse(v: Tensor, shift: float) -> Tensor:
        return preconditioner.apply(state, v, shift=shift)

    traits = preconditioner.traits
    return Prepared(
        counted_identity(work) if trivial else counted_apply(preconditioner, state, work),
        detail,
        lambda b: preconditioner.guess(state, b),
        inverse if traits.equivalent and traits.shiftable else None,
        lambda v: preconditioner.metric(state, v),
        () if trivial else preconditioner.compiled(state),
    )
