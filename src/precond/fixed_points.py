"""The public ``precond.fixed_point``: maps and splittings in, certified results or proofs out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Builds,
    Certificate,
    FixedPointIteration,
    Footing,
    Proof,
    Result,
    Splitting,
    Status,
    Work,
)
from precond.recipes.named import find_method
from precond.solvers.asking import stops
from precond.solvers.layout import Layout
from precond.solvers.repeated import repeated
from precond.solvers.smooth.minimize import Event, check_tolerance

logger = logging.getLogger(__name__)

EVERY = 50
"""Evaluations before the first look for a proof; every next look waits for a tenth more."""
LEAST = 1e-6
"""Displacements below this times ``1 + ||x0||`` are not taken for any."""
PATIENCE = 20_000
"""Evaluations without a smaller residual that count as stagnation."""

SOLVED = 1e-6
"""How far from solving its problem, relative to the problem's numbers, the fixed point of a splitting may be."""

Prove = Callable[[Any], Proof | None]


def fixed_point(
    operator: Callable[[Any], Any] | Splitting,
    x0: Any = None,
    *,
    method: str | FixedPointIteration = "auto",
    tol: float = 1e-8,
    max_iterations: int = 100_000,
    callback: Callable[[Event], object] | None = None,
    prove: Prove | None = None,
) -> Result:
    """Find ``x = T(x)`` for a nonexpansive map, or prove that there is none.

    Where a nonexpansive map has no fixed point, ``x - T(x)`` of the iterates tends to the shortest vector of the
    closure of its range, the infimal displacement vector (Park and Ryu, Accelerated infeasibility detection of
    constrained optimization and fixed-point iterations, arXiv 2303.15876). The operators of ``precond.splittings``
    (``ADMM``, ``PDHG``, ``DouglasRachford``) turn that into a certificate, which is verified from the program before
    anything is said to be proven. For other maps give ``prove``; without it nothing is ever called infeasible.

    Args:
        operator: The map, or one of ``precond.splittings``.
        x0: Where to start: a tensor, an array, or a dict of tensors, as the map takes it. Splittings have their own
            start.
        method: ``"picard"``, ``"halpern"``, ``"anderson"``, or ``"auto"``: all three in turn, Anderson's
            acceleration at every other evaluation; or an iteration of ``precond.fixed``.
        tol: Absolute bound on ``||x - T(x)||``. What a fixed point of a splitting says must solve the program, too, but
            for the larger of ``tol`` and 1e-6 of its numbers: where steps are short, points that move little may not.
        max_iterations: Largest number of evaluations of the map.
        callback: Called with an `Event` after each evaluation, its gradient being ``x - T(x)``; a true answer stops.
        prove: Maps an estimate of the displacement, in the form of ``x0``, to a `Proof` or ``None``.

    Returns:
        The result; of a splitting, ``x`` is what its ``solution`` makes of the point. ``multipliers`` holds the vector
        that proves infeasibility, if that was proven.

    Raises:
        BadInputError: An argument cannot be used; the message says what would do.
    """
    check_tolerance(tol, max_iterations, callback)
    if not callable(operator):
        raise BadInputError(f"operator must be callable, not {type(operator).__name__}")
    if isinstance(operator, Splitting):
        x0 = operator.start() if x0 is None else x0
        prove = operator.prove if prove is None else prove
    if x0 is None:
        raise BadInputError("x0 is missing: say where to start")
    numpy = not isinstance(x0, (Tensor, dict)) and not isinstance(operator, Splitting)
    value = x0 if isinstance(x0, (Tensor, dict)) else _tensor(x0)
    layout = Layout.of(value)

    def give(flat: Tensor) -> Any:
        given = layout.restore(flat.clone())
        return given.numpy() if numpy and isinstance(given, Tensor) else given

    iteration, label = _resolve(method)
    shortfall = operator.shortfall if isinstance(operator, Splitting) else None
    run = _Run(operator, layout, layout.flatten(value), give, tol, prove, shortfall)
    status = run.go(iteration, max_iterations, callback)
    certificate, note = run.certify(tol)
    if run.proof is not None:
        certificate = run.proof.certificate
    elif certificate.holds and run.solves(run.best):
        status = Status.CONVERGED_FIXED_POINT
    elif status is Status.CONVERGED_FIXED_POINT:
        status = Status.FAILED_STAGNATION
    x = give(run.best)
    if isinstance(operator, Splitting):
        x = operator.solution(run.best)
    return Result(
        x, status, certificate, run.work, max(len(run.history) - 1, 0), label, run.history,
        None if run.proof is None else run.proof.multipliers, note=note,
    )  # fmt: skip


class _Run:
    """One run of an iteration on a map.

    Args:
        operator: The user's map.
        layout: Names and shapes of its variables.
        start: The starting point, flat.
        give: Turns flat variables into what the map takes.
        tol: Bound on the residual.
        prove: Makes proofs of displacements.
        shortfall: How far from solving its problem a flat point of a splitting is; ``None`` for other maps.

    Attributes:
        history: Norms of the residuals.
        work: Evaluations of the map count as ``losses``.
        best: The point with the smallest residual.
        proof: What was proven.
    """

    def __init__(
        self, operator: Callable[[Any], Any], layout: Layout, start: Tensor, give: Callable[[Tensor], Any], tol: float,
        prove: Prove | None, shortfall: Callable[[Tensor], float] | None,
    ) -> None:  # fmt: skip
        self.history: list[float] = []
        self.work = Work()
        self.best = start
        self.proof: Proof | None = None
        self._residual: Tensor | None = None
        self._operator, self._layout, self._start, self._give = operator, layout, start, give
        self._tol, self._prove, self._shortfall = tol, prove, shortfall
        self._smallest, self._idle, self._next = math.inf, 0, EVERY

    def go(self, iteration: FixedPointIteration, limit: int, callback: Callable[[Event], object] | None) -> Status:
        """Iterate until there is a reason to stop, and return it."""
        began = time.perf_counter()
        try:
            for count, footing in enumerate(iteration.iterate(self._counted, self._start)):
                status = self._look(footing, count, limit)
                if callback is not None and stops(callback, self._event(footing, count)):
                    status = status or Status.STOPPED_USER
                if status is not None:
                    return status
        except KeyboardInterrupt:
            return Status.STOPPED_INTERRUPT
        finally:
            self.work.spend("total", time.perf_counter() - began)
        return Status.FAILED_STAGNATION

    def certify(self, tol: float) -> tuple[Certificate, str]:
        """Recompute the residual of the best point; return what there is to note, too."""

        def residual() -> Tensor:
            return self.best - self._evaluate(self.best)

        found = repeated(residual(), self._residual, residual, tol)
        precision = str(self.best.dtype).removeprefix("torch.")
        extra = {} if self._shortfall is None else {"shortfall": self._shortfall(self.best)}
        note = found.note
        if not note and found.norm <= tol and not self.solves(self.best):
            note = "the map moves the point by less than tol, and the point does not solve the program: scale its rows"
        return Certificate(f"||x - T(x)||_2 ({precision})", found.norm, float(tol), extra), note

    def solves(self, x: Tensor) -> bool:
        """Whether a point solves the problem of a splitting, but for rounding; true of all points of other maps."""
        return self._shortfall is None or self._shortfall(x) <= max(self._tol, SOLVED)

    def _look(self, footing: Footing, count: int, limit: int) -> Status | None:
        norm = float(footing.residual.norm())
        self.history.append(norm)
        if not math.isfinite(norm):
            return Status.FAILED_NON_FINITE
        self._idle += 1
        if norm < self._smallest:
            self._idle = 0
            self._smallest, self.best, self._residual = norm, footing.x, footing.residual
        if norm <= self._tol and self.solves(footing.x):
            return Status.CONVERGED_FIXED_POINT
        if self._prove is not None and count >= self._next:
            if count > self._next:  # two looks in a row, as two iterations may take turns
                self._next = int(1.1 * count) + 1
            self.proof = self._search(footing)
            if self.proof is not None:
                return self.proof.status
        if count >= limit:
            return Status.STOPPED_STEPS
        return Status.FAILED_STAGNATION if self._idle >= PATIENCE else None

    def _search(self, footing: Footing) -> Proof | None:
        assert self._prove is not None
        for displacement in (footing.residual, footing.drift):
            if displacement is None or not float(displacement.norm()) > LEAST * (1 + float(self._start.norm())):
                continue
            proof = self._prove(self._give(displacement))
            if proof is not None:
                return proof
        return None

    def _event(self, footing: Footing, count: int) -> Event:
        norm = float(footing.residual.norm())
        return Event(count, self._give(footing.x), norm, self._give(footing.residual), norm, self.work)

    def _counted(self, x: Tensor) -> Tensor:
        self.work.losses += 1
        return self._evaluate(x)

    def _evaluate(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            image = self._operator(self._give(x))
        if isinstance(image, dict):
            flat = self._layout.flatten(image)
        else:
            flat = (image if isinstance(image, Tensor) else _numbers(image)).detach().reshape(-1)
        if flat.numel() != x.numel():
            raise BadInputError(f"the map returned {flat.numel()} numbers for {x.numel()}: it must keep their shape")
        return flat.to(x).clone()


def _resolve(method: Any) -> tuple[FixedPointIteration, str]:
    if isinstance(method, FixedPointIteration):
        return method, type(method).__name__
    if not isinstance(method, str):
        raise BadInputError(f"method must be a name or an iteration of precond.fixed, not {type(method).__name__}")
    name, label = method, method
    if method == "auto":
        name, label = "paired", "paired (auto: Anderson's acceleration, Halpern's iteration and the map itself in turn)"
    return find_method(name, Builds.FIXED_POINT).build(), label


def _numbers(image: Any) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(image))
    except (TypeError, ValueError) as error:
        raise BadInputError(
            f"the map returned {type(image).__name__}, no array of numbers: return the image of its argument"
        ) from error


def _tensor(x0: Any) -> Tensor:
    try:
        array = np.array(x0, dtype=None if isinstance(x0, np.ndarray) else np.float64)
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"x0 cannot be read as a vector of numbers ({error}): pass a tensor or an array") from error


__all__ = ["fixed_point"]
