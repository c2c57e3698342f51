"""Choosing one number for each of many systems, from the iterations that each took: *Learning to Relax*.

M. Khodak, E. Chow, M.-F. Balcan, A. Talwalkar, *Learning to relax: setting solver parameters across a sequence of
linear system instances*, 2024, arXiv 2310.02246. A learner holds a grid of values; for each system it draws one, is
told the iterations, and learns. What is fed back is the iterations less one, as in the paper.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from precond.core import BadInputError

Array = np.ndarray[Any, Any]
_greedy = 1e12


def grid_of(low: float = 1.0, high: float = 1.95, count: int = 20) -> tuple[float, ...]:
    """Return evenly spaced values of omega; the paper's grid unless told otherwise."""
    return tuple(float(value) for value in np.linspace(low, high, count))


class Learner(abc.ABC):
    """Draws a value of a grid for each system, and learns from what it cost.

    Args:
        grid: The values.
        seed: Of the draws.

    Attributes:
        chosen: The values drawn so far.
        losses: What they cost, iterations less one.
        probabilities: With which each of them was drawn.
    """

    def __init__(self, grid: Sequence[float] = (), *, seed: int = 0) -> None:
        self.grid = tuple(grid) or grid_of()
        if len(self.grid) < 2:
            raise BadInputError(f"a learner chooses among at least two values, not {self.grid}")
        self.random = np.random.default_rng(seed)
        self.chosen: list[float] = []
        self.losses: list[float] = []
        self.probabilities: list[float] = []
        self.estimates = np.zeros(len(self.grid))
        self._draws: list[int] = []

    @property
    def regret(self) -> float:
        """Estimated iterations spent beyond those of the best fixed value of the grid.

        It is negative where choices by the context were better than any fixed one. The least of several estimates is
        too small, so that this is too large rather than too small.
        """
        return float(sum(self.losses) - len(self.losses) * self.means().min()) if self.losses else 0.0

    @property
    def best(self) -> float:
        """The value of the grid that is estimated to have cost the least."""
        return self.grid[int(self.estimates.argmin())]

    def draw(self, context: float | None = None) -> float:
        """Return a value for the next system.

        Args:
            context: What is known of the system (a shift, a time step), for learners that use it.

        Returns:
            The value.
        """
        for kept in (self._draws, self.chosen, self.probabilities):
            del kept[len(self.losses) :]  # a system that was given up has taught nothing
        p = self.distribution(context)
        drawn = int(self.random.choice(len(p), p=p))
        self._draws.append(drawn)
        self.chosen.append(self.grid[drawn])
        self.probabilities.append(float(p[drawn]))
        return self.chosen[-1]

    def learn(self, iterations: int) -> None:
        """Take in the iterations that the system took with the value drawn last."""
        loss = max(0.0, iterations - 1.0)
        self.losses.append(loss)
        self.estimates[self._draws[-1]] += loss / self.probabilities[-1]
        self.absorb(self._draws[-1], loss)

    def means(self) -> Array:
        """Return what each value would have cost on average, as estimated; infinite where it was never drawn.

        Observed losses are averaged with one over the probabilities of their draws as weights, which is consistent
        whatever the order of the systems, and varies less than their weighted sum over the number of systems.
        """
        sums = np.zeros(len(self.grid))
        np.add.at(sums, self._draws, 1 / np.array(self.probabilities))
        return np.divide(self.estimates, sums, out=np.full(len(sums), np.inf), where=sums > 0)

    @abc.abstractmethod
    def distribution(self, context: float | None) -> Array:
        """Return the probabilities of the values for the next system."""

    def absorb(self, drawn: int, loss: float) -> None:  # one that needs no more than the estimates does nothing
        """Learn from the loss of the value that was drawn."""


class TsallisINF(Learner):
    """Follow the regularized leader with Tsallis entropy of order 1/2: for values that are good for all systems.

    ``p`` minimizes ``<k, p> - (4 K / eta) sum sqrt(p_i)`` over distributions, with the importance-weighted sums of
    losses ``k``, ``eta = 2 / sqrt(t)`` and the mean ``K`` of the losses: ``p_i = 4 (eta (k_i / K - x))^-2``, where
    Newton's iteration finds ``x < min k_i / K`` with ``sum p = 1``. (The regularizer: J. Zimmert, Y. Seldin, 2021.)

    Deviation 1: the published program takes 20 of Newton's steps from ``x = -1``, which do not converge once the sums
    are large; what it draws from is greedier than ``p``. On the shifted Laplacians of the paper (600 systems, 30 seeds,
    best fixed value 102) it takes 142 iterations on average, with a standard deviation of 12, and the minimizer, which
    this class draws from, 162 with one of 6. Where something is known of each system, `ChebCB` takes 90 there.
    """

    def distribution(self, context: float | None = None) -> Array:
        """Return ``p``; the context does not matter."""
        scale = float(np.mean(self.losses)) if self.losses else 0.0
        if scale == 0:
            return np.full(len(self.grid), 1 / len(self.grid))
        return tsallis(self.estimates / scale, 2 / math.sqrt(len(self.losses) + 1))


def tsallis(k: Array, eta: float) -> Array:
    """Return the distribution ``p_i = 4 (eta (k_i - x))^-2`` with ``sum p = 1``.

    Args:
        k: Sums of losses in units of one loss.
        eta: Rate.

    Returns:
        The distribution.
    """
    x = float(k.min()) - 2 / eta  # here the least term alone is one, so that the sum is at least one: x decreases
    for _ in range(100):
        p = 4 / (eta * (k - x)) ** 2
        step = (p.sum() - 1) / (eta * (p**1.5).sum())
        x -= step
        if abs(step) <= 1e-14 * abs(x):
            break
    p = 4 / (eta * (k - x)) ** 2
    return np.asarray(p / p.sum())


class ChebCB(Learner):
    """SquareCB with a Chebyshev regression of the loss on a context: for systems that one known number tells apart.

    The loss of each value is modelled by ``m`` Chebyshev polynomials of the context in ``[low, high]``; with
    predictions ``s`` and ``i* = argmin s``, ``p_i = 1 / (d + gamma (s_i - s_{i*}))`` for the others. After each system
    the models are fitted again by least squares to what was observed of each value, with
    ``|theta_j| <= 2 C L / (K N j)``; ``C``, ``K`` and ``L`` are taken from the losses seen: ``K`` the largest, ``C L``
    largest minus least. (Paper's algorithm 3.)

    Args:
        grid: The values.
        low: Least context; the least seen unless given.
        high: Largest context; the largest seen unless given. Contexts outside count as the nearest inside.
        degree: Polynomials, ``m``.
        seed: Of the draws.
    """

    def __init__(
        self,
        grid: Sequence[float] = (),
        *,
        low: float | None = None,
        high: float | None = None,
        degree: int = 6,
        seed: int = 0,
    ) -> None:
        super().__init__(grid, seed=seed)
        if low is not None and high is not None and not low < high:
            raise BadInputError(f"contexts lie between low < high, not {low} and {high}")
        self.low, self.high, self.degree = low, high, degree
        self.theta = np.zeros((len(self.grid), degree))
        self.contexts: list[float] = []
        self.scale, self.error = 0.0, 0.0
        self.left = np.zeros(len(self.grid))
        self._predicted = np.zeros(len(self.grid))

    @property
    def best(self) -> float:
        """The value of the grid that is estimated to have cost the least over all contexts so far."""
        return self.grid[int(self.means().argmin())] if self.losses else self.grid[0]

    def means(self) -> Array:
        """Return the models' means over the contexts so far, no prediction below the least loss seen.

        Weights would not do here: a value is drawn where it is good, and one over the small probabilities of the other
        draws varies too much.
        """
        if not self.scale:
            return super().means()
        predicted = self._features()[: len(self.losses)] @ self.theta.T * self.scale
        seen = np.bincount(self._draws, minlength=len(self.grid)) > 0
        return np.where(seen, np.maximum(predicted, min(self.losses)).mean(axis=0), np.inf)

    def distribution(self, context: float | None) -> Array:
        """Return ``p`` for a system of this context."""
        if context is None:
            raise BadInputError("this learner needs a context: sequence.solve(A, b, context=...)")
        if not math.isfinite(context):
            raise BadInputError(f"a context is a finite number, not {context}")
        del self.contexts[len(self.losses) :]
        wider = bool(self.contexts) and not min(self.contexts) <= context <= max(self.contexts)
        self.contexts.append(float(context))
        if wider and (self.low is None or self.high is None):
            self._fit(range(len(self.grid)))
        self._predicted = s = self.theta @ self._features()[-1]
        d, t = len(s), len(self.losses) + 1
        best = int(s.argmin())
        p = 1 / (d + self._rate(t) * (s - s[best]))
        p[best] += 1 - p.sum()
        return np.asarray(p)

    def absorb(self, drawn: int, loss: float) -> None:
        """Fit the models again: all of them when the scale of losses changed, else that of the value drawn."""
        if self.scale:
            self.error += (self._predicted[drawn] - loss / self.scale) ** 2
        before, self.scale = self.scale, self._bounds()[0]
        changed = self.scale != before
        if changed:
            self.error *= (before / self.scale) ** 2 if before and self.scale else 0.0
        self._fit(range(len(self.grid)) if changed else [drawn])

    def _features(self) -> Array:
        """Return the polynomials at the contexts so far, shape ``[t, m]``."""
        contexts = np.array(self.contexts)
        low = contexts.min() if self.low is None else self.low
        high = contexts.max() if self.high is None else self.high
        z = np.clip(2 * (contexts - low) / (high - low) - 1, -1, 1) if high > low else np.zeros_like(contexts)
        return np.asarray(np.cos(np.arange(self.degree) * np.arccos(z)[:, None]))

    def _bounds(self) -> tuple[float, float]:
        """Return ``K N`` and ``C L / (K N)`` from the losses seen."""
        largest, least = max(self.losses), min(self.losses)
        if largest == 0:
            return 0.0, 0.0
        spread = largest - least  # C L: the loss changes by as much over the whole interval
        n = 2 + 4 * spread * (1 + math.log(self.degree)) / largest
        return largest * n, spread / (largest * n)

    def _fit(self, arms: Iterable[int]) -> None:
        """Fit the models of these values to what was observed of them."""
        if not self.scale:
            return
        from scipy.optimize import lsq_linear

        features, losses = self._features()[: len(self.losses)], np.array(self.losses) / self.scale
        n = self.scale / max(self.losses)
        bound = np.array([1 / n, *(2 * self._bounds()[1] / np.arange(1, self.degree))]) + 1e-12
        for arm in arms:
            rows = np.flatnonzero(np.array(self._draws) == arm)
            if not rows.size:
                continue
            f, y = features[rows], losses[rows]
            theta = np.linalg.lstsq(f, y, rcond=None)[0]
            if (np.abs(theta) > bound).any():
                theta = lsq_linear(f, y, bounds=(-bound, bound)).x
            self.theta[arm], self.left[arm] = theta, ((f @ theta - y) ** 2).sum()

    def _rate(self, t: int) -> float:
        """Return ``2 t sqrt(d t / (R + 2 alpha^2 t))``, ``R`` the error of past predictions beyond that of the fits."""
        if not self.losses or not self.scale:
            return 0.0
        m = self.degree
        alpha = (math.pi + 2 / math.pi * math.log(2 * m + 1)) * self._bounds()[1] / (2 * (m + 1))
        spread = max(0.0, self.error - float(self.left.sum())) + 2 * alpha**2 * t
        return min(_greedy, 2 * t * math.sqrt(len(self.grid) * t / max(spread, 1e-300)))


NAMED: dict[str, type[Learner]] = {"learned": TsallisINF, "contextual": ChebCB}
"""Learners by the names that users may give."""
