"""What ``scipy.optimize.least_squares`` refuses, refused here as well, with what would do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from precond.core import BadInputError
from precond.scipy.robust import EPS, NAMED, Array, is_positive

SOLVERS = (None, "exact", "lsmr")
_inner = frozenset(inspect.signature(scipy.sparse.linalg.lsmr).parameters) - {"A", "b"} | {"regularize"}


def refuse_names(method: Any, loss: Any, tr_solver: Any, verbose: Any, max_nfev: Any) -> None:
    """Refuse values that no function can be called with.

    Args:
        method: Name of a method.
        loss: Name of a loss, or a function.
        tr_solver: ``None``, ``"exact"`` or ``"lsmr"``.
        verbose: 0, 1 or 2.
        max_nfev: ``None``, or positive.

    Raises:
        BadInputError: One of them is something else.
    """
    if not isinstance(tr_solver, (str, type(None))) or tr_solver not in SOLVERS:
        raise BadInputError(f"tr_solver must be None, 'exact' or 'lsmr', not {tr_solver!r}")
    if not callable(loss) and not (isinstance(loss, str) and loss in ("linear", *NAMED)):
        raise BadInputError(f"loss must be 'linear', {', '.join(map(repr, NAMED))} or a function, not {loss!r}")
    if method == "lm" and not (isinstance(loss, str) and loss == "linear"):
        raise BadInputError("method='lm' supports only loss='linear': leave method out for robust losses")
    if not np.isscalar(verbose) or verbose not in (0, 1, 2):
        raise BadInputError(f"verbose must be 0, 1 or 2, not {verbose!r}")
    if max_nfev is not None and not is_positive(max_nfev):
        raise BadInputError(f"max_nfev must be None or a positive whole number, not {max_nfev!r}")


def read_bounds(bounds: Any, start: Array, method: Any) -> tuple[Array, Array]:
    """Return lower and upper bounds, ``[n]`` each.

    Args:
        bounds: A pair of numbers or of vectors ``[n]``, or a ``scipy.optimize.Bounds``, which may also hold one number.
        start: The starting point, ``[n]``.
        method: Name of a method; ``"lm"`` takes no bounds.

    Returns:
        Lower and upper bounds.

    Raises:
        BadInputError: They are no pair, have other shapes, leave no room, or the start is outside.
    """
    n = len(start)
    if isinstance(bounds, scipy.optimize.Bounds):
        sides = [np.resize(side, n) if np.size(side) == 1 else np.asarray(side) for side in (bounds.lb, bounds.ub)]
    else:
        try:
            sides = [np.asarray(side, dtype=float) for side in bounds]
        except (TypeError, ValueError) as error:
            raise BadInputError(f"bounds are a pair (lower, upper) of numbers or of {n} each: {error}") from error
        if len(sides) != 2:
            raise BadInputError(f"bounds are a pair (lower, upper) of numbers or of {n} each, not {len(sides)} of them")
        sides = [np.full(n, side) if side.ndim == 0 else side for side in sides]
    lower, upper = sides
    if method == "lm" and not (np.all(lower == -np.inf) and np.all(upper == np.inf)):
        raise BadInputError("method='lm' takes no bounds: leave method out")
    if lower.shape != start.shape or upper.shape != start.shape:
        raise BadInputError(
            f"bounds are a pair (lower, upper) of numbers or of {n} each, not of shapes {lower.shape}, {upper.shape}"
        )
    if not np.all(lower < upper):
        raise BadInputError("each lower bound must be less than its upper bound: substitute variables that are fixed")
    if not np.all((lower <= start) & (start <= upper)):
        raise BadInputError("x0 is outside of the bounds: start within, as from np.clip(x0, lower, upper)")
    return lower, upper


def refuse_scale(x_scale: Any, start: Array) -> None:
    """Refuse scales that are not ``"jac"`` and not positive numbers, one or one per variable.

    Args:
        x_scale: The scales.
        start: The starting point, ``[n]``.

    Raises:
        BadInputError: They are something else.
    """
    if x_scale is None or (isinstance(x_scale, str) and x_scale == "jac"):
        return
    try:
        given = np.asarray(x_scale, dtype=float)
        valid = bool(np.all(np.isfinite(given)) and np.all(given > 0)) and given.shape in ((), start.shape)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise BadInputError(f"x_scale must be 'jac', a positive number, or {len(start)} of them, not {x_scale!r}")


def refuse_tolerances(method: Any, **given: float | None) -> None:
    """Refuse tolerances that are all disabled, or for ``"lm"`` any.

    Args:
        method: Name of a method.
        **given: Tolerances by name; ``None`` disables.

    Raises:
        BadInputError: Too many are disabled.
    """
    values = {name: 0.0 if tol is None else tol for name, tol in given.items()}
    for name, tol in values.items():
        if given[name] is not None and tol < EPS:
            warnings.warn(f"{name}={tol} is below the machine epsilon {EPS:.2e} and disabled", stacklevel=3)
    off = [name for name, tol in values.items() if tol < EPS]
    if off and (method == "lm" or len(off) == len(values)):
        raise BadInputError(
            f"{', '.join(off)} below the machine epsilon {EPS:.2e}: at least one tolerance must be higher, all of them "
            "with method='lm'"
        )


def refuse_start(f: Array, start: Array, method: Any) -> None:
    """Refuse residuals at the start that no method can go on from.

    Args:
        f: The residuals.
        start: The starting point, ``[n]``.
        method: Name of a method.

    Raises:
        BadInputError: They are no vector, are not finite, or too few for ``"lm"``.
    """
    if f.ndim != 1:
        raise BadInputError(f"fun returned shape {f.shape}: return one vector of residuals")
    if not np.all(np.isfinite(f)):
        raise BadInputError("residuals are not finite at x0: start elsewhere")
    if method == "lm" and len(f) < len(start):
        raise BadInputError(
            f"method='lm' takes as many residuals as variables or more, not {len(f)} for {len(start)}: leave it out"
        )


def refuse_jacobian(
    given: Any, shape: tuple[int, int], method: Any, tr_solver: Any, tr_options: Any, x_scale: Any, jac_sparsity: Any
) -> None:
    """Refuse a Jacobian that does not fit the other arguments.

    Args:
        given: The Jacobian at the start, ``None`` where differences are taken.
        shape: What its shape must be.
        method: Name of a method.
        tr_solver: ``None``, ``"exact"`` or ``"lsmr"``.
        tr_options: Arguments of ``"lsmr"``.
        x_scale: Scales of variables.
        jac_sparsity: Pattern of a Jacobian by differences.

    Raises:
        BadInputError: Its shape is wrong, or it is sparse where only dense ones go.
        TypeError: Arguments that ``"lsmr"`` does not have.
    """
    if given is None:
        if jac_sparsity is not None and method == "lm":
            raise BadInputError("method='lm' takes no jac_sparsity: leave method out")
        pattern = jac_sparsity if scipy.sparse.issparse(jac_sparsity) else np.atleast_2d(jac_sparsity)
        if jac_sparsity is not None and pattern.shape != shape:
            raise BadInputError(f"jac_sparsity has shape {pattern.shape}, not {shape}")
    elif given.shape != shape:
        raise BadInputError(f"jac returned shape {given.shape}, not {shape}: one row for each residual")
    dense = isinstance(given, np.ndarray) if given is not None else jac_sparsity is None
    if not dense and method == "lm":
        raise BadInputError("method='lm' takes dense Jacobians alone: leave method out, or return jac(x).toarray()")
    if not dense and tr_solver == "exact":
        raise BadInputError("tr_solver='exact' takes dense Jacobians alone: leave tr_solver out")
    if isinstance(given, scipy.sparse.linalg.LinearOperator) and isinstance(x_scale, str):
        raise BadInputError("x_scale='jac' takes a matrix, not a LinearOperator: leave x_scale out")
    if tr_options is not None and not isinstance(tr_options, Mapping):
        raise TypeError(f"tr_options must be a mapping, not {type(tr_options).__name__}")
    unknown = sorted(set(tr_options or ()) - _inner)
    if unknown and method != "lm" and (tr_solver == "lsmr" or not dense):
        raise TypeError(f"lsmr has no options {', '.join(unknown)}: use some of {', '.join(sorted(_inner))}")
