"""One step of minimization: the states of a method's parts, the evidence that they are fed, and how they move."""

from __future__ import annotations

import abc
import dataclasses
import logging
import math
import time
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    Advance,
    Cadence,
    Evidence,
    Factor,
    IncompatibleError,
    Method,
    Need,
    Objective,
    Operator,
    Point,
    Search,
    Stretch,
)
from precond.math.draws import normals, signs
from precond.math.machine.scalars import scalars

logger = logging.getLogger(__name__)

_GRADIENTS = Need.GRADIENT | Need.PREVIOUS | Need.LOSS | Need.SECANT | Need.REPLAY
PROVIDED = _GRADIENTS | Need.PROBE | Need.SIGNS | Need.OPERATOR
_ALWAYS = Cadence()
_LACKING = {
    Need.RESIDUAL: "the residuals of a sum of squares: use precond.least_squares, or method='newton-cg' or 'lbfgs'",
    Need.ENTRIES: "the entries of Hessians, and these are not sparse: use method='newton-cholesky' or 'newton-cg'",
}
FLOPS = 2**23
"""Flops of a factorization, times three, in the time that it takes to call one product with a Hessian."""
SOONER = 0.6
"""Share of the price of assembling a Hessian in one pass that products may have cost before it is assembled anew: less
than all of it, since steps near a minimum ask for more products than those before."""


class Stepper(abc.ABC):
    """The mutable half of a run.

    Args:
        method: What to iterate.
        objective: The oracle.
        like: A point, shape ``[1, n]``, that the states are allocated for.

    Attributes:
        replaced: Directions so far that did not descend and were replaced by steepest descent.
    """

    monotone: bool
    """Whether a run without progress has stagnated, rather than being on its way over a hill."""

    def __init__(self, method: Method, objective: Objective, like: Tensor) -> None:
        missing = method.needs & ~PROVIDED
        for need, there in ((Need.RESIDUAL, objective.squares), (Need.ENTRIES, objective.sparse)):
            if need in missing and not there:
                raise IncompatibleError(f"the method needs {_LACKING[need]}")
            missing &= ~need
        if missing:
            raise IncompatibleError(f"minimize cannot provide {missing}: use method='lbfgs' or 'newton-cg'")
        self.replaced = 0
        self._method, self._objective, self._like = method, objective, like
        needs = method.needs
        self._secant, self._operator, self._probe = Need.SECANT in needs, Need.OPERATOR in needs, Need.PROBE in needs
        self._step = 0
        self._preconditioner: Any = None
        self._observed: Operator | None = None

    def ahead(self, x: Tensor, tol: float, limit: int) -> Stretch | None:
        """Take many steps at once from ``x`` ``[1, n]``, if there is a way; the next is then one of `advance`."""
        return None

    @abc.abstractmethod
    def advance(self, point: Point, *, afresh: bool = True) -> Advance:
        """Take one step from ``point``; where none is found, another from fresh states if ``afresh``."""

    def _reset(self) -> None:
        """Allocate fresh states; the first step does."""
        self._preconditioner = self._method.preconditioner.init(self._like)
        self._rule: Any = self._method.step.init(self._like)
        self._previous: Point | None = None
        self._excess, self._taken = 1, 0  # the first refresh pays
        self._fresh = self._method.cadence.free is not None and not self._objective.assembles

    def _evidence(self, point: Point) -> Evidence:
        previous = self._previous
        secant = None
        if self._secant and previous is not None:
            secant = (point.x - previous.x, point.gradient - previous.gradient)
        operator = self._objective.hessian(point.x) if self._operator or self._probe else None
        if self._fresh and operator is not None:  # nothing is known yet, and the first factor waits twice as long
            self._fresh, self._excess, self._taken = False, 0, 2 * self._price(operator)
        self._observed = operator
        probe = None
        if self._probe and operator is not None:
            draw = signs if Need.SIGNS in self._method.needs else normals
            v = draw(torch.tensor([self._step]), point.x)
            probe = (v, operator.matvec(v))
        return Evidence(
            gradient=point.gradient,
            previous=point.gradient if previous is None else previous.gradient,
            loss=point.loss,
            probe=probe,
            secant=secant,
            operator=operator if self._operator else None,
        )

    def _refresh(self, *, after: bool) -> None:
        """Refresh when the cadence says so, before or after the step."""
        cadence, work = self._method.cadence, self._objective.work
        if self._method.refreshes_after is not after or not cadence.due(self._step):
            return
        if not cadence.worth(self._excess, self._taken):
            return
        began, before = time.perf_counter(), work.hvps
        health = self._method.preconditioner.refresh(self._preconditioner)
        work.spend("refresh", time.perf_counter() - began)
        taken = work.hvps - before
        if taken and self._observed is not None:
            taken = min(taken, self._price(self._observed))
        self._excess, self._taken = 0, max(taken, int(SOONER * self._objective.assembly))
        work.refreshes += 1
        work.refresh_failures += health.failures
        if health.failures:
            logger.warning("a refresh failed and the last good factor stays: %s", health.detail)

    @staticmethod
    def _price(operator: Operator) -> int:
        """Return the products that take as long as to multiply a Hessian out and to factor it."""
        n = operator.shape[0]
        return operator.price(n) + n**3 // FLOPS

    @property
    def _free(self) -> int:
        """Products of a step that call for no refresh: none where a refresh is made of products, and has that price."""
        return self._method.cadence.free or 0 if self._objective.assembles else 0

    def _apply(self, v: Tensor, shift: float = 0.0) -> Tensor:
        self._objective.work.applies += 1
        return self._method.preconditioner.apply(self._preconditioner, v, shift=shift)


class SearchStepper(Stepper):
    """Steps whose rule evaluates trial points; one that fails is tried once more with fresh states."""

    monotone = True

    def __init__(self, method: Method, rule: Search[Any], objective: Objective, like: Tensor) -> None:
        if method.clip is not None or method.clip_estimates is not None:
            raise IncompatibleError(
                "a search follows the gradient itself: build the method with clip=None and clip_estimates=None"
            )
        if method.filters:
            raise IncompatibleError(f"a search follows the gradient itself: leave {', '.join(method.filters)} empty")
        if rule.shifts and not method.preconditioner.traits.shiftable:
            raise IncompatibleError(
                f"{type(rule).__name__} shifts the system and {type(method.preconditioner).__name__} "
                "accepts no shift: use InverseOf(CG(), Identity())"
            )
        if not rule.preconditioned and method.preconditioner.needs:
            raise IncompatibleError(
                f"{type(rule).__name__} finds its own steps and would ignore {type(method.preconditioner).__name__}: "
                "use Identity(), or the step rule Steihaug"
            )
        self._search = rule
        super().__init__(method, objective, like)

    def ahead(self, x: Tensor, tol: float, limit: int) -> Stretch | None:
        """Take steps that are Newton's own, which the objective may know how to take; ``None`` where it does not."""
        method, whole = self._method, self._search.whole
        if whole is None or method.cadence != _ALWAYS or not method.preconditioner.traits.exact:
            return None
        return self._objective.newton_steps(x, whole, tol, limit)

    def advance(self, point: Point, *, afresh: bool = True) -> Advance:
        """Search from ``point``."""
        self._step += 1
        if self._preconditioner is None:
            self._reset()
        advance = self._try(point)
        if advance.failure is not None and self._previous is not None and afresh:
            logger.info("the search found no step in iteration %d: the states start afresh", self._step)
            self._reset()
            advance = self._try(point)
        if advance.failure is None:
            self._previous = point
        return advance

    def _try(self, point: Point) -> Advance:
        self._method.preconditioner.observe(self._preconditioner, self._evidence(point))
        self._refresh(after=False)

        direction, before = _Bound(self, point.gradient), self._objective.work.hvps
        advance = self._search.advance(self._rule, point, direction, self._objective)
        self._excess += max(0, self._objective.work.hvps - before - self._free)
        self._refresh(after=True)
        return advance


class _Bound:
    """The preconditioner at a point; see `Direction`."""

    def __init__(self, stepper: SearchStepper, gradient: Tensor) -> None:
        self._stepper, self._gradient = stepper, gradient

    def __call__(self, shift: float, against: Tensor | None = None) -> Tensor:
        v = self._gradient if against is None else against
        d = self._stepper._apply(v, shift).neg()
        if against is not None:
            return d
        terms = d * v
        slope, size = scalars(terms.sum(), torch.linalg.vector_norm(terms, 1))
        if -math.inf < slope <= -1e-12 * size:  # free of the scales of the variables
            return d
        self._stepper.replaced += 1
        return -v

    def metric(self, v: Tensor) -> Tensor:
        return self._stepper._method.preconditioner.metric(self._stepper._preconditioner, v)


class FactorStepper(Stepper):
    """Steps of a learning rate times a factor, with filters on gradients and directions."""

    monotone = False

    def __init__(self, method: Method, rule: Factor[Any], objective: Objective, like: Tensor, lr: float) -> None:
        super().__init__(method, objective, like)
        self._factor, self._lr = rule, lr
        self._filters = {slot: filter_.init(like) for slot, filter_ in method.filters.items()}

    def advance(self, point: Point, *, afresh: bool = True) -> Advance:
        """Move by the learning rate."""
        self._step += 1
        if self._preconditioner is None:
            self._reset()
        preconditioner, start = self._method.preconditioner, point
        point = dataclasses.replace(point, gradient=_clipped(point.gradient, self._method.clip))
        evidence = self._evidence(point)
        signal = _clipped(self._push("estimator", point.gradient, evidence), self._method.clip_estimates)
        evidence = dataclasses.replace(evidence, gradient=signal)
        self._previous = point
        if self._step == 1 and self._method.cadence.prime:
            self._objective.work.refresh_failures += preconditioner.prime(self._preconditioner, evidence).failures
            return Advance(start)
        preconditioner.observe(self._preconditioner, evidence)
        self._refresh(after=False)
        d = self._push("smoothing", self._apply(self._push("momentum", signal, evidence)), evidence)
        factor = self._factor.factor(self._rule, evidence, d)
        self._refresh(after=True)
        return Advance(self._objective.point(point.x - self._lr * factor * d))

    def _push(self, slot: str, v: Tensor, evidence: Evidence) -> Tensor:
        filter_ = self._method.filters.get(slot)
        return v if filter_ is None else filter_.push(self._filters[slot], v, evidence)


def _clipped(v: Tensor, limit: float | None) -> Tensor:
    return v if limit is None else v * (limit / torch.linalg.vector_norm(v).clamp(min=limit))


def stepper(method: Method, objective: Objective, like: Tensor, lr: float) -> Stepper:
    """Return the stepper for the kind of the method's step rule.

    Args:
        method: What to iterate.
        objective: The oracle.
        like: A point, shape ``[1, n]``.
        lr: Learning rate; searches ignore it.

    Returns:
        A stepper with fresh states.

    Raises:
        IncompatibleError: The method needs what a smooth objective does not provide.
    """
    rule = method.step
    if isinstance(rule, Search):
        return SearchStepper(method, rule, objective, like)
    if isinstance(rule, Factor):
        return FactorStepper(method, rule, objective, like, lr)
    raise IncompatibleError(f"minimize knows searches and factors, and {type(rule).__name__} is neither")
