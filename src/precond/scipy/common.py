"""The common case of compiled iterations, in NumPy alone: what they claim holds when the residual is recomputed.

A system of a hundred unknowns with good factors takes two products. What a driver does to be ready for whatever may
happen would be most of such a call, so it is asked only where something has happened.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from precond.math.krylov.cycle import Arnoldi
from precond.math.krylov.stretch import Stretch
from precond.math.krylov.vectors import Array
from precond.scipy.reading import System

LEAST, MOST = 1e-140, 1e140
"""Norms between which no square of a number that matters is lost."""
_unseen, _numbers = 256, 2**20  # iterations, and numbers of each of their vectors, between two chances to interrupt
_near = 2.0


@dataclasses.dataclass
class Attempt:
    """Where the common case has led.

    Attributes:
        x: The solution so far, shape ``[n]``; ``None`` for the start.
        done: Iterations.
        info: As SciPy has it; ``None`` where a driver must go on.
    """

    x: Array | None = None
    done: int = 0
    info: int | None = None

    @property
    def ended(self) -> tuple[Array, int]:
        """The solution and SciPy's number, once there is one."""
        assert self.x is not None
        assert self.info is not None
        return self.x, self.info


@dataclasses.dataclass
class Asked:
    """A system with its tolerance.

    Attributes:
        system: The system.
        bound: What the norm of the residual may be.
        norm: The norm of the residual at the start.
        residual: That residual, shape ``[n]``.
    """

    system: System
    bound: float
    norm: float
    residual: Array

    @classmethod
    def of(cls, system: System, rtol: float, atol: float) -> Asked | None:
        """Return it, or ``None`` where there is nothing to do, or squares of numbers may be lost."""
        size = norm = length(system.right)
        residual = system.right
        if system.start is not None and system.start.any():
            residual = system.right - system.product(system.start)
            norm = length(residual)
        bound = max(rtol * size, atol)
        usual = LEAST < bound < norm < MOST and size > LEAST
        return cls(system, bound, norm, residual) if usual else None

    def rest(self, x: Array) -> tuple[Array, float]:
        """Return ``b - A x`` and its norm, in double precision but for the product."""
        left: Array = self.system.right.astype(_wide(self.system.dtype), copy=False) - self.system.product(x)
        return left, length(left)

    @property
    def pace(self) -> int:
        """Iterations between two chances to interrupt."""
        return max(1, min(_unseen, _numbers // self.system.n))


def attempt(loops: str, system: System, rtol: float, atol: float, limit: int) -> Attempt:
    """Run compiled iterations until the recomputed residual is small enough, or the limit is reached.

    Args:
        loops: Their module, see `precond.math.krylov.stretch.Stretch`.
        system: The system.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        limit: Limit on iterations.

    Returns:
        Where that has led.
    """
    asked = Asked.of(system, rtol, atol)
    if asked is None:
        return Attempt()
    n = system.n
    steps = Stretch(loops, (n, n), system.dtype, system.parts or system.product, system.inverse or ())
    x = steps.vectors[0]
    if system.start is not None:
        x[:] = system.start
    steps.vectors[1] = asked.residual
    level, done, pace = asked.bound, 0, asked.pace
    while done < limit:
        norms = steps.run(level, min(pace, limit - done))
        done += len(norms)
        if steps.ended or not math.isfinite(norms[-1]):
            return Attempt()
        if norms[-1] > level and done < limit:
            continue
        left = asked.rest(x)[1]
        if left <= asked.bound:
            return Attempt(x.copy(), done, 0)
        if not left < asked.norm:
            return Attempt()
        if norms[-1] > level:
            return Attempt(x.copy(), done, max(1, limit))
        if left > _near * asked.bound or level < 0.1 * asked.bound:
            return Attempt(x.copy(), done)
        level *= 0.5 * asked.bound / left
    return Attempt()


def attempt_cycles(system: System, rtol: float, atol: float, restart: int, limit: int) -> Attempt:
    """Run GMRES, preconditioned from the left as SciPy has it, until a recomputed residual is small enough.

    The residual of the process is that of the preconditioned system; see `precond.scipy.left`.

    Args:
        system: The system.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        restart: Steps of a cycle, at most ``n``.
        limit: Limit on steps.

    Returns:
        Where that has led.
    """
    asked = Asked.of(system, rtol, atol)
    if asked is None:
        return Attempt()
    inverse = system.inverse
    arnoldi = Arnoldi(
        restart, system.n, system.dtype, system.parts or system.product, inverse or (), left=inverse is not None
    )
    x = np.zeros(system.n, system.dtype) if system.start is None else system.start.copy()
    r, norm, done = asked.residual, asked.norm, 0
    while True:
        z = r if inverse is None else inverse(r)
        beta = length(z)
        if not LEAST < beta < MOST:
            return Attempt(x, done)
        arnoldi.begin(0, z, beta)
        bound = beta * asked.bound / norm
        before = norm
        while arnoldi.left > 0 and done < limit:
            norms = arnoldi.run(bound, min(arnoldi.left, limit - done, asked.pace))
            done += len(norms)
            own = norms[-1]
            if arnoldi.broken or not own > bound:
                break
        candidate = x + combined(arnoldi.minimizer(), arnoldi.vectors)
        r, norm = asked.rest(candidate)
        if norm <= asked.bound:
            return Attempt(candidate, done, 0)
        if not norm < before or arnoldi.broken:
            return Attempt(x, done)
        x = candidate
        if done >= limit:
            return Attempt(x, done, max(1, limit))


def attempt_cycle(system: System, rtol: float, atol: float, size: int) -> tuple[Attempt, Arnoldi | None]:
    """Run one cycle of GMRES, preconditioned from the right by what may change, until the residual is small enough.

    Args:
        system: The system; it starts at zero.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        size: Steps, at most.

    Returns:
        Where that has led, and the cycle.
    """
    asked = Asked.of(system, rtol, atol)
    if asked is None:
        return Attempt(), None
    inverse = system.inverse
    arnoldi = Arnoldi(size, system.n, system.dtype, system.parts or system.product, inverse or (), flexible=True)
    arnoldi.begin(0, asked.residual, asked.norm)
    level = asked.bound
    while arnoldi.left > 0:
        own = arnoldi.run(level, min(arnoldi.left, asked.pace))[-1]
        if own > level and not arnoldi.broken:
            continue
        made = arnoldi.vectors[size + 1 :] if inverse is not None else arnoldi.vectors
        x = combined(arnoldi.minimizer(), made)
        left = asked.rest(x)[1]
        if left <= asked.bound:
            return Attempt(x, arnoldi.done, 0), arnoldi
        if arnoldi.broken or not left <= _near * asked.bound:
            return Attempt(), None
        level *= 0.5 * asked.bound / left
    made = arnoldi.vectors[size + 1 :] if inverse is not None else arnoldi.vectors
    return Attempt(combined(arnoldi.minimizer(), made), arnoldi.done), arnoldi


def combined(factors: Array, vectors: Array) -> Array:
    """Return the sum of the first vectors times their factors, in the type of the vectors."""
    return factors.astype(vectors.dtype, copy=False) @ vectors[: len(factors)]


def length(v: Array) -> float:
    """Return ``||v||``."""
    return math.sqrt(np.vdot(v, v).real)


def _wide(dtype: np.dtype[np.generic]) -> type:
    """Return the type of double precision for a type of numbers."""
    return complex if dtype.kind == "c" else float
