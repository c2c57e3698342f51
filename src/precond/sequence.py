"""Many related linear systems, one after another: ``precond.SolveSequence``."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precond.attempts import match, run_attempts
from precond.core import (
    BadInputError,
    IncompatibleError,
    Iteration,
    Kind,
    Operator,
    Preconditioner,
    Result,
    Status,
    UnknownNameError,
    Work,
)
from precond.math.ordering import nearest_neighbours
from precond.operators import as_operator
from precond.recipes.named import (
    build_iteration,
    build_preconditioner,
    canonical_method,
    canonical_preconditioner,
    name_of,
)
from precond.solvers.adjoint import wants_gradient
from precond.solvers.bandits import NAMED, Learner
from precond.solvers.choose import choose_system, choose_ways
from precond.solvers.drive import Callback
from precond.solvers.forms import Form, read_vectors
from precond.solvers.negative import of_negative
from precond.solvers.setup import check_callback, starting_points
from precond.solvers.shelf import Entry, Shelf
from precond.solvers.solve import solve_linear
from precond.solvers.warm import WarmStart
from precond.solvers.ways import Way, age, allowed, factorization_seconds, now, ranked

_log = logging.getLogger(__name__)
_lately = 10  # systems over which digits are averaged
_patience = 1000  # iterations of a way that was chosen automatically, where the user gave no limit


class SolveSequence:
    """Solves related systems ``A_i x_i = b_i`` one after another, each to the tolerance, and learns on the way.

    Warm start: system ``i`` starts at the combination of the last solutions that leaves the least residual, so never
    worse than at zero.

    Reuse: preconditioners of earlier matrices are kept, and the one of the nearest matrix is applied; another is set up
    when going without has cost as much (see ``solvers/shelf.py``), or when a solve does not converge.

    Recycling: GCRO-DR hands on a subspace, with ``method="gcrodr"`` and among the ways of ``method="auto"``, as long as
    systems take fewer products with it than without, which is measured (see ``solvers/recycled.py``).

    Choice: with ``"auto"``, several pairs of method and preconditioner are tried, one on each of the first systems, and
    the one that has taken the fewest seconds for a digit of the residual lately, setups included, is used; `report`
    lists what was measured. A pair whose setup may be long (a complete factorization) is tried once the sequence has
    cost several times as much. A trial
    that takes twice as long as the best so far is given up.

    Relaxation: the ``omega`` of SOR or SSOR can be chosen online (see ``solvers/bandits.py``); `regret` says at what
    cost.

    >>> import numpy as np
    >>> sequence = SolveSequence(rtol=1e-10)
    >>> [sequence.solve(np.diag([1.0, 2.0, 4.0]) * t, np.ones(3)).converged for t in (1.0, 1.1, 1.2)]
    [True, True, True]
    >>> sequence.solved
    3

    Args:
        rtol: Relative tolerance, of every system.
        method: As for ``precond.solve``; ``"auto"`` is chosen by what is measured.
        preconditioner: As for ``precond.solve``.
        atol: Absolute tolerance.
        max_iterations: Limit on iterations of each system.
        omega: Relaxation of ``method="sor"`` or ``preconditioner="ssor"``: ``"learned"`` (Tsallis-INF),
            ``"contextual"`` (ChebCB) or a `Learner` choose it for each system, by the iterations that the
            systems before have taken.
        warm: Start at the best combination of earlier solutions; else at zero.

    Attributes:
        solved: Systems solved so far.
        setups: Setups of a preconditioner so far.
        work: Work of all systems together.
        learner: What chooses the relaxation, with its choices, losses and estimated regret; ``None`` without ``omega``.
    """

    def __init__(
        self,
        *,
        rtol: float = 1e-8,
        method: str | Iteration = "auto",
        preconditioner: str | Preconditioner[Any] = "auto",
        atol: float = 0.0,
        max_iterations: int | None = None,
        omega: str | Learner | None = None,
        warm: bool = True,
    ) -> None:
        self.method, self.preconditioner = canonical_method(method), canonical_preconditioner(preconditioner)
        self.limits: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_iterations": max_iterations}
        self.solved, self.setups, self.work = 0, 0, Work()
        self._ways: list[Way] = []
        self._for: Any = None
        self._spent = self._mean_digits = 0.0
        self._warm = WarmStart() if warm else None
        if isinstance(omega, str) and omega not in NAMED:
            raise UnknownNameError("omega", omega, list(NAMED))
        if omega is not None and not isinstance(omega, (str, Learner)):
            raise BadInputError(
                f"omega is a {type(omega).__name__}: give 'learned' or a Learner; a fixed one goes into the part, "
                "as in method=precond.krylov.SOR(omega=1.5)"
            )
        self.learner = NAMED[omega]() if isinstance(omega, str) else omega

    @property
    def regret(self) -> float | None:
        """Estimated iterations beyond those of the best fixed relaxation so far; ``None`` where none is learned."""
        return None if self.learner is None else self.learner.regret

    def solve(self, A: Any, b: Any, *, context: float | None = None, callback: Callback | None = None) -> Result:
        """Solve the next system.

        Args:
            A: What ``precond.solve`` takes.
            b: One right-hand side ``[n]``, or ``k`` of them as columns ``[n, k]``; NumPy or torch.
            context: What tells the system from others, for a learner of ``omega`` that uses it; the mean of the
                diagonal unless given.
            callback: As for ``precond.solve``.

        Returns:
            The result; ``x`` is shaped like ``b``, NumPy or torch as ``b`` is. Its work includes that of the warm
            start and of trials; its method says which setup was used, and why this way.

        Raises:
            BadInputError: An argument cannot be used as it is.
            IncompatibleError: Matrix, method and preconditioner do not fit.
            UnknownNameError: A name that no recipe has.
        """
        begin = now()
        if wants_gradient(A, b):
            raise BadInputError("SolveSequence gives no gradients: use precond.solve, or detach A and b")
        rows, form = read_vectors(b, "b")
        operator = as_operator(A, dtype=rows.dtype)
        rows = match(rows, operator, "b")
        if operator.shape[0] != operator.shape[1]:
            raise IncompatibleError(f"a sequence takes square matrices, this has shape {operator.shape}: use lstsq")
        starting_points(operator, rows, None)  # refuses lengths that do not fit
        work = Work()
        start = self._warm.start(operator, rows, work) if self._warm is not None else None
        shown = _shown(callback, form)
        if self.learner is not None:
            result = self._relaxed(self.learner, operator, rows, start, work, shown, context)
        else:
            result = self._solve(operator, rows, start, work, form, shown)
        if self._warm is not None:
            self._warm.keep(result.x)
        self.solved += 1
        self.setups += work.refreshes
        self._spent += now() - begin
        _add(self.work, work)
        return dataclasses.replace(result, work=work, x=form.restore(result.x))

    def solve_all(
        self, systems: Sequence[tuple[Any, Any]], *, parameters: Any = None, sort: bool = True
    ) -> list[Result]:
        """Solve systems that are all known, each next to one like it.

        The order is that of SKR: from the first, always on to the nearest that is left (H. Wang, Z. Hao, J. Wang,
        Z. Geng, Z. Wang, B. Li, F. Wu, *Accelerating data generation for neural operators via Krylov subspace
        recycling*, 2024, arXiv 2401.09516).

        Args:
            systems: Pairs ``(A, b)``.
            parameters: One row of numbers for each system, by which nearness is judged (Euclidean); the entries of the
                matrices unless given.
            sort: Solve in this order; else in the order given.

        Returns:
            The results, in the order given.
        """
        order = list(range(len(systems)))
        if sort and len(systems) > 2:
            order = _near_one_another(systems) if parameters is None else list(nearest_neighbours(parameters))
            if len(order) != len(systems):
                raise BadInputError(f"parameters has {len(order)} rows for {len(systems)} systems: give one for each")
        results: dict[int, Result] = {index: self.solve(*systems[index]) for index in order}
        return [results[index] for index in range(len(systems))]

    @property
    def report(self) -> list[tuple[str, float | None]]:
        """The ways considered, with the recent seconds of a system; ``None`` not tried, infinite where one failed."""
        return [(way.label, None if way.cost is None else way.cost * self._mean_digits) for way in self._ways]

    def _solve(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, form: Form, callback: Callback | None
    ) -> Result:
        """Solve by one way after another, until one converges."""
        ways = self._ways_for(operator, b)
        automatic = len(ways) > 1
        limits = dict(self.limits)
        if automatic and limits["max_iterations"] is None:
            limits["max_iterations"] = _patience
        digits = self._digits(b)
        for place, way in enumerate(ranked(ways, self._spent)):
            try:
                result = way.solve(
                    operator, b, start, work, self.solved, self._named(way), callback, limits,
                    digits * allowed(ways, way, first=place == 0), digits,
                )  # fmt: skip
            except IncompatibleError:
                if not automatic:
                    raise
                way.cost = math.inf
                continue
            if result.converged or not automatic or result.status is Status.STOPPED_INTERRUPT:
                age(ways, way)
                return result
            _log.info("system %d: %s: %s", self.solved, way.label, result.message)
            if result.certificate.value < 1 and not bool(b.any(dim=-1).logical_not().any()):
                start = result.x  # what was reached is not lost
        return self._at_last(operator, b, start, work, form)

    def _digits(self, b: Tensor) -> float:
        """Return how many digits the residual of a system has to lose, at least half a one; the mean of all is kept."""
        left = 1.0 if self._warm is None else self._warm.left
        size = float(torch.linalg.vector_norm(b, dim=-1).max())
        target = max(float(self.limits["rtol"] or 0.0), float(self.limits["atol"] or 0.0) / size if size > 0 else 0.0)
        digits = max(math.log10(left / target), 0.5) if left > 0 < target else 16.0
        self._mean_digits += (digits - self._mean_digits) / min(self.solved + 1, _lately)
        return digits

    def _relaxed(
        self, learner: Learner, operator: Operator, b: Tensor, start: Tensor | None, work: Work,
        callback: Callback | None, context: float | None,
    ) -> Result:  # fmt: skip
        """Solve with the relaxation that the learner draws, and tell it the iterations."""
        way = self._ways_for(operator, b)[0]
        if context is None and (diagonal := operator.diagonal()) is not None:
            context = float(diagonal.abs().mean())
        omega = learner.draw(context)
        parts: list[Any] = [way.iteration, way.shelf.part]
        if not any(hasattr(part, "omega") for part in parts):
            raise IncompatibleError(
                f"{way.label} has no omega to learn: use method='sor' or preconditioner='ssor', or omega=None"
            )
        iteration, part = (dataclasses.replace(part, omega=omega) if hasattr(part, "omega") else part for part in parts)
        result = solve_linear(
            operator, b, iteration, part, x0=start, work=work, callback=callback, **self.limits, name=""
        )
        learner.learn(result.iterations)
        name = f"{way.label} (omega={omega:.4g} by {type(learner).__name__}; estimated regret {learner.regret:.0f} "
        name += f"iterations over {len(learner.losses)} systems)"
        return dataclasses.replace(result, method=name)

    def _at_last(self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, form: Form) -> Result:
        """Do what ``precond.solve`` does, where none of the ways did."""
        run = run_attempts(
            operator, form.restore(b), self.method, self.preconditioner,
            None if start is None else form.restore(start), None, Kind.LINEAR_SYSTEM, choose_system, solve_linear,
            dict(self.limits),
        )  # fmt: skip
        _add(work, run.result.work)
        if run.result.converged:
            label = run.result.method.partition(" (")[0].partition(";")[0]
            shelf, seconds = Shelf(run.held.part), run.result.work.seconds
            image = shelf.image(operator, b, work)
            shelf.entries = [Entry(run.held)]
            shelf.renewed(shelf.entries[0], image, self.solved, seconds.get("setup", 0.0), seconds["iterate"])
            self._ways.append(Way(label, run.iteration, shelf))
            self._ways[-1].cost = sum(run.result.work.seconds.values())
        return dataclasses.replace(run.result, x=match(read_vectors(run.result.x, "x")[0], operator, "x"))

    def _ways_for(self, operator: Operator, b: Tensor) -> list[Way]:
        """Return the ways to solve systems of this kind; those at hand if they are for such."""
        kind = (operator.shape, b.shape, b.dtype, b.device, operator.traits, operator.has_entries)
        if kind != self._for:
            self._ways, self._for = self._all_ways(operator, len(b) > 1), kind
        return self._ways

    def _all_ways(self, operator: Operator, several: bool) -> list[Way]:
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
            price = factorization_seconds(operator) if name_of(part) == "lu" and ways else 0.0
            ways.setdefault(label, Way(label, iteration, shelf, recycle=recycle, price=price))
        return list(ways.values())

    def _named(self, way: Way) -> str:
        text = f"{way.label} (set up for system {{made}}"
        if len(self._ways) > 1:
            measured = sum(w.cost is not None for w in self._ways)
            text += "; on trial" if way.cost is None else f"; the fastest of {measured} measured"
        return f"{text})"


def _near_one_another(systems: Sequence[tuple[Any, Any]]) -> list[int]:
    """Return an order in which each matrix comes after one like it; matrices of one size come together.

    Their distances are near those of a random projection of their entries.
    """
    groups: dict[int, list[tuple[int, Tensor]]] = {}
    for index, (A, _) in enumerate(systems):
        operator = as_operator(A)
        matrix = operator.entries()
        if matrix is None:
            raise BadInputError("matrices known by products cannot be compared: give parameters=, or sort=False")
        generator = torch.Generator().manual_seed(0)
        probes = torch.randn(8, operator.shape[1], generator=generator, dtype=torch.float64).numpy()
        image = torch.from_numpy(matrix @ probes.T)
        flat = torch.view_as_real(image.to(torch.complex128)).flatten()
        groups.setdefault(len(flat), []).append((index, flat))
    order: list[int] = []
    for group in groups.values():
        places = nearest_neighbours(torch.stack([flat for _, flat in group])) if len(group) > 2 else range(len(group))
        order += [group[place][0] for place in places]
    return order


def _shown(callback: Callback | None, form: Form) -> Callback | None:
    check_callback(callback)
    if callback is None:
        return None
    return lambda event: callback(dataclasses.replace(event, solution=lambda: form.restore(event.solution())))


def _add(total: Work, part: Work) -> None:
    """Add one account to another."""
    for name, count in part.counts().items():
        setattr(total, name, getattr(total, name) + count)
    for kind, seconds in part.seconds.items():
        total.spend(kind, seconds)


__all__ = ["SolveSequence"]
