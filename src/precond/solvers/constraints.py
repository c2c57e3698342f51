"""Constraints in the forms that users have them: functions, SciPy's objects, dictionaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError

Function = Callable[[Tensor], Tensor]
Call = Callable[[Callable[..., Any], Tensor], Any]


@dataclasses.dataclass(frozen=True)
class Block:
    """Some constraints ``lower <= c(x) <= upper``.

    Attributes:
        function: Maps the flat variables ``[n]`` to ``[k]``.
        jacobian: Maps them to ``[k, n]``; ``None`` when it is to be differentiated.
        lower: ``[k]``.
        upper: ``[k]``; equal to ``lower`` for equations.
    """

    function: Function
    jacobian: Function | None
    lower: Tensor
    upper: Tensor

    @property
    def equations(self) -> Tensor:
        """Which constraints are equations, ``[k]``."""
        return self.lower == self.upper


def read_constraints(constraints: Any, x0: Tensor, call: Call) -> list[Block]:
    """Return the constraints as blocks.

    Args:
        constraints: A function ``c`` that means ``c(x) = 0``; ``scipy.optimize.LinearConstraint`` or
            ``NonlinearConstraint``; a dictionary with ``type`` (``"eq"`` or ``"ineq"``, which means ``>= 0``), ``fun``
            and perhaps ``jac`` and ``args``; or several of these in a list or tuple.
        x0: The starting point, ``[n]``, where functions are tried.
        call: Calls a user's function at flat variables.

    Returns:
        The blocks, in the given order.

    Raises:
        BadInputError: Something is none of these, or a function returns what cannot be used.
    """
    if isinstance(constraints, Sequence) and not isinstance(constraints, (str, bytes)):
        return [block for each in constraints for block in read_constraints(each, x0, call)]
    if isinstance(constraints, Mapping):
        return [_from_mapping(constraints, x0, call)]
    if hasattr(constraints, "A") and hasattr(constraints, "lb"):
        return [_linear(constraints, x0)]
    if hasattr(constraints, "fun") and hasattr(constraints, "lb"):
        jac = constraints.jac if callable(constraints.jac) else None
        return [
            _block(constraints.fun, jac, constraints.lb, constraints.ub, x0, call, "fun of the NonlinearConstraint")
        ]
    if callable(constraints):
        return [_block(constraints, None, 0.0, 0.0, x0, call, "constraints")]
    raise BadInputError(
        f"constraints is {type(constraints).__name__}: give a function c(x) that is to be zero, a SciPy "
        "LinearConstraint or NonlinearConstraint, a dictionary with 'type' and 'fun', or a list of these"
    )


def read_bounds(bounds: Any, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds, ``[n]`` each, infinite where there are none.

    Args:
        bounds: ``None``, a ``scipy.optimize.Bounds``, a pair ``(lower, upper)`` for all variables, or a pair for each
            variable with ``None`` where there is no bound.
        x0: The starting point, ``[n]``.

    Returns:
        The bounds.

    Raises:
        BadInputError: They cannot be read, or a lower bound exceeds the upper one.
    """
    n = x0.numel()
    free = torch.full_like(x0, math.inf)
    if bounds is None:
        return -free, free
    if hasattr(bounds, "lb"):
        lower, upper = _spread(bounds.lb, n, x0, "lb"), _spread(bounds.ub, n, x0, "ub")
    else:
        pairs = list(bounds)
        if len(pairs) == 2 and n != 2 and not any(isinstance(p, (Sequence, np.ndarray)) and len(p) == 2 for p in pairs):
            pairs = [tuple(pairs)] * n
        if len(pairs) != n or any(len(pair) != 2 for pair in pairs):
            raise BadInputError(f"bounds must hold a pair (lower, upper) for each of the {n} variables, or be a Bounds")
        lower = torch.tensor([-math.inf if p[0] is None else float(p[0]) for p in pairs]).to(x0)
        upper = torch.tensor([math.inf if p[1] is None else float(p[1]) for p in pairs]).to(x0)
    _check_order(lower, upper, "bounds")
    return lower, upper


def _from_mapping(given: Mapping[str, Any], x0: Tensor, call: Call) -> Block:
    kind, fun, args = given.get("type"), given.get("fun"), given.get("args", ())
    if kind not in ("eq", "ineq") or not callable(fun):
        raise BadInputError(
            f"a constraint dictionary needs 'type' ('eq' or 'ineq') and a function 'fun'; got type={kind!r}"
        )
    jac = given.get("jac")
    upper = 0.0 if kind == "eq" else math.inf
    by_jac = (lambda x: jac(x, *args)) if callable(jac) else None
    return _block(lambda x: fun(x, *args), by_jac, 0.0, upper, x0, call, "fun of a constraint")


def _linear(given: Any, x0: Tensor) -> Block:
    matrix = given.A.toarray() if scipy.sparse.issparse(given.A) else given.A
    rows = torch.as_tensor(np.atleast_2d(np.asarray(matrix, dtype=np.float64))).to(x0)
    if rows.shape[1] != x0.numel():
        raise BadInputError(f"A of the LinearConstraint has {rows.shape[1]} columns and x0 has {x0.numel()} entries")
    lower, upper = _spread(given.lb, len(rows), x0, "lb"), _spread(given.ub, len(rows), x0, "ub")
    _check_order(lower, upper, "the LinearConstraint")
    return Block(lambda x: rows @ x, lambda x: rows, lower, upper)


def _block(fun: Any, jac: Any, lower: Any, upper: Any, x0: Tensor, call: Call, name: str) -> Block:
    def function(x: Tensor) -> Tensor:
        value = call(fun, x)
        if not isinstance(value, Tensor):
            value = torch.as_tensor(np.asarray(value, dtype=np.float64)).to(x)
        return value.reshape(-1).to(x.dtype)

    def jacobian(x: Tensor) -> Tensor:
        value = call(jac, x)
        value = value.toarray() if scipy.sparse.issparse(value) else value
        value = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value, dtype=np.float64))
        return value.detach().to(x).reshape(-1, x.numel())

    with torch.no_grad():
        tried = function(x0)
    if not tried.is_floating_point():
        raise BadInputError(f"{name} returned {tried.dtype}: return real numbers")
    low, high = _spread(lower, tried.numel(), x0, "lb"), _spread(upper, tried.numel(), x0, "ub")
    _check_order(low, high, name)
    return Block(function, jacobian if jac is not None else None, low, high)


def _spread(value: Any, count: int, like: Tensor, name: str) -> Tensor:
    flat = torch.as_tensor(np.asarray(value, dtype=np.float64)).reshape(-1).to(like)
    if flat.numel() not in (1, count):
        raise BadInputError(f"{name} has {flat.numel()} entries for {count} constraints: give one, or one for each")
    return flat.expand(count).clone()


def _check_order(lower: Tensor, upper: Tensor, name: str) -> None:
    if bool((lower > upper).any()) or bool(torch.isnan(lower).any() or torch.isnan(upper).any()):
        raise BadInputError(f"{name}: a lower bound exceeds the upper one, or is not a number: nothing can satisfy it")
