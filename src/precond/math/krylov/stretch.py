"""Many iterations of a method in few calls, for one system on the CPU.

At a hundred unknowns an iteration takes less time than Python needs to ask for one. So iterations are compiled, and
Python is asked for what only it can do: a product with a matrix that it knows, or a preconditioner.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

import numpy as np

from precond.math.sparse.products import one_times_csr
from precond.math.sparse.sweeps import two_sweeps

Array = np.ndarray[Any, Any]
_many = 2**16  # unknowns from which on calls cost nothing, and products may be shared by threads
_ended, _stepped, _product, _applied = range(4)  # as in `stretch_kernels`
_wish, _rows = 8, 2**20 - 1
_norm, _products, _applications, _level, _eps, _own = range(1, 7)


@functools.cache
def _kernels(name: str) -> ModuleType:
    """Return compiled loops, imported when first needed."""
    return importlib.import_module(f"precond.math.krylov.{name}_kernels")


class Stretch:
    """One system with the vectors and numbers of an iteration, which are gone on with in stretches.

    Args:
        name: The iteration: a module ``precond.math.krylov.{name}_kernels`` with ``step`` and ``run``; ``ROWS``, the
            number of its vectors, ``x`` first; ``NUMBERS``, that of its own numbers; and ``REAL``, whether these always
            are.
        shape: Rows and columns of the matrix.
        dtype: Type of the vectors.
        matrix: Row pointers, columns (both unsigned) and values of a matrix, or its product with a vector ``[n]``.
        inverse: The preconditioner: the arrays of two sweeps, empty for the identity; or what it makes of a vector.
        room: How many vectors and numbers of its own the iteration has, where that is not the same for all.

    Attributes:
        vectors: Shape ``[rows, n]``; what callers write to it before the first stretch is what iterations begin with.
        high: The first entries of all vectors, as many as the matrix has rows; the same memory.
        wide: Likewise, as many as it has columns.
        numbers: What iterations know: see `precond.math.krylov.stretch_kernels`.
        loops: The module of the iteration, which names its vectors and numbers.
        ended: Whether the iteration cannot go on, or must not.
        plain: Whether nothing preconditions.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: Any,
        matrix: Any,
        inverse: Any,
        room: tuple[int, int] | None = None,
    ) -> None:
        (m, n), kernels = shape, _kernels(name)
        vectors, numbers = room or (kernels.ROWS, kernels.NUMBERS)
        self.vectors = np.zeros((vectors, max(m, n)), dtype)
        self.numbers = np.zeros(_own + numbers, float if kernels.REAL else np.result_type(dtype, float))
        self.numbers[_eps] = np.finfo(dtype).eps
        self.loops, self.ended, self.plain = kernels, False, inverse == ()
        self._step, self._run = kernels.step, getattr(kernels, "run", None)
        self._arrays: tuple[Any, ...] | None = None
        if self._run is not None and isinstance(matrix, tuple) and n < _many:
            sweeps = inverse if isinstance(inverse, tuple) and inverse else None  # no loops are compiled for none
            self._arrays = (*matrix, sweeps)
        self.high, self.wide = self.vectors[:, :m], self.vectors[:, :n]
        self._grants = {
            _product: (_times(matrix), self.wide, self.high), _applied: (_swept(inverse), self.wide, self.wide)
        }  # fmt: skip

    def run(self, level: float, most: int) -> list[float]:
        """Make iterations until the norm of the residual is at most ``level``; return these norms, ``most`` at most.

        Args:
            level: The norm at which to end.
            most: Iterations.

        Returns:
            The norm of the residual after each iteration.
        """
        self.numbers[_level] = level
        return self._compiled(most) if self._arrays is not None else self._stepping(level, most)

    def _compiled(self, most: int) -> list[float]:
        """Make iterations that have the matrix, and ask for a preconditioner only that they have not."""
        norms, run, grants, done = np.empty(most), self._run, self._grants, 0
        assert run is not None
        assert self._arrays is not None
        given = (*self._arrays, self.vectors, self.numbers, self.plain, norms)
        while True:
            done, told = run(*given, done)
            if told <= _stepped:
                self.ended = told == _ended
                return norms[:done].tolist()
            grant, sources, targets = grants[told & 7]
            targets[told >> 23] = grant(sources[told >> 3 & _rows])

    def _stepping(self, level: float, most: int) -> list[float]:
        """Make iterations that ask for everything."""
        found: list[float] = []
        step, vectors, numbers, plain, grants = self._step, self.vectors, self.numbers, self.plain, self._grants
        while len(found) < most:
            told = step(vectors, numbers, plain)
            if told >= _wish:
                grant, sources, targets = grants[told & 7]
                targets[told >> 23] = grant(sources[told >> 3 & _rows])
            elif told == _ended:
                self.ended = True
                break
            else:
                found.append(numbers.item(_norm).real)
                if not found[-1] > level:
                    break
        return found

    @property
    def spent(self) -> tuple[int, int]:
        """Products and applications so far."""
        return int(self.numbers[_products].real), int(self.numbers[_applications].real)


def _times(matrix: Any) -> Any:
    """Return the product with a vector."""
    return functools.partial(one_times_csr, matrix) if isinstance(matrix, tuple) else matrix


def _swept(inverse: Any) -> Any:
    """Return what a preconditioner makes of a vector."""
    if not isinstance(inverse, tuple) or not inverse:
        return inverse
    lower, upper, scales = inverse[:4], inverse[4:8], inverse[8:]
    return lambda v: two_sweeps(lower, upper, scales, v[None])[0]
