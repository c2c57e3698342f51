"""Many related linear systems, one after another: ``precond.SolveSequence``."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import torch
from torch import Tensor

from precond.core import IncompatibleError, Iteration, Kind, Operator, Preconditioner, Result, Work
from precond.linear import match, run_attempts
from precond.operators import as_operator
from precond.solvers.choose import choose_system
from precond.solvers.drive import Callback
from precond.solvers.forms import Form, read_vectors
from precond.solvers.held import Held
from precond.solvers.solve import solve_linear

_log = logging.getLogger(__name__)


class SolveSequence:
    """Solves related systems ``A_i x_i = b_i`` one after another, each to the tolerance, and learns on the way.

    Warm start: system ``i`` starts at ``c x_{i-1}``, with the factor ``c`` of least residual, so never worse than at
    zero. Reuse: the preconditioner of an earlier matrix is applied until it has cost as much as a new one would: it is
    set up again when the seconds that the solves since have taken beyond the first of them exceed the seconds of
    a setup (the ski-rental rule, which pays at most twice what the best moment would have cost: R. M. Karp, *On-line
    algorithms versus off-line algorithms*, 1992), or at once when a solve with it does not converge.

    >>> import numpy as np
    >>> sequence = SolveSequence(rtol=1e-10)
    >>> [sequence.solve(np.diag([1.0, 2.0, 4.0]) * t, np.ones(3)).converged for t in (1.0, 1.1, 1.2)]
    [True, True, True]
    >>> sequence.solved, sequence.setups
    (3, 1)

    Args:
        rtol: Relative tolerance, of every system.
        method: As for ``precond.solve``; ``"auto"`` is chosen for the first system, and again when it no longer fits.
        preconditioner: As for ``precond.solve``.
        atol: Absolute tolerance.
        max_iterations: Limit on iterations of each system.

    Attributes:
        solved: Systems solved so far.
        setups: Setups of a preconditioner so far.
        work: Work of all systems together.
    """

    def __init__(
        self,
        *,
        rtol: float = 1e-8,
        method: str | Iteration = "auto",
        preconditioner: str | Preconditioner[Any] = "auto",
        atol: float = 0.0,
        max_iterations: int | None = None,
    ) -> None:
        self.method, self.preconditioner = method, preconditioner
        self.limits = {"rtol": rtol, "atol": atol, "max_iterations": max_iterations}
        self.solved, self.setups, self.work = 0, 0, Work()
        self._kept: _Kept | None = None
        self._x: Tensor | None = None

    def solve(self, A: Any, b: Any, *, callback: Callback | None = None) -> Result:
        """Solve the next system.

        Args:
            A: What ``precond.solve`` takes.
            b: One right-hand side ``[n]``, or ``k`` of them as columns ``[n, k]``; NumPy or torch.
            callback: As for ``precond.solve``.

        Returns:
            The result; ``x`` is shaped like ``b``, NumPy or torch as ``b`` is. Its work includes that of the warm
            start; its method says which setup was used.

        Raises:
            BadInputError: An argument cannot be used as it is.
            IncompatibleError: Matrix, method and preconditioner do not fit.
            UnknownNameError: A name that no recipe has.
        """
        rows, form = read_vectors(b, "b")
        operator = as_operator(A, dtype=rows.dtype)
        rows = match(rows, operator, "b")
        work = Work()
        start = self._start(operator, rows, work)
        result = self._reuse(operator, rows, start, work, form, callback)
        if result is None:
            result = self._anew(operator, rows, start, work, form, callback)
        self._x = match(read_vectors(result.x, "x")[0], operator, "x") if _finite(result.x) else None
        self.solved += 1
        self.setups += work.refreshes
        _add(self.work, work)
        return dataclasses.replace(result, work=work)

    def _start(self, operator: Operator, b: Tensor, work: Work) -> Tensor | None:
        """Return the last solution times the factor of least residual; ``None`` where there is none that fits."""
        x = self._x
        if x is None or x.shape != b.shape or x.dtype != b.dtype or x.device != b.device:
            return None
        with torch.no_grad():
            product = operator.matvec(x)
        work.matvecs += len(x)
        size = torch.linalg.vecdot(product, product).real
        factor = torch.where(size > 0, torch.linalg.vecdot(product, b) / size, 0)
        start = x * factor.unsqueeze(-1)
        return start if bool(torch.isfinite(start).all()) else None

    def _reuse(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, form: Form, callback: Callback | None
    ) -> Result | None:
        """Solve with what was kept; ``None`` when nothing was, or when it fails."""
        kept = self._kept
        if kept is None or kept.shape != (operator.shape, b.shape, b.dtype, b.device):
            return None
        if kept.overpaid:
            kept.held.stale = True
        before = work.seconds.get("setup", 0.0)
        label = f"{kept.label} (set up for system {self.solved if kept.held.stale else kept.made})"
        begin = time.perf_counter()
        try:
            result = solve_linear(
                operator, b, kept.iteration, kept.held, x0=start, work=work, name=label,
                callback=_shown(callback, form), **self.limits,
            )  # fmt: skip
        except IncompatibleError:
            if "auto" not in (self.method, self.preconditioner):
                raise
            return None
        if result.status.group == "failed" or (result.status.group == "stopped" and work.refreshes == 0):
            _log.info("system %d: %s; set up again", self.solved, result.message)
            self._kept = None
            return None
        setup = work.seconds.get("setup", 0.0) - before
        kept.spend(time.perf_counter() - begin - setup, setup if work.refreshes else None, self.solved)
        return dataclasses.replace(result, x=form.restore(result.x))

    def _anew(
        self, operator: Operator, b: Tensor, start: Tensor | None, work: Work, form: Form, callback: Callback | None
    ) -> Result:
        """Choose and set up from the start."""
        begin = time.perf_counter()
        run = run_attempts(
            operator, form.restore(b), self.method, self.preconditioner,
            None if start is None else form.restore(start), callback, Kind.LINEAR_SYSTEM, choose_system, solve_linear,
            dict(self.limits),
        )  # fmt: skip
        _add(work, run.result.work)
        label = run.result.method.partition(" (")[0].partition(";")[0]
        shape = (operator.shape, b.shape, b.dtype, b.device)
        self._kept = _Kept(run.iteration, run.held, label, shape) if run.result.converged else None
        if self._kept is not None:
            setup = run.result.work.seconds.get("setup", 0.0)
            self._kept.spend(time.perf_counter() - begin - setup, setup, self.solved)
        return run.result


class _Kept:
    """A method with a preconditioner that is set up, and what it has cost since."""

    def __init__(self, iteration: Iteration, held: Held, label: str, shape: Any) -> None:
        self.iteration, self.held, self.label, self.shape = iteration, held, label, shape
        self.made, self.setup, self.fresh, self.rent = 0, 0.0, 0.0, 0.0

    @property
    def overpaid(self) -> bool:
        """Whether the solves since the setup have cost a setup more than as many fresh ones."""
        return self.held.part.refreshes and self.rent > self.setup

    def spend(self, seconds: float, setup: float | None, number: int) -> None:
        """Note the seconds of a solve, after a setup or (``None``) without one."""
        if setup is not None:
            self.made, self.setup, self.fresh, self.rent = number, setup, seconds, 0.0
        else:
            self.rent += max(0.0, seconds - self.fresh)


def _shown(callback: Callback | None, form: Form) -> Callback | None:
    if callback is None:
        return None
    return lambda event: callback(dataclasses.replace(event, solution=lambda: form.restore(event.solution())))


def _finite(x: Any) -> bool:
    return bool(torch.isfinite(torch.as_tensor(x)).all())


def _add(total: Work, part: Work) -> None:
    """Add one account to another."""
    for name, count in part.counts().items():
        setattr(total, name, getattr(total, name) + count)
    for kind, seconds in part.seconds.items():
        total.spend(kind, seconds)


__all__ = ["SolveSequence"]
