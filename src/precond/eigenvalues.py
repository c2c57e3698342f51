"""A few eigenvalues of a symmetric matrix, with their certificate: ``precond.eigsh``."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Certificate,
    IncompatibleError,
    Operator,
    Preconditioner,
    Result,
    Status,
    Work,
)
from precond.core.materialize import materialize
from precond.krylov import CG
from precond.operators import as_operator
from precond.operators.unit_scale import exponent_of_entries, scaled, times_power
from precond.recipes.named import build_preconditioner, canonical_preconditioner, name_of
from precond.solvers.systems.choose import choose_eigenvalues
from precond.solvers.systems.compatible import check_preconditioner, check_symmetric
from precond.solvers.systems.counted import CountedOperator
from precond.solvers.systems.setup import prepare

Array = np.ndarray[Any, Any]
Pairs = tuple[Array, str]
"""Vectors ``[n, k]`` that span the space found, and the name of what found it."""
_small = 500  # unknowns up to which all eigenvalues are computed
_last = 3000  # those up to which they are where nothing else converged
_rounds, _steps = 6, 40  # of LOBPCG: calls with a tolerance that follows the eigenvalues, iterations of each
_rounding = 10.0  # times the precision and the matrix's largest sum of a row: no residual need be below


@dataclasses.dataclass(frozen=True)
class Eigenpairs(Result):
    """Eigenvalues with their vectors.

    ``iterations`` is ``work.matvecs // k``: products, ``k`` at a time, which different methods can be compared by.

    Attributes:
        values: The eigenvalues in ascending order, shape ``[k]``; ``x`` holds the vectors as columns ``[n, k]``.
    """

    values: Any = None


def eigsh(
    A: Any,
    k: int = 6,
    *,
    which: Literal["SA", "LA", "LM"] = "SA",
    preconditioner: str | Preconditioner[Any] = "auto",
    tol: float = 1e-8,
    max_iterations: int | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """Find ``k`` eigenvalues at an end of the spectrum of a real symmetric or complex Hermitian matrix.

    Small matrices are decomposed. The smallest eigenvalues of a matrix with a positive diagonal are found by LOBPCG
    with a preconditioner (A. V. Knyazev, *Toward the optimal preconditioned eigensolver*, 2001), others, and what that
    leaves undone, by the implicitly restarted Lanczos method (ARPACK); both are SciPy's. Where neither converges, up to
    3000 unknowns are decomposed.

    The result is converged when ``||A x - lambda x|| <= tol |lambda|`` for each pair, recomputed in double precision;
    a residual of ten times the precision of the matrix's type, times its largest sum of a row, is good enough. That
    proves an eigenvalue within the residual of each ``lambda``, and not that none between them was missed.

    >>> import numpy as np
    >>> result = eigsh(np.diag([3.0, 1.0, 2.0]), 2)
    >>> result.converged, result.values
    (True, array([1., 2.]))

    Args:
        A: What ``precond.solve`` takes; an operator known by products is taken to be symmetric, which is checked.
        k: How many.
        which: ``"SA"`` (smallest), ``"LA"`` (largest) or ``"LM"`` (largest absolute values).
        preconditioner: Of ``which="SA"``: ``"auto"``, ``"identity"`` for the Lanczos method, or a symmetric positive
            definite one, as for ``precond.solve``.
        tol: Relative tolerance of the residuals.
        max_iterations: Limit on iterations of LOBPCG, and on restarts of the Lanczos method.
        seed: Of the vectors to start from.

    Returns:
        The eigenvalues in ``values``, the vectors in ``x``: torch where ``A`` is a tensor, NumPy otherwise.

    Raises:
        BadInputError: An argument cannot be used as it is.
        IncompatibleError: The matrix is not symmetric, or the preconditioner does not fit.
        UnknownNameError: A name that no recipe has.
    """
    operator, work = as_operator(A), Work()
    n = operator.shape[0]
    _check(operator, k, which, tol, max_iterations)
    exponent = exponent_of_entries(operator)
    operator = scaled(operator, exponent)
    if operator.traits.symmetric is None:
        operator = as_operator(operator, symmetric=True)
    if operator.dense() is None and operator.entries() is None:
        check_symmetric(operator, work)
    counted = CountedOperator(operator, work)
    name = canonical_preconditioner(preconditioner)
    if name == "auto":
        name = choose_eigenvalues(operator) if which == "SA" else "identity"
    elif which != "SA" and name_of(name) != "identity":
        raise IncompatibleError("a preconditioner approximates the inverse, which serves which='SA' alone")
    part = build_preconditioner(name)
    start = np.random.default_rng(seed).standard_normal((n, k))

    attempts: list[Callable[[], Pairs]] = [lambda: _lanczos(counted, k, which, tol, max_iterations, start)]
    if n <= _small or 5 * k >= n:
        attempts = [lambda: _decomposed(counted, k, which)]
    elif name_of(name) != "identity":
        attempts.insert(0, lambda: _lobpcg(counted, k, part, name_of(name), tol, max_iterations, start, work))
    if _small < n <= _last and max_iterations is None:
        attempts.append(lambda: _decomposed(counted, k, which))
    begin, best = time.perf_counter(), None
    for attempt in attempts:
        vectors, label = attempt()
        values, x, certificate = _certified(counted, vectors, tol)
        if best is None or certificate.value <= best[2].value:
            best = values, x, certificate, label
        if best[2].holds and len(best[0]) == k:
            break
    assert best is not None
    values, x, certificate, label = best
    work.spend("iterate", time.perf_counter() - begin - work.seconds.get("setup", 0.0))
    status = Status.CONVERGED_RESIDUAL if certificate.holds and len(values) == k else Status.STOPPED_STEPS
    given: Callable[[Tensor], Any] = (lambda v: v) if isinstance(A, Tensor) else Tensor.numpy
    values = given(times_power(values, exponent))
    return Eigenpairs(given(x), status, certificate, work, work.matvecs // k, label, values=values)


def _check(operator: Operator, k: int, which: str, tol: float, max_iterations: int | None) -> None:
    """Refuse what makes no sense."""
    if operator.shape[0] != operator.shape[1]:
        raise IncompatibleError(f"eigsh takes square matrices, this has shape {operator.shape}")
    if operator.traits.symmetric is False:
        raise IncompatibleError(
            "eigsh needs a symmetric (complex: Hermitian) matrix, this is not: use scipy.linalg.eig"
        )
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= operator.shape[0]:
        raise BadInputError(f"k must be a whole number from 1 to the order {operator.shape[0]}, not {k!r}")
    if which not in ("SA", "LA", "LM"):
        raise BadInputError(
            f"which is 'SA' (smallest), 'LA' (largest) or 'LM' (largest absolute values), not {which!r}"
        )
    if not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise BadInputError(f"tol lies between 0 and 1, not {tol!r}")
    if max_iterations is not None and not (isinstance(max_iterations, (int, np.integer)) and max_iterations > 0):
        raise BadInputError(f"max_iterations must be a positive whole number, not {max_iterations!r}")


def _decomposed(operator: Operator, k: int, which: str) -> Pairs:
    """Return the vectors of a complete decomposition."""
    matrix = materialize(operator.double())
    if matrix.device.type == "cpu":
        values, vectors = np.linalg.eigh(matrix.numpy(force=True))
    else:
        values, vectors = (tensor.numpy(force=True) for tensor in torch.linalg.eigh(matrix))
    order = np.argsort({"SA": values, "LA": -values, "LM": -np.abs(values)}[which], kind="stable")
    return vectors[:, order[:k]], "complete decomposition"


def _lobpcg(
    operator: CountedOperator, k: int, part: Preconditioner[Any], name: str, tol: float, limit: int | None,
    start: Array, work: Work,
) -> Pairs:  # fmt: skip
    """Return what LOBPCG finds; SciPy's tolerance is absolute, so it follows the eigenvalues from call to call."""
    check_preconditioner(operator, CG(), part)
    like = torch.zeros(1, operator.shape[1], dtype=operator.dtype, device=operator.device)
    prepared = prepare(part, operator, like, work)

    def apply(rows: Tensor) -> Tensor:
        return torch.cat([prepared.apply(row.unsqueeze(0)) for row in rows])  # SciPy drops those that are done

    x = start.astype(torch.empty(0, dtype=operator.dtype).numpy().dtype)
    left, scale = _rounds * _steps if limit is None else limit, 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was not reached is certified, and said
        for _ in range(_rounds):
            steps = min(_steps, left)
            try:
                values, found = scipy.sparse.linalg.lobpcg(
                    _on_columns(operator, operator.matvec), x, M=_on_columns(operator, apply), largest=False,
                    tol=0.5 * tol * scale or None, maxiter=steps,
                )[:2]  # fmt: skip
            except (np.linalg.LinAlgError, ValueError):
                break
            if not (np.isfinite(found).all() and np.isfinite(values).all()):
                break
            x, left, scale = found, left - steps, float(np.abs(values).min())
            if left <= 0 or _certified(operator, x, tol)[2].holds:
                break
    return x, f"lobpcg + {name}"


def _lanczos(operator: Operator, k: int, which: str, tol: float, limit: int | None, start: Array) -> Pairs:
    """Return what ARPACK finds, which may be fewer than ``k``.

    A Krylov space of one vector holds one vector of each eigenspace, so others of a multiple eigenvalue are found by
    rounding errors or not at all. Therefore what is found is deflated, and the extreme eigenvalue of the rest looked
    at, until it is no better than what is at hand. ARPACK's tolerance is relative to an eigenvalue; one that is zero
    and does not reach it is passed by: the rest is shifted away from zero.
    """
    plain = _on_columns(operator, operator.matvec)

    def run(a: scipy.sparse.linalg.LinearOperator, count: int, v0: Array, within: float = 0.1 * tol) -> Array:
        try:
            found = scipy.sparse.linalg.eigsh(a, count, which=which, tol=within, maxiter=limit, v0=v0)[1]
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            found = error.eigenvectors
        except scipy.sparse.linalg.ArpackError:  # the image of the starting vector is zero
            found = np.linalg.qr(start)[0][:, :count]
        return np.asarray(found)

    def worth(vectors: Array) -> Array:
        values = np.einsum("ij,ij->j", vectors.conj(), plain @ vectors).real
        return {"SA": -values, "LA": values, "LM": np.abs(values)}[which]

    vectors, label = run(plain, k, start[:, 0]), "Lanczos (ARPACK)"
    if vectors.shape[1] < k:
        return vectors, label
    try:
        ends = scipy.sparse.linalg.eigsh(plain, 1, tol=0.1, v0=start[:, 0], return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackError:
        ends = np.zeros(1)
    largest = float(np.abs(ends)[0])
    shift = {"SA": 2 * largest, "LA": -2 * largest, "LM": 0.0}[which]
    away = 2 * shift
    draw = np.random.default_rng(1)
    for _ in range(k):
        q = np.linalg.qr(vectors)[0]

        def deflated(v: Array, q: Array = q) -> Array:
            inside = q @ (q.conj().T @ v)
            image = plain @ (v - inside)
            return np.asarray(image - q @ (q.conj().T @ image) + shift * (v - inside) + away * inside)

        rest = scipy.sparse.linalg.LinearOperator(plain.shape, matvec=deflated, matmat=deflated, dtype=plain.dtype)
        more = run(rest, 1, draw.standard_normal(len(q)), 0.1 * tol if which == "LM" else 0.0)
        old = worth(vectors)
        if not more.shape[1] or worth(more)[0] <= old.min() + tol * abs(old.min()):
            break
        vectors = np.column_stack([np.delete(vectors, old.argmin(), axis=1), more])
    return vectors, label


def _on_columns(operator: Operator, map_: Callable[[Tensor], Tensor]) -> scipy.sparse.linalg.LinearOperator:
    """Return a map of rows as SciPy takes it."""
    dtype = torch.empty(0, dtype=operator.dtype).numpy().dtype

    def several(columns: Array) -> Array:
        rows = torch.from_numpy(np.ascontiguousarray(columns.T, dtype)).to(operator.device)
        return np.asarray(map_(rows).numpy(force=True).T)

    return scipy.sparse.linalg.LinearOperator(
        operator.shape, matvec=lambda v: several(v.reshape(-1, 1))[:, 0], matmat=several, dtype=dtype
    )


def _certified(operator: Operator, vectors: Array, tol: float) -> tuple[Tensor, Tensor, Certificate]:
    """Return Ritz values and vectors of a space, ascending, with the residuals recomputed in double precision."""
    what = "relative residual ||A x - lambda x|| / |lambda|"
    precise = operator.double()
    space = torch.from_numpy(np.ascontiguousarray(vectors)).to(operator.device, precise.dtype)
    if space.shape[1] == 0 or not bool(torch.isfinite(space).all()):
        return space.new_zeros(0).real, space[:, :0], Certificate(what, np.inf, tol)
    q = torch.linalg.qr(space).Q
    image = precise.matvec(q.mT.contiguous()).mT
    small = q.mH @ image
    values, turn = torch.linalg.eigh((small + small.mH) / 2)
    x, residual = q @ turn, image @ turn - (q @ turn) * values
    dense, entries = operator.dense(), operator.entries()
    if dense is not None:
        size = float(dense.abs().sum(dim=1).max())
    else:
        size = float(values.abs().max()) if entries is None else float(abs(entries).sum(axis=1).max())
    floor = _rounding * torch.finfo(operator.dtype).eps * size / tol
    norms = torch.linalg.vector_norm(residual, dim=0)
    worst = float((norms / values.abs().clamp(min=floor or 1.0)).max())
    return (
        values.to(torch.empty(0, dtype=operator.dtype).real.dtype),
        x.to(operator.dtype),
        Certificate(what, worst, tol),
    )
