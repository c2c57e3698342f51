"""A family of related systems: what is known of those of one kind, and the ways to solve the next."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import torch
from torch import Tensor

from precond.attempts import Run, attempt
from precond.core import IncompatibleError, Iteration, Kind, Operator, Preconditioner, Result, Status, Work
from precond.math.machine.clock import now
from precond.recipes.named import build_iteration, build_preconditioner, name_of
from precond.solvers.sequences.alone import Alone
from precond.solvers.sequences.candidates import choose_ways
from precond.solvers.sequences.shelf import Entry, Shelf
from precond.solvers.sequences.warm import WarmStart
from precond.solvers.sequences.ways import Way, age, allowed, ranked
from precond.solvers.systems.choose import choose_system
from precond.solvers.systems.drive import Callback
from precond.solvers.systems.estimates import factorization_price
from precond.solvers.systems.look import Look
from precond.solvers.systems.negative import of_negative
from precond.solvers.systems.solve import solve_linear

_log = logging.getLogger(__name__)
_lately = 10  # systems over which digits are averaged
_patience = 1000  # iterations of a way that was chosen automatically, where the user gave no limit
_asked = (Status.STOPPED_USER, Status.STOPPED_INTERRUPT)


class Family:
    """Systems of a sequence that are of one kind: one shape, type, device and set of traits.

    Args:
        method: A canonical name, ``"auto"`` or an `Iteration`.
        preconditioner: A canonical name, ``"auto"`` or a `Preconditioner`.
        limits: ``rtol``, ``atol`` and ``max_iterations`` of each system.
        warm: Start at the best combination of earlier solutions; else at zero.
        operator: The first matrix.
        several: Systems have more than one right-hand side.

    Attributes:
        ways: The ways to solve these systems, each with what it has cost.
        warm: The last solutions; ``None`` where systems start at zero.
        alone: Whether they are better solved each for itself.
    """

    def __init__(
        self, method: str | Iteration, preconditioner: str | Preconditioner[Any], limits: dict[str, Any], *,
        warm: bool, operator: Operator, several: bool,
    ) -> None:  # fmt: skip
        self.method, self.preconditioner, self.limits = method, preconditioner, limits
        self.warm = WarmStart() if warm else None
        self.ways = self._all_ways(operator, several)
        self.alone = Alone()
        self._solved, self._spent, self._mean_digits, self._digits_now = 0, 0.0, 0.0, 1.0

    @property
    def report(self) -> list[tuple[str, float | None]]:
        """The ways considered, with the recent seconds of a system; ``None`` not tried, infinite where one failed."""
        return [(way.label, None if way.cost is None else way.cost * self._mean_digits) for way in self.ways]

    def start(self, operator: Operator, b: Tensor, work: Work) -> Tensor | None:
        """Return where to start the next system; ``None`` for zero."""
        return None if self.warm is None else self.warm.start(operator, b, work)

    @property
    def apart(self) -> bool:
        """Whether the next system is to be solved for itself; never where the user has said how."""
        return "auto" in (self.method, self.preconditioner) and self.alone.due

    def keep(self, x: Tensor, seconds: float, *, apart: bool) -> None:
        """Note a solution, the seconds that its system took, and whether it was solved for itself."""
        self.alone.note(seconds, apart=apart)
        if apart:
            return
        if self.warm is not None:
            self.warm.keep(x)
            rates = [way.cost for way in self.ways if way.cost is not None]
            self.warm.price = min(rates, default=seconds / self._digits_now)
        self._solved += 1
        self._spent += seconds

    def solve(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, number: int, callback: Callback | None
    ) -> Result:
        """Solve a system by one way after another, until one converges.

        Args:
            operator: The matrix.
            b: Right-hand sides, shape ``[batch, n]``.
            start: Starting points, shape ``[batch, n]``; ``None`` for zero.
            work: The account to charge.
            number: Number of the system in the sequence.
            callback: As for `solve_linear`.

        Returns:
            The result; ``x`` has shape ``[batch, n]``.

        Raises:
            IncompatibleError: Matrix, method and preconditioner do not fit.
        """
        ways = self.ways
        automatic = len(ways) > 1
        limits = dict(self.limits)
        if automatic and limits["max_iterations"] is None:
            limits["max_iterations"] = _patience
        digits = self._digits(b)
        for place, way in enumerate(ranked(ways, self._spent)):
            try:
                result = way.solve(
                    operator, b, start, work, number, self._named(way), callback, limits,
                    digits * allowed(ways, way, first=place == 0), digits,
                )  # fmt: skip
            except IncompatibleError:
                if not automatic:
                    raise
                way.cost = math.inf
                continue
            if result.converged or not automatic or result.status in _asked:
                age(ways, way)
                return result
            _log.info("system %d: %s: %s", number, way.label, result.message)
            if result.certificate.value < 1 and not bool(b.any(dim=-1).logical_not().any()):
                start = result.x  # what was reached is not lost
        return self._at_last(operator, b, start, work, number, callback)

    def _digits(self, b: Tensor) -> float:
        """Return how many digits the residual of a system has to lose, at least half a one; the mean of all is kept."""
        left = 1.0 if self.warm is None else self.warm.left
        size = float(torch.linalg.vector_norm(b, dim=-1).max())
        target = max(float(self.limits["rtol"] or 0.0), float(self.limits["atol"] or 0.0) / size if size > 0 else 0.0)
        digits = max(math.log10(left / target), 0.5) if left > 0 < target else 16.0
        self._digits_now = digits
        self._mean_digits += (digits - self._mean_digits) / min(self._solved + 1, _lately)
        return digits

    def _all_ways(self, operator: Operator, several: bool) -> list[Way]:
        """Return the ways to solve systems like the first, in the order to try them."""
        if "auto" not in (self.method, self.preconditioner):
            shelf = Shelf(build_preconditioner(self.preconditioner))
            label = f"{name_of(self.method)} + {name_of(self.preconditioner)}"
            return [Way(label, build_iteration(self.method), shelf)]
        shared: dict[Any, Shelf] = {}
        ways: dict[str, Way] = {}
        for candidate in choose_ways(operator):
            method = candidate.method if self.method == "auto" else self.method
            part = candidate.preconditioner if self.preconditioner == "auto" else self.preconditioner
            recycle = candidate.recycle if self.method == "auto" else True
            iteration = build_iteration(method)
            if self.preconditioner == "auto" and not iteration.preconditioned:
                part = "identity"
            label = name_of(part)
            if candidate.negative and self.method != "auto":
                continue
            built = build_preconditioner(part)
            if candidate.negative:
                (iteration, built), label = of_negative(iteration, built), f"{label} of -A"
            apart = several and iteration.row_by_row  # whose states are for one row
            shelf = shared.setdefault((label, apart), Shelf(built))
            traits = shelf.part.traits
            if iteration.symmetric_preconditioner and not (traits.symmetric and traits.definite):
                continue
            label = f"{name_of(method)} + {label}{', recycling' if candidate.recycle else ''}"
            price = factorization_price(Look(operator)).seconds if name_of(part) == "lu" and ways else 0.0
            ways.setdefault(label, Way(label, iteration, shelf, recycle=recycle, price=price))
        return list(ways.values())

    def _at_last(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, number: int, callback: Callback | None
    ) -> Result:
        """Do what ``precond.solve`` does, where none of the ways did."""
        begin = now()
        run = self._attempt(operator, b, start, work, callback)
        if run.result.converged:
            label = run.result.method.partition(" (")[0].partition(";")[0]
            shelf, spent, seconds = Shelf(run.held.part), now() - begin, run.result.work.seconds
            setup = spent * seconds.get("setup", 0.0) / sum(seconds.values())
            image = shelf.image(operator, b, work)
            shelf.entries = [Entry(run.held)]
            shelf.renewed(shelf.entries[0], image, number, setup, spent - setup)
            self.ways.append(Way(label, run.iteration, shelf))
            self.ways[-1].cost = spent
        return run.result

    def solve_alone(self, operator: Operator, b: Tensor, work: Work, callback: Callback | None) -> Result:
        """Solve a system as ``precond.solve`` does, whatever was before it; arguments as for `solve`."""
        result = self._attempt(operator, b, None, work, callback).result
        name = f"{result.method.partition(' (')[0]} (each for itself, which has cost less for systems this small)"
        return dataclasses.replace(result, method=name)

    def _attempt(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, callback: Callback | None
    ) -> Run:
        run = attempt(
            operator, b, self.method, self.preconditioner, start, callback, Kind.LINEAR_SYSTEM, choose_system,
            solve_linear, dict(self.limits),
        )  # fmt: skip
        work.add(run.result.work)
        return run

    def _named(self, way: Way) -> str:
        text = f"{way.label} (set up for system {{made}}"
        if len(self.ways) > 1:
            measured = sum(w.cost is not None for w in self.ways)
            text += "; on trial" if way.cost is None else f"; the fastest of {measured} measured"
        return f"{text})"


__all__ = ["Family"]
