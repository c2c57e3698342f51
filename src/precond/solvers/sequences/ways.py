"""The ways to solve the systems of a sequence, and the choice among them by what each has cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from precond.core import Iteration, Operator, Recycling, Result, Status, Work
from precond.math.machine.clock import now
from precond.solvers.asking import stops
from precond.solvers.sequences.recycled import Remembering
from precond.solvers.sequences.shelf import Shelf
from precond.solvers.systems.drive import Callback, Event
from precond.solvers.systems.solve import solve_linear

_young = 3  # systems that a way solves on trial
_patience = 2.0  # a way on trial is stopped after so many times the seconds of the best
_recent = 0.1  # least weight of the last system in what a way is known to cost
_optimism = 0.995  # what is known of a way that is not used ages: so much less is believed after each system
_hopeless = 1.25  # no other way with a preconditioner is tried where one has cost so many times the best
_soon = 10.0
_unseen = 16  # iterations between two looks at the clock
_share = 0.33  # of what the sequence has cost, that the setup of a trial may cost


class Way:
    """One iteration with one preconditioner, and what a digit has cost that way lately.

    Systems are compared by digits, ``-log10`` of what is to be left of the residual that a solve begins with: a good
    start makes a system easy for every way.

    Args:
        label: Its name.
        iteration: The method.
        shelf: The preconditioner, for several matrices; ways may share one.
        recycle: Hand on what the iteration learns, where it can.
        price: Estimated seconds of the first setup.
    """

    def __init__(
        self, label: str, iteration: Iteration, shelf: Shelf, *, recycle: bool = True, price: float = 0.0
    ) -> None:
        self.label, self.shelf, self.price = label, shelf, price
        self.iteration = Remembering(iteration) if recycle and isinstance(iteration, Recycling) else iteration
        self.cost: float | None = None
        self.solved = 0

    def affordable(self, spent: float) -> bool:
        """Whether a trial is worth its setup: it exists, or is a small part of what the sequence has cost already."""
        return self.shelf.setups > 0 or self.price <= _share * spent

    def solve(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, number: int, name: str,
        callback: Callback | None, limits: dict[str, Any], seconds: float, digits: float = 1.0,
    ) -> Result:  # fmt: skip
        """Solve one system, with a new setup in the middle where going on without would cost more; note what it cost.

        Args:
            operator: The matrix.
            b: Right-hand sides, shape ``[batch, n]``.
            start: Starting points, shape ``[batch, n]``.
            work: The account to charge.
            number: Number of the system.
            name: What the result says about the method; ``{made}`` is replaced by the system of the setup.
            callback: As for `solve_linear`.
            limits: Tolerances and the limit on iterations, as for `solve_linear`.
            seconds: Give up after so many (a trial).
            digits: What the residual has to lose, as a power of ten.

        Returns:
            The result.
        """
        shelf, total = self.shelf, 0.0
        shelf.digits = digits
        image = shelf.image(operator, b, work)
        entry, distance = shelf.choose(image, number)
        while True:
            without = not entry.held.stale
            watch = _Watch(callback, min(seconds, shelf.budget) if without else seconds)
            setups, begin = work.refreshes, now()
            result = solve_linear(
                operator, b, self.iteration, entry.held, x0=start, work=work,
                name=name.format(made=entry.made if without else number), callback=watch, **limits,
            )  # fmt: skip
            setup, spent = watch.begin - begin, now() - watch.begin
            if work.refreshes > setups:
                shelf.renewed(entry, image, number, setup, spent)
            else:
                shelf.reused(entry, number, distance, spent, result.converged)
            total += spent + (setup if shelf.setups > 1 else 0.0)  # the first setup is spent, whatever comes next
            asked = result.status in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT) and not watch.late
            if asked:
                return result  # which says nothing of the way
            if result.converged or not without or total > seconds:
                break
            entry = shelf.room()  # once more, with a setup for this matrix, from where it stands
            entry.held.stale = True
            start = result.x if bool(torch.isfinite(result.x).all()) else None
        self.solved += 1
        rate = total / digits
        self.cost = rate if self.cost is None else self.cost + max(_recent, 1 / self.solved) * (rate - self.cost)
        if result.converged:
            return result
        if watch.late:
            return dataclasses.replace(result, status=Status.STOPPED_TIME)
        self.cost = math.inf
        return result


class _Watch:
    """A callback that stops a run when its time is over, or when the user's says so.

    Args:
        callback: The user's.
        seconds: Time that it has from its first call on.

    Attributes:
        pace: Iterations from one call to the next: nobody but a user needs to see them all.
    """

    def __init__(self, callback: Callback | None, seconds: float) -> None:
        self.callback, self.seconds, self.begin, self.late = callback, seconds, math.inf, False
        self.pace = 1 if callback is not None else _unseen

    def __call__(self, event: Event) -> bool:
        """Whether to stop."""
        if event.iteration == 0:
            self.begin = now()  # after the setup
        if stops(self.callback, event):
            return True
        self.late = now() - self.begin > self.seconds
        return self.late


def ranked(ways: list[Way], spent: float) -> list[Way]:
    """Return the ways in the order to try them for the next system: a trial, then by cost, then what is left."""
    best = min((way.cost for way in ways if way.cost is not None), default=math.inf)
    slow = {id(way.shelf) for way in ways if way.cost is not None and way.cost > _hopeless * best}
    trials = [way for way in ways if way.cost is None and id(way.shelf) not in slow and way.price <= _soon * spent]
    trials = [way for way in trials[:1] if way.affordable(spent)]  # in order: wait for one that can soon be afforded
    tried = sorted((way for way in ways if way.cost is not None), key=lambda way: way.cost or 0.0)
    first = [*trials[:1], *tried] if tried else trials or ways[:1]
    return [*first, *(way for way in ways if way not in first)]


def age(ways: list[Way], used: Way) -> None:
    """Let what is known of the other ways age, so that each has another chance some time."""
    for way in ways:
        if way is not used and way.cost is not None:
            way.cost *= _optimism


def allowed(ways: list[Way], way: Way, *, first: bool) -> float:
    """Return the seconds that a way may take for a digit: twice what the best of the others takes.

    What a way has cost may be luck: complete factors solve the system they were made for in one step, and those near it
    in a few. So a way in its first systems is stopped where another has solved more, and a well-known one where it
    comes first and another well-known one can go on.

    Args:
        ways: All of them.
        way: The one.
        first: No other was tried on this system.

    Returns:
        The seconds; infinite where nothing stops it.
    """
    known = way.solved >= _young
    others = [w for w in ways if w is not way and w.cost is not None and (not known or w.solved >= _young)]
    if (known and not first) or not any(known or w.solved > way.solved for w in others):
        return math.inf
    return _patience * min(w.cost or 0.0 for w in others)
