"""``lsqr`` and ``lsmr`` with the signatures of ``scipy.sparse.linalg``."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import Progress
from precond.krylov import LSMR, LSQR, run
from precond.krylov.lsmr import LSMRProgress
from precond.krylov.lsqr import Estimates
from precond.operators import FunctionOperator
from precond.scipy.reading import as_linear, plain, rowwise, working_type

Answer = tuple[np.ndarray[Any, Any], int, int, float, float, float, float, float, float, np.ndarray[Any, Any]]


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
    linear, operator, rows, right, start = _read(A, b, x0, damp)
    m, n = linear.shape
    size, eps = float(np.linalg.norm(right)), float(np.finfo(start.dtype).eps)
    offset = torch.from_numpy(start)[None]
    codes: list[int] = []

    def stop(progress: Progress) -> bool:
        estimates = getattr(progress, "estimates", None)
        if estimates is None:  # at the start
            codes[:] = [0] if float(progress.normal) == 0 else []
            return bool(codes)
        r, anorm = float(progress.residual), float(estimates.matrix_norm)
        x = float(torch.linalg.vector_norm(progress.solution() + offset))
        consistent = r / size if size else np.inf
        stationary = float(progress.normal) / (anorm * r) if r else 0.0
        condition = float(estimates.condition)
        flat = 1 / condition if condition else np.inf
        scaled = consistent / (1 + anorm * x / size) if size else np.inf
        tests = {
            7: itn_limit <= estimates.step, 6: flat <= eps, 5: stationary <= eps, 4: scaled <= eps,
            3: conlim > 0 and flat <= 1 / conlim, 2: stationary <= atol,
            1: consistent <= btol + (atol * anorm * x / size if size else 0),
        }  # fmt: skip
        codes[:] = [code for code, holds in tests.items() if holds][-1:]
        return bool(codes)

    itn_limit = 2 * n if iter_lim is None else iter_lim
    with torch.no_grad():
        progress, itn = run(
            LSQR(estimates=True), operator, rows, torch.clone, torch.zeros(1, n, dtype=rows.dtype),
            stop=stop, max_iterations=itn_limit,
        )  # fmt: skip
    istop = codes[0] if codes else (7 if itn >= itn_limit else 2)
    step = progress.solution()[0].numpy()
    x = start + step
    remaining = right - linear.matvec(x)
    r1 = float(np.linalg.norm(remaining))
    r2 = float(np.hypot(r1, damp * np.linalg.norm(step)))
    gradient = float(np.linalg.norm(linear.rmatvec(remaining) - damp**2 * step))
    known = getattr(progress, "estimates", None) or Estimates(0, torch.zeros(1), torch.zeros(1), torch.zeros(1, n))
    anorm, acond = float(known.matrix_norm), float(known.condition)
    variances = known.variances[0].numpy() if calc_var else np.zeros(n)
    if show:
        sys.stdout.write(
            f"lsqr: {m} x {n}, {itn} iterations, istop = {istop}, r1norm = {r1:.2e}, acond = {acond:.1e}\n"
        )
    return x, istop, itn, r1, r2, anorm, acond, gradient, float(np.linalg.norm(x)), variances


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
    linear, operator, rows, right, start = _read(A, b, x0, damp)
    m, n = linear.shape
    size, eps = float(np.linalg.norm(right)), float(np.finfo(start.dtype).eps)
    if size == 0:
        return np.zeros_like(start), 0, 0, 0.0, 0.0, 0.0, 1.0, 0.0
    limit = min(m, n) if maxiter is None else maxiter
    offset, code, itn = torch.from_numpy(start)[None], 0, -1
    anorm, acond = 0.0, 1.0

    def stop(progress: Progress) -> bool:
        nonlocal code, itn, anorm, acond
        itn += 1
        if not isinstance(progress, LSMRProgress):  # at the start
            return float(progress.normal) == 0
        r, own = float(progress.residual), float(progress.own)
        anorm = float(np.sqrt(max(0.0, float(progress.matrix_norm) ** 2 - itn * damp**2)))
        acond = float(progress.condition)
        x = float(torch.linalg.vector_norm(progress.solution() + offset))
        consistent = r / size
        stationary = own / (anorm * r) if anorm * r else np.inf
        scaled = consistent / (1 + anorm * x / size)
        tests = {
            7: itn >= limit, 6: 1 / acond <= eps, 5: stationary <= eps, 4: scaled <= eps,
            3: conlim > 0 and 1 / acond <= 1 / conlim, 2: stationary <= atol,
            1: consistent <= btol + atol * anorm * x / size,
        }  # fmt: skip
        code = next((code for code in sorted(tests) if tests[code]), 0)
        return code > 0

    with torch.no_grad():
        progress, _ = run(
            LSMR(), operator, rows, torch.clone, torch.zeros(1, n, dtype=rows.dtype),
            stop=stop, max_iterations=max(limit, 1),
        )  # fmt: skip
    step = progress.solution()[0].numpy()
    x = start + step
    remaining = right - linear.matvec(x)
    normr = float(np.hypot(np.linalg.norm(remaining), damp * np.linalg.norm(step)))
    normar = float(np.linalg.norm(linear.rmatvec(remaining) - damp**2 * step))
    if show:
        sys.stdout.write(
            f"lsmr: {m} x {n}, {itn} iterations, istop = {code}, normr = {normr:.2e}, conda = {acond:.1e}\n"
        )
    return x, code, itn, normr, normar, anorm, acond, float(np.linalg.norm(x))


def _read(
    A: Any, b: Any, x0: Any, damp: float
) -> tuple[scipy.sparse.linalg.LinearOperator, FunctionOperator, Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return ``A``, the damped operator with the residual at the start as its right-hand side, ``b`` and the start."""
    A, b, x0 = plain(A, "A"), plain(b, "b"), plain(x0, "x0")
    linear = as_linear(A, "A")
    m, n = linear.shape
    right = np.atleast_1d(np.asarray(b)).squeeze()
    right = right.reshape(-1) if right.ndim == 0 else right
    if right.shape != (m,):
        raise ValueError(f"shapes of A {linear.shape} and b {np.shape(b)} are incompatible")
    dtype = np.result_type(working_type(linear.dtype, right.dtype), np.float64)
    start = np.zeros(n, dtype) if x0 is None else np.array(x0, dtype).reshape(-1)
    if start.shape != (n,):
        raise ValueError(f"shapes of A {linear.shape} and x0 {np.shape(x0)} are incompatible")
    operator = _damped(linear, damp, dtype)
    residual = right - linear.matvec(start) if x0 is not None else right
    rows = torch.from_numpy(np.concatenate([residual, np.zeros(n if damp else 0)]).astype(dtype))[None]
    return linear, operator, rows, right, start


def _damped(linear: scipy.sparse.linalg.LinearOperator, damp: float, dtype: np.dtype[Any]) -> FunctionOperator:
    """Return ``A`` with ``damp I`` under it."""
    m, n = linear.shape
    forward, backward = rowwise(linear.matvec, dtype), rowwise(linear.rmatvec, dtype)
    working = torch.from_numpy(np.empty(0, dtype)).dtype
    if not damp:
        return FunctionOperator(forward, (m, n), rmatvec=backward, dtype=working)

    def matvec(v: Tensor) -> Tensor:
        return torch.cat([forward(v), damp * v], dim=1)

    def rmatvec(u: Tensor) -> Tensor:
        return backward(u[:, :m].contiguous()) + damp * u[:, m:]

    return FunctionOperator(matvec, (m + n, n), rmatvec=rmatvec, dtype=working)
