"""A recycling iteration over a sequence of systems, which recycles as long as that saves products."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from precond.core import Iteration, Kernel, Look, Map, Operator, Progress, Recycling, Work
from precond.solvers.systems.counted import CountedOperator

_trial = 3  # systems that recycling has to show what it saves: the space gets better from one to the next
_again = 10  # systems after which what has taken more has another chance; twice as many each time it fails


class _Remembering(Iteration):
    """A recycling iteration with its memory, as an iteration that any driver runs.

    A recycled space costs products of its own, and deflation by it need not pay: where few eigenvalues stand apart, or
    where matrices have little in common, a system takes fewer products alone. So the first system is solved without
    (there is nothing yet), the next three with what the one before left, and those that follow in the way that has
    taken fewer products for a digit of the residual lately; the other has another chance after ten systems, then more
    rarely.

    Args:
        inner: The iteration.

    Attributes:
        rates: Products that a digit has taken in the last systems, at most three, without recycling and with.
        recycles: Whether the next system is given what the one before has left.
    """

    def __init__(self, inner: Recycling[Any]) -> None:
        self.inner, self.shape = inner, None
        self._begin()
        for name in (
            "needs", "square", "symmetric_operator", "definite_operator", "symmetric_preconditioner",
            "fixed_preconditioner", "preconditioned", "block", "row_by_row",
        ):  # fmt: skip
            setattr(self, name, getattr(inner, name))

    def _begin(self) -> None:
        self.memory = self.inner.memory()
        self.rates: tuple[list[float], list[float]] = ([], [])
        self.recycles = False
        self._on_trial, self._left, self._wait = True, 1, _again

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Iterate with what earlier systems of this shape left, or without; note how many products it took."""
        work = Work()
        counted = CountedOperator(operator, work)
        return self._noting(b, work, lambda: self.inner.recycle(self.memory, counted, b, precondition, x0))

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Do the same by compiled loops, where the iteration has some."""
        work = Work()
        counted = CountedOperator(operator, work)

        def spend(products: int, applications: int) -> None:
            work.charge(products, applications)
            kernel.spend(products, applications)

        known = dataclasses.replace(kernel, spend=spend)
        return self._noting(
            b, work, lambda: self.inner.recycle_ahead(self.memory, known, look, counted, b, precondition, x0)
        )

    def _noting(self, b: Tensor, work: Work, steps: Callable[[], Iterator[Progress]]) -> Iterator[Progress]:
        """Yield the steps that begin with the memory at hand, or an empty one; note what their account says."""
        shape: Any = (b.shape, b.dtype, b.device)
        if shape != self.shape:
            self.shape = shape
            self._begin()
        recycles = self.recycles
        if not recycles:
            self.memory = self.inner.memory()
        first = last = math.nan
        try:
            for progress in steps():
                last = float(progress.residual.max())
                first = last if math.isnan(first) else first
                yield progress
        finally:
            self._learn(recycles, work.matvecs, first, last)

    def _learn(self, recycles: bool, products: int, first: float, last: float) -> None:
        """Note what a digit took; a solve that reduced nothing tells nothing."""
        if not 0 < last < first < math.inf:
            return
        rates = self.rates[recycles]
        rates[:] = [*rates[1 - _trial :], products / math.log10(first / last)]
        self._left -= 1
        if self._left > 0:
            return
        without, with_ = self.rates
        if not with_:
            self.recycles, self._left = True, _trial
        elif self._on_trial:
            better = statistics.median(with_) <= statistics.median(without)
            self._wait = _again if better == recycles else 2 * self._wait
            self.recycles, self._on_trial, self._left = better, False, self._wait
        else:
            self.recycles, self._on_trial, self._left = not recycles, True, _trial


Remembering = _Remembering
"""The name for drivers; the class itself is no part: it is mutable."""
