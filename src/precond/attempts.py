"""What `solve`, `lstsq` and sequences do with a problem: read it, name what to try, try it in turn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Builds, Iteration, Kind, Operator, Preconditioner, Result, Status, Work
from precond.operators import as_operator
from precond.recipes.named import (
    build_iteration,
    build_preconditioner,
    canonical_method,
    canonical_preconditioner,
    find_part,
    name_of,
)
from precond.solvers.systems.certify import excess
from precond.solvers.systems.compatible import check_iteration, check_preconditioner, check_symmetric
from precond.solvers.systems.drive import Callback, Event
from precond.solvers.systems.forms import Form, read_vectors
from precond.solvers.systems.held import Held
from precond.solvers.systems.negative import of_negative
from precond.solvers.systems.order import in_order
from precond.solvers.systems.selection import Attempt, Selection
from precond.solvers.systems.setup import check_callback

_Built = tuple[Iteration, Preconditioner[Any], str, int]
"""An attempt: its parts, its name, and the iterations after which to try the next, or zero."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A result with what it was made by."""

    result: Result
    operator: Operator
    iteration: Iteration
    held: Held


def run_attempts(
    A: Any,
    b: Any,
    method: str | Iteration,
    preconditioner: str | Preconditioner[Any],
    x0: Any,
    callback: Callback | None,
    kind: Kind,
    choose: Callable[[Operator, int], Selection],
    driver: Callable[..., Result],
    limits: dict[str, Any],
    *,
    reorder: bool = False,
) -> Run:
    """Read the problem, resolve names, run the driver (again with the fallback if the choice met its limits).

    Where all is left open and ``reorder`` is set, rows may come in another order: the operator of the run has it.
    """
    rows, form = read_vectors(b, "b")
    operator = as_operator(A, dtype=rows.dtype)
    rows = match(rows, operator, "b")
    start = None if x0 is None else match(read_vectors(x0, "x0")[0], operator, "x0")
    shown, reordered = in_form(callback, form), False
    if reorder and isinstance(method, str) and isinstance(preconditioner, str) and method == preconditioner == "auto":
        operator, rows, reordered = in_order(operator, rows)
    run = attempt(
        operator, rows, method, preconditioner, start, shown, kind, choose, driver, limits, reordered=reordered
    )
    return dataclasses.replace(run, result=dataclasses.replace(run.result, x=form.restore(run.result.x)))


def attempt(
    operator: Operator,
    rows: Tensor,
    method: str | Iteration,
    preconditioner: str | Preconditioner[Any],
    start: Tensor | None,
    callback: Callback | None,
    kind: Kind,
    choose: Callable[[Operator, int], Selection],
    driver: Callable[..., Result],
    limits: dict[str, Any],
    *,
    reordered: bool = False,
) -> Run:
    """Do what `run_attempts` does with a problem that was read: vectors are rows ``[batch, n]``, there and back."""
    work, failures = Work(), list[str]()
    rows, start, unit = _scaled(rows, start, limits)
    limit = limits.pop("max_iterations")
    best: Result | None = None
    attempts, reason = _attempts(operator, len(rows), method, preconditioner, kind, choose)
    reason = f"rows in another order: {reason}" if reordered else reason
    for iteration, part, label, patience in attempts:
        why = f"{failures[-1]} did not converge" if failures else reason
        held = Held(part)
        if not failures and kind is Kind.LINEAR_SYSTEM:
            _check_products(operator, iteration, part, work)
        result = driver(
            operator, rows, iteration, held, x0=start, work=work, name=f"{label} ({why})" if why else label,
            callback=callback, **limits,
            max_iterations=min(patience, 10 * operator.shape[0]) if patience and limit is None else limit,
        )  # fmt: skip
        if best is None or result.converged or excess(result.certificate) < excess(best.certificate):
            best = result
        if result.converged or (result.status.group == "stopped" and not _worth_more(result, limit)):
            break
        if result.status is Status.FAILED_INCONSISTENT:
            break
        failures.append(label)
    assert best is not None
    if unit != 1:
        expressed = _expressed(best.x, unit, limits["rtol"])
        status = best.status if expressed or not best.converged else Status.FAILED_NON_FINITE
        best = dataclasses.replace(best, x=best.x * unit, status=status)
    return Run(best, operator, iteration, held)


def _check_products(operator: Operator, iteration: Iteration, part: Preconditioner[Any], work: Work) -> None:
    """Refuse an operator known by products alone that is declared symmetric and is not; two products."""
    known = operator.dense() is not None or operator.has_entries
    if operator.traits.symmetric and not known:
        check_iteration(operator, iteration)
        check_preconditioner(operator, iteration, part)
        check_symmetric(operator, work)


_extreme = 1e100


def _scaled(rows: Tensor, start: Tensor | None, limits: dict[str, Any]) -> tuple[Tensor, Tensor | None, float]:
    """Return right-hand sides and starting points in a unit in which squares neither overflow nor vanish, and it."""
    if not is_extreme(rows):
        return rows, start, 1.0
    largest = float(torch.linalg.vector_norm(rows, torch.inf))
    unit = 2.0 ** math.floor(math.log2(largest))
    limits["atol"] = limits["atol"] / unit
    return rows / unit, None if start is None else start / unit, unit


def is_extreme(rows: Tensor) -> bool:
    """Whether numbers are so large or small, and finite, that their squares may overflow or vanish."""
    largest = float(torch.linalg.vector_norm(rows, torch.inf))
    return math.isfinite(largest) and largest != 0 and not 1 / _extreme < largest < _extreme


def _expressed(x: Tensor, unit: float, rtol: float) -> bool:
    """Return whether a solution found in another unit neither overflows nor vanishes in the user's."""
    lost, size = (torch.linalg.vector_norm(v, torch.inf, dim=-1) for v in (x - x * unit / unit, x))
    return bool((lost <= max(rtol, torch.finfo(x.dtype).eps) * size).all())


def _worth_more(result: Result, limit: int | None) -> bool:
    """Whether a run that was stopped was stopped by our patience alone, not by the user."""
    return result.status is Status.STOPPED_STEPS and limit is None


def _attempts(
    operator: Operator,
    count: int,
    method: str | Iteration,
    preconditioner: str | Preconditioner[Any],
    kind: Kind,
    choose: Callable[[Operator, int], Selection],
) -> tuple[Iterator[_Built], str]:
    """Return what to try in turn, each built when its turn has come, and why the first of them."""
    method, preconditioner = canonical_method(method, kind), canonical_preconditioner(preconditioner)
    if "auto" not in (method, preconditioner):
        iteration, part = build_iteration(method, kind), build_preconditioner(preconditioner)
        return iter([(iteration, part, f"{name_of(method)} + {name_of(preconditioner)}", 0)]), ""
    companion = _companion(method, kind) if preconditioner == "auto" else ""
    if companion:
        together = (build_iteration(method, kind), build_preconditioner(companion), f"{method} + {companion}", 0)
        return iter([together]), "published together"
    selection = choose(operator, count)
    return _in_turn(selection, method, preconditioner, kind), selection.reason


def _in_turn(
    selection: Selection, method: str | Iteration, preconditioner: str | Preconditioner[Any], kind: Kind
) -> Iterator[_Built]:
    """Yield the attempts of a selection that fit what the user named."""
    names: list[str] = []
    for attempt in selection.attempts:
        if attempt.together and not _fits(attempt, method, preconditioner):
            continue
        if attempt.negative and method != "auto":
            continue
        if attempt.unasked and not method == preconditioner == "auto":
            continue
        first = attempt.method if method == "auto" else method
        second = attempt.preconditioner if preconditioner == "auto" else preconditioner
        iteration = build_iteration(first, kind)
        if preconditioner == "auto" and not iteration.preconditioned:
            second = "identity"
        part = build_preconditioner(second)
        name = f"{name_of(first)} + {name_of(second)}"
        if preconditioner == "auto" and attempt.settings and second == attempt.preconditioner:
            part = dataclasses.replace(part, **attempt.settings)  # type: ignore[type-var]  # parts are dataclasses
            name += f"({', '.join(f'{key}={value:g}' for key, value in attempt.settings.items())})"
        unfit = iteration.symmetric_preconditioner and not (part.traits.symmetric and part.traits.definite)
        if attempt.negative and not unfit:
            (iteration, part), name = of_negative(iteration, part), f"{name} of -A"
        last = attempt is selection.attempts[-1] and not names  # the driver refuses it, and says why
        if name not in names and (last or not unfit):
            names.append(name)
            alone = method != "auto" and preconditioner == "auto"  # the user's iteration: as long as it takes
            yield iteration, part, name, 0 if alone else attempt.patience
            if alone:
                return


def _fits(attempt: Attempt, method: str | Iteration, preconditioner: str | Preconditioner[Any]) -> bool:
    """Whether what the user named is what an attempt has."""
    return method in ("auto", attempt.method) and preconditioner in ("auto", attempt.preconditioner)


def _companion(method: str | Iteration, kind: Kind) -> str:
    """Return the name of the preconditioner that an iteration is published with; empty when there is none."""
    if not isinstance(method, str) or method == "auto":
        return ""
    return find_part(method, Builds.ITERATION, kind, "method").companion


def match(rows: Tensor, operator: Operator, what: str) -> Tensor:
    """Return vectors in the operator's type; refuse those of another device, or complex ones for a real operator."""
    if rows.device != operator.device:
        raise BadInputError(f"{what} is on {rows.device}, the matrix on {operator.device}: move one of them")
    if rows.is_complex() and not operator.dtype.is_complex:
        raise BadInputError(
            f"{what} is complex, the operator has {operator.dtype}: give a complex operator, or solve for the real and "
            "imaginary parts as two right-hand sides"
        )
    return rows.to(operator.dtype)


def in_form(callback: Callback | None, form: Form) -> Callback | None:
    """Return the callback with solutions in the form of the problem."""
    check_callback(callback)
    if callback is None:
        return None

    def restored(event: Event) -> object:
        return callback(Event(event.iteration, event.residual, lambda: form.restore(event.solution())))

    return restored
