"""``lsqr`` and ``lsmr`` with the signatures of ``scipy.sparse.linalg``."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from precond.math.dense.tall import adjoint_times, passes_once, there_and_back
from precond.math.krylov.bidiagonal import Bidiagonalization
from precond.math.sparse.products import csr_there_and_back, unsigned
from precond.scipy.reading import adjoint_map, as_linear, plain, vector_map, working_type
from precond.scipy.units import fits_in_units

Vector = np.ndarray[Any, Any]
_short = 64  # columns; fewer numbers of single precision are no work for the vectors of a processor, row by row
Answer = tuple[Vector, int, int, float, float, float, float, float, float, np.ndarray[Any, Any]]


@fits_in_units(0, 3, 4, 7, 8)
def lsqr(
    A: Any,
    b: Any,
    damp: float = 0.0,
    atol: float = 1e-6,
    btol: float = 1e-6,
    conlim: float = 1e8,
    iter_lim: int | None = None,
    show: bool = False,
    calc_var: bool = False,
    x0: Any = None,
) -> Answer:
    """Minimize ``||A x - b||^2 + damp^2 ||x - x0||^2`` for ``A`` of any shape, by LSQR.

    Below, ``Abar`` is ``A`` with ``damp I`` under it and ``r`` the residual of that problem.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator`` with an adjoint; shape ``[m, n]``.
        b: Right-hand side, shape ``[m]`` (or with axes of length 1).
        damp: Damping.
        atol: Tolerance: stop when ``||Abar^H r|| <= atol ||Abar|| ||r||``, and see ``btol``.
        btol: Tolerance: stop when ``||r|| <= atol ||Abar|| ||x|| + btol ||b||``.
        conlim: Stop when the estimated condition number exceeds this; 0 means never.
        iter_lim: Limit on iterations, ``2 n`` if not given.
        show: Print a summary.
        calc_var: Estimate the diagonal of ``(Abar^H Abar)^-1``.
        x0: Starting point; zero if not given.

    Returns:
        ``(x, istop, itn, r1norm, r2norm, anorm, acond, arnorm, xnorm, var)``: the solution; why it stopped (0: the
        starting point is a solution, 1: ``A x = b``, 2: least squares, 3: ``conlim``, 4, 5, 6: the same to rounding,
        7: ``iter_lim``); iterations; ``||b - A x||``, ``||r||``, ``||Abar||_F`` and ``cond(Abar)`` (both estimated),
        ``||Abar^H r||`` and ``||x||``; the variances, zero unless asked for.

    Raises:
        ValueError: Shapes that do not fit.
    """
    problem = _read(A, b, x0, damp)
    m, n = problem.shape
    start, eps, size = problem.start, float(np.finfo(problem.start.dtype).eps), float(np.linalg.norm(problem.right))
    limit = 2 * n if iter_lim is None else iter_lim
    steps = problem.bidiagonalizing("lsqr")
    known, at, step = steps.numbers, steps.loops, steps.vectors[steps.loops.X, :n]
    known[at.ESTIMATES] = calc_var
    istop, itn, length = 0, -1, 0.0
    while norms := steps.run(math.inf, 1):
        itn += 1
        r, normal = norms[0], known.item(at.NORMAL)
        if itn == 0:
            if normal == 0 or limit == 0:
                istop = 0 if normal == 0 else 7
                break
            continue
        anorm, condition = known.item(at.MATRIX), known.item(at.CONDITION)
        length = known.item(at.LENGTH) if x0 is None else math.inf
        length = length if length < math.inf else _length(start + step)
        consistent = r / size if size else math.inf
        stationary = normal / (anorm * r) if r else 0.0
        flat = 1 / condition if condition else math.inf
        scaled = consistent / (1 + anorm * length / size) if size else math.inf
        istop = _first(
            consistent <= btol + (atol * anorm * length / size if size else 0), stationary <= atol,
            conlim > 0 and flat <= 1 / conlim, scaled <= eps, stationary <= eps, flat <= eps, itn >= limit,
        )  # fmt: skip
        if istop:
            break
    else:
        istop = 2
    x = start + step
    r1, normal = problem.remaining(x, step)
    r2 = float(np.hypot(r1, damp * np.linalg.norm(step)))
    anorm, acond = float(known[at.MATRIX]), float(known[at.CONDITION])
    variances = steps.vectors[at.VARIANCES, :n].real.copy() if calc_var else np.zeros(n)
    if show:
        sys.stdout.write(
            f"lsqr: {m} x {n}, {itn} iterations, istop = {istop}, r1norm = {r1:.2e}, acond = {acond:.1e}\n"
        )
    return x, istop, itn, r1, r2, anorm, acond, normal, float(np.linalg.norm(x)), variances


@fits_in_units(0, 3, 4, 7)
def lsmr(
    A: Any,
    b: Any,
    damp: float = 0.0,
    atol: float = 1e-6,
    btol: float = 1e-6,
    conlim: float = 1e8,
    maxiter: int | None = None,
    show: bool = False,
    x0: Any = None,
) -> tuple[np.ndarray[Any, Any], int, int, float, float, float, float, float]:
    """Minimize ``||A x - b||^2 + damp^2 ||x - x0||^2`` for ``A`` of any shape, by LSMR.

    Below, ``Abar`` is ``A`` with ``damp I`` under it and ``r`` the residual of that problem.

    Args:
        A: A matrix, sparse or dense, or a ``LinearOperator`` with an adjoint; shape ``[m, n]``.
        b: Right-hand side, shape ``[m]`` (or with axes of length 1).
        damp: Damping.
        atol: Tolerance: stop when ``||Abar^H r|| <= atol ||A|| ||r||``, and see ``btol``.
        btol: Tolerance: stop when ``||r|| <= atol ||A|| ||x|| + btol ||b||``.
        conlim: Stop when the estimated condition number exceeds this; 0 means never.
        maxiter: Limit on iterations, ``min(m, n)`` if not given.
        show: Print a summary.
        x0: Starting point; zero if not given.

    Returns:
        ``(x, istop, itn, normr, normar, norma, conda, normx)``: the solution; why it stopped (0: the starting point is
        a solution, 1: ``A x = b``, 2: least squares, 3: ``conlim``, 4, 5, 6: the same to rounding, 7: ``maxiter``);
        iterations; ``||r||``, ``||Abar^H r||``, ``||A||_F`` and ``cond(Abar)`` (both estimated), and ``||x||``.

    Raises:
        ValueError: Shapes that do not fit.
    """
    problem = _read(A, b, x0, damp)
    m, n = problem.shape
    start, eps, size = problem.start, float(np.finfo(problem.start.dtype).eps), float(np.linalg.norm(problem.right))
    if size == 0:
        return np.zeros_like(start), 0, 0, 0.0, 0.0, 0.0, 1.0, 0.0
    limit = min(m, n) if maxiter is None else maxiter
    steps = problem.bidiagonalizing("lsmr")
    known, at, step = steps.numbers, steps.loops, steps.vectors[steps.loops.X, :n]
    code, itn, anorm, acond = 0, -1, 0.0, 1.0
    while norms := steps.run(math.inf, 1):
        itn += 1
        if itn == 0:
            if known.item(at.NORMAL) == 0 or limit == 0:
                break
            continue
        r, own = norms[0], known.item(at.OWN_NORM)
        anorm = math.sqrt(max(0.0, known.item(at.MATRIX) ** 2 - itn * damp**2))
        acond = known.item(at.CONDITION)
        length = known.item(at.LENGTH) if x0 is None else math.inf
        length = length if length < math.inf else _length(start + step)
        consistent, flat = r / size, 1 / acond if acond else math.inf
        stationary = own / (anorm * r) if anorm * r else math.inf
        code = _first(
            consistent <= btol + atol * anorm * length / size, stationary <= atol, conlim > 0 and flat <= 1 / conlim,
            consistent / (1 + anorm * length / size) <= eps, stationary <= eps, flat <= eps, itn >= limit,
        )  # fmt: skip
        if code:
            break
    x = start + step
    size, normar = problem.remaining(x, step)
    normr = float(np.hypot(size, damp * np.linalg.norm(step)))
    if show:
        sys.stdout.write(
            f"lsmr: {m} x {n}, {itn} iterations, istop = {code}, normr = {normr:.2e}, conda = {acond:.1e}\n"
        )
    return x, code, itn, normr, normar, anorm, acond, float(np.linalg.norm(x))


def _length(x: Vector) -> float:
    """Return ``||x||``, where squares may overflow."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.linalg.norm(x / largest)) if 0 < largest < math.inf else largest


def _first(*tests: bool) -> int:
    """Return the number of the first test that holds, as SciPy numbers the reasons to stop; 0 where none does."""
    return tests.index(True) + 1 if True in tests else 0


@dataclasses.dataclass(frozen=True)
class _Problem:
    """A least-squares problem as its arrays.

    Attributes:
        shape: Rows and columns of ``A``.
        both: ``both(v, scale, u)`` replaces ``u`` by ``scale A v - u`` and returns ``A^H u`` in one pass, or ``None``.
        forward: ``A`` times a vector.
        backward: ``A^H`` times a vector.
        right: The right-hand side, shape ``[m]``.
        start: Starting point, shape ``[n]``; gives the type.
        damp: Damping.
        single: Matrix and right-hand side are given in single precision, in which products are made then.
    """

    shape: tuple[int, int]
    both: Callable[[Any, float, Any], Any] | None
    forward: Callable[[Any], Any]
    backward: Callable[[Any], Any]
    right: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    damp: float
    single: bool

    def bidiagonalizing(self, name: str) -> Bidiagonalization:
        """Return an iteration for the damped problem that starts at zero, from the residual of the starting point."""
        (m, n), damp, forward, backward, both = self.shape, self.damp, self.forward, self.backward, self.both
        if self.single:
            forward, backward = functools.partial(_in_single, forward), functools.partial(_in_single, backward)
            both = None if both is None or n < _short else functools.partial(_in_single, both)
        if damp:

            def product(v: Any) -> Any:
                return np.concatenate([forward(v), damp * v])

            def adjoint(u: Any) -> Any:
                return backward(u[:m]) + damp * u[m:]

            once = None if both is None else functools.partial(_damped, both, m, damp)
            steps = Bidiagonalization(name, (m + n, n), self.start.dtype, product, (), adjoint, once)
        else:
            steps = Bidiagonalization(name, (m, n), self.start.dtype, forward, (), backward, both)
        steps.vectors[1, :m] = self.right - forward(self.start) if self.start.any() else self.right
        return steps

    def remaining(self, x: Vector, step: Vector) -> tuple[float, float]:
        """Return ``||b - A x||`` and the norm of the gradient of the damped problem, up to its sign."""
        if self.both is None:
            rest = self.forward(x) - self.right
            gradient = self.backward(rest)
        else:
            rest = self.right.astype(x.dtype)
            gradient = self.both(x, 1.0, rest)
        return float(np.linalg.norm(rest)), float(np.linalg.norm(gradient + self.damp**2 * step))


def _in_single(product: Callable[..., Any], v: Any, *others: Any) -> Any:
    """Return a product with a vector that is rounded to single precision, which is twice as fast."""
    return product(v.astype(np.float32), *others)


def _damped(both: Callable[[Any, float, Any], Any], m: int, damp: float, v: Any, scale: float, u: Any) -> Any:
    """Do what ``both`` does for a matrix of ``m`` rows, with ``damp I`` under it."""
    below = u[m:]
    np.subtract(scale * damp * v, below, out=below)
    return both(v, scale, u[:m]) + damp * below


def _read(A: Any, b: Any, x0: Any, damp: float) -> _Problem:
    """Return the problem; refuse shapes that do not fit."""
    A, b, x0 = plain(A, "A"), plain(b, "b"), plain(x0, "x0")
    linear = A if scipy.sparse.issparse(A) and A.ndim == 2 else as_linear(A, "A")
    m, n = linear.shape
    right = np.atleast_1d(np.asarray(b)).squeeze()
    right = right.reshape(-1) if right.ndim == 0 else right
    if right.shape != (m,):
        raise ValueError(f"shapes of A {linear.shape} and b {np.shape(b)} are incompatible")
    dtype = np.result_type(working_type(linear.dtype, right.dtype), np.float64)
    start = np.zeros(n, dtype) if x0 is None else np.array(x0, dtype).reshape(-1)
    if start.shape != (n,):
        raise ValueError(f"shapes of A {linear.shape} and x0 {np.shape(x0)} are incompatible")
    forward, backward = vector_map(A, linear), adjoint_map(A, linear)
    both: Callable[[Any, float, Any], Any] | None = None
    if scipy.sparse.issparse(A) and A.format == "csr" and A.dtype.char in "fdFD":
        both = functools.partial(csr_there_and_back, unsigned(A))
    elif isinstance(A, np.ndarray) and not isinstance(A, np.matrix) and dtype.kind == "f" and passes_once(A):
        backward, both = functools.partial(adjoint_times, A), functools.partial(there_and_back, A)
    single = isinstance(A, np.ndarray) and A.dtype == right.dtype == np.float32
    return _Problem((m, n), both, forward, backward, right, start, damp, single)
