"""Many related linear systems, one after another: ``precond.SolveSequence``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from precond.attempts import in_form, match
from precond.core import (
    BadInputError,
    IncompatibleError,
    Iteration,
    Operator,
    Preconditioner,
    Result,
    Status,
    UnknownNameError,
    Work,
)
from precond.family import Family
from precond.math.machine.clock import now
from precond.math.sparse.ordering import nearest_neighbours
from precond.operators import as_operator
from precond.recipes.named import canonical_method, canonical_preconditioner
from precond.solvers.sequences.bandits import NAMED, Learner
from precond.solvers.sequences.neighbours import near_one_another
from precond.solvers.systems.adjoint import wants_gradient
from precond.solvers.systems.drive import Callback
from precond.solvers.systems.forms import read_vectors
from precond.solvers.systems.setup import check_tolerances, iteration_limit, starting_points
from precond.solvers.systems.solve import solve_linear

_families = 4  # kinds of systems that are remembered


class SolveSequence:
    """Solves related systems ``A_i x_i = b_i`` one after another, each to the tolerance, and learns on the way.

    Warm start: system ``i`` starts at the combination of the last solutions that leaves the least residual, so never
    worse than at zero.

    Reuse: preconditioners of earlier matrices are kept, and the one of the nearest matrix is applied; another is set up
    when going without has cost as much (see ``solvers/sequences/shelf.py``), or when a solve does not converge.

    Recycling: GCRO-DR hands on a subspace, with ``method="gcrodr"`` and among the ways of ``method="auto"``, as long as
    systems take fewer products with it than without, which is measured (see ``solvers/sequences/recycled.py``).

    Choice: with ``"auto"``, several pairs of method and preconditioner are tried, one on each of the first systems, and
    the one that has taken the fewest seconds for a digit of the residual lately, setups included, is used; `report`
    lists what was measured. A pair whose setup may be long (a complete factorization) is tried once the sequence has
    cost several times as much. A trial
    that takes twice as long as the best so far is given up.

    Systems of well under two milliseconds are solved each for itself where that has cost less: what is remembered would
    cost more than it saves (see ``solvers/sequences/alone.py``).

    Relaxation: the ``omega`` of SOR or SSOR can be chosen online (see ``solvers/sequences/bandits.py``); `regret` says
    at what cost. A system that is not solved counts as one that took all iterations allowed.

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
        check_tolerances(rtol, atol, max_iterations)
        self.limits: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_iterations": max_iterations}
        self.solved, self.setups, self.work = 0, 0, Work()
        self._families: dict[Any, Family] = {}
        self._starts_warm = warm
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
        work, family, shown = Work(), self._family(operator, rows), in_form(callback, form)
        apart = self.learner is None and family.apart
        if apart:
            result = family.solve_alone(operator, rows, work, shown)
        else:
            starting_points(operator, rows, None)  # refuses lengths that do not fit
            start = family.start(operator, rows, work)
            if self.learner is not None:
                result = self._relaxed(self.learner, family, operator, rows, start, work, shown, context)
            else:
                result = family.solve(operator, rows, start, work, self.solved, shown)
        family.keep(result.x, now() - begin, apart=apart)
        self.solved += 1
        self.setups += work.refreshes
        self.work.add(work)
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
            order = (
                near_one_another(A for A, _ in systems) if parameters is None else list(nearest_neighbours(parameters))
            )
            if len(order) != len(systems):
                raise BadInputError(f"parameters has {len(order)} rows for {len(systems)} systems: give one for each")
        results: dict[int, Result] = {index: self.solve(*systems[index]) for index in order}
        return [results[index] for index in range(len(systems))]

    @property
    def report(self) -> list[tuple[str, float | None]]:
        """The ways considered for systems of the last kind, as `Family.report` lists them; empty before the first."""
        return next(reversed(self._families.values())).report if self._families else []

    def _family(self, operator: Operator, b: Tensor) -> Family:
        """Return what is known of systems of this kind, which is then the last of those remembered."""
        kind = (operator.shape, b.shape, b.dtype, b.device, operator.traits, operator.has_entries)
        family = self._families.pop(kind, None)
        if family is None:
            family = Family(
                self.method, self.preconditioner, self.limits,
                warm=self._starts_warm, operator=operator, several=len(b) > 1,
            )  # fmt: skip
        self._families[kind] = family
        if len(self._families) > _families:
            del self._families[next(iter(self._families))]
        return family

    def _relaxed(
        self, learner: Learner, family: Family, operator: Operator, b: Tensor, start: Tensor | None, work: Work,
        callback: Callback | None, context: float | None,
    ) -> Result:  # fmt: skip
        """Solve with the relaxation that the learner draws, and tell it the iterations."""
        way = family.ways[0]
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
        if result.status not in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
            limit = iteration_limit(operator.shape[0], self.limits["max_iterations"])
            learner.learn(result.iterations if result.converged else limit)  # to fail soon is not cheap
        name = f"{way.label} (omega={omega:.4g} by {type(learner).__name__}; estimated regret {learner.regret:.0f} "
        name += f"iterations over {len(learner.losses)} systems)"
        return dataclasses.replace(result, method=name)


__all__ = ["SolveSequence"]
