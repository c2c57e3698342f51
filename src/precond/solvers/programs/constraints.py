"""Constraints in the forms that users have them: functions, SciPy's objects, dictionaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from precond.core import BadInputError
from precond.operators.constant import sparse_times
from precond.solvers.squares.sparse_differences import sparse_differences

Function = Callable[[Tensor], Tensor]
Rows: TypeAlias = Tensor | scipy.sparse.csr_array
Call = Callable[[Callable[..., Any], Tensor], Any]


@dataclasses.dataclass(frozen=True)
class Block:
    """Some constraints ``lower <= c(x) <= upper``.

    Attributes:
        function: Maps the flat variables ``[n]`` to ``[k]``.
        jacobian: Maps them to ``[k, n]``, a sparse matrix where the user's is one; ``None`` when it is to be
            differentiated.
        lower: ``[k]``.
        upper: ``[k]``; equal to ``lower`` for equations.
        differences: The Jacobian is one of differences.
        hessian: Maps the variables and weights ``[k]`` to the product of ``sum_i v_i hess c_i`` with a vector ``[n]``;
            ``None`` when it is to be differentiated.
    """

    function: Function
    jacobian: Callable[[Tensor], Rows] | None
    lower: Tensor
    upper: Tensor
    hessian: Callable[[Tensor, Tensor], Function] | None = None
    differences: bool = False

    @property
    def equations(self) -> Tensor:
        """Which constraints are equations, ``[k]``."""
        return self.lower == self.upper

    def holding(self, fixed: Tensor, values: Tensor) -> Block:
        """Return the constraints where variables that ``fixed`` ``[n]`` says are seen at their ``values`` alone."""
        jacobian, hessian = self.jacobian, self.hessian

        def at(x: Tensor) -> Tensor:
            return torch.where(fixed.to(x.device), values.to(x), x)

        def free(v: Tensor) -> Tensor:
            return torch.where(fixed.to(v.device), 0.0, v)

        def sloped(x: Tensor) -> Rows:
            assert jacobian is not None
            rows = jacobian(at(x))
            if isinstance(rows, Tensor):
                return free(rows)
            return scipy.sparse.csr_array(rows @ scipy.sparse.diags_array((~fixed).double().cpu().numpy()))

        def curved(x: Tensor, weights: Tensor) -> Function:
            assert hessian is not None
            product = hessian(at(x), weights)
            return lambda v: free(product(free(v)))

        return dataclasses.replace(
            self, function=lambda x: self.function(at(x)), jacobian=None if jacobian is None else sloped,
            hessian=None if hessian is None else curved,
        )  # fmt: skip


def read_constraints(constraints: Any, x0: Tensor, call: Call, *, by_differences: bool = False) -> list[Block]:
    """Return the constraints as blocks.

    Args:
        constraints: A function ``c`` that means ``c(x) = 0``; ``scipy.optimize.LinearConstraint`` or
            ``NonlinearConstraint``; a dictionary with ``type`` (``"eq"`` or ``"ineq"``, which means ``>= 0``), ``fun``
            and perhaps ``jac``, ``hess`` (of ``x`` and weights) and ``args``; or several of these in a list or tuple.
        x0: The starting point, ``[n]``, where functions are tried.
        call: Calls a user's function at flat variables.
        by_differences: Functions without a Jacobian are differentiated by differences, for which a
            ``finite_diff_jac_sparsity`` is used.

    Returns:
        The blocks, in the given order.

    Raises:
        BadInputError: Something is none of these, or a function returns what cannot be used.
    """
    if isinstance(constraints, Sequence) and not isinstance(constraints, (str, bytes)):
        each = (read_constraints(one, x0, call, by_differences=by_differences) for one in constraints)
        return [block for blocks in each for block in blocks]
    if isinstance(constraints, Mapping):
        return [_from_mapping(constraints, x0, call)]
    if hasattr(constraints, "A") and hasattr(constraints, "lb"):
        return [_linear(constraints, x0)]
    if hasattr(constraints, "fun") and hasattr(constraints, "lb"):
        jac, hess = (f if callable(f) else None for f in (constraints.jac, getattr(constraints, "hess", None)))
        name = "fun of the NonlinearConstraint"
        block = _block(constraints.fun, jac, hess, constraints.lb, constraints.ub, x0, call, name)
        pattern = getattr(constraints, "finite_diff_jac_sparsity", None)
        if pattern is None or jac is not None or not by_differences:
            return [block]
        shown = sparse_differences(pattern, block.function, (block.lower.numel(), x0.numel()))
        return [dataclasses.replace(block, jacobian=shown, differences=True)]
    if callable(constraints):
        return [_block(constraints, None, None, 0.0, 0.0, x0, call, "constraints")]
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
        lower = torch.tensor([-math.inf if p[0] is None else float(p[0]) for p in pairs], dtype=torch.float64).to(x0)
        upper = torch.tensor([math.inf if p[1] is None else float(p[1]) for p in pairs], dtype=torch.float64).to(x0)
    _check_order(lower, upper, "bounds")
    return lower, upper


def fixing(fixed: Tensor, values: Tensor) -> Block:
    """Return the equations ``x_i = values_i`` of the variables that ``fixed`` ``[n]`` says."""
    places = fixed.nonzero()[:, 0].cpu().numpy()
    ones = np.ones(len(places))
    rows = scipy.sparse.csr_array((ones, (np.arange(len(places)), places)), shape=(len(places), fixed.numel()))
    return _affine(rows, values[fixed], values[fixed])


def _affine(rows: Rows, lower: Tensor, upper: Tensor) -> Block:
    def function(x: Tensor) -> Tensor:
        return rows.to(x) @ x if isinstance(rows, Tensor) else sparse_times(rows, x)

    return Block(function, lambda x: rows, lower, upper, lambda x, weights: torch.zeros_like)


def _from_mapping(given: Mapping[str, Any], x0: Tensor, call: Call) -> Block:
    kind, fun, args = str(given.get("type")).lower(), given.get("fun"), given.get("args", ())
    if kind not in ("eq", "ineq") or not callable(fun):
        raise BadInputError(
            "a constraint dictionary needs 'type' ('eq' or 'ineq') and a function 'fun'; "
            f"got type={given.get('type')!r}"
        )
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    jac, hess = (f if callable(f) else None for f in (given.get("jac"), given.get("hess")))
    upper = 0.0 if kind == "eq" else math.inf
    by_jac = None if jac is None else lambda x: jac(x, *args)
    by_hess = None if hess is None else lambda x, weights: hess(x, weights, *args)
    return _block(lambda x: fun(x, *args), by_jac, by_hess, 0.0, upper, x0, call, "fun of a constraint")


def _linear(given: Any, x0: Tensor) -> Block:
    rows: Rows
    if scipy.sparse.issparse(given.A):
        rows = scipy.sparse.csr_array(given.A, dtype=np.float64)
    else:
        rows = torch.as_tensor(np.atleast_2d(np.asarray(given.A, dtype=np.float64))).to(x0)
    m, n = rows.shape
    if n != x0.numel():
        raise BadInputError(f"A of the LinearConstraint has {n} columns and x0 has {x0.numel()} entries")
    lower, upper = _spread(given.lb, m, x0, "lb"), _spread(given.ub, m, x0, "ub")
    _check_order(lower, upper, "the LinearConstraint")
    return _affine(rows, lower, upper)


def _block(fun: Any, jac: Any, hess: Any, lower: Any, upper: Any, x0: Tensor, call: Call, name: str) -> Block:
    def function(x: Tensor) -> Tensor:
        return _values(call(fun, x), x)

    def jacobian(x: Tensor) -> Rows:
        value = call(jac, x)
        shape = tried.numel(), x.numel()
        if isinstance(value, LinearOperator):
            value = value @ np.eye(value.shape[1])
        if not (scipy.sparse.issparse(value) or isinstance(value, Tensor)):
            value = torch.from_numpy(np.array(value, dtype=np.float64))
        given = tuple(value.shape)
        if given != shape and (math.prod(given) != math.prod(shape) or (len(given) > 1 and 1 not in shape)):
            raise BadInputError(
                f"jac of {name} returned shape {given}: it must be [{shape[0]}, {shape[1]}], a row for each constraint "
                "and a column for each variable"
            )
        if scipy.sparse.issparse(value):
            return scipy.sparse.csr_array(value.reshape(shape), dtype=np.float64)
        return value.detach().to(x).reshape(shape)

    def hessian(x: Tensor, weights: Tensor) -> Function:
        shown = weights.detach().clone()
        matrix = call(lambda seen: hess(seen, shown.cpu().numpy() if isinstance(seen, np.ndarray) else shown), x)
        return _product(matrix, x.numel(), name)

    with torch.no_grad():
        tried = function(x0)
    low, high = _spread(lower, tried.numel(), x0, "lb"), _spread(upper, tried.numel(), x0, "ub")
    _check_order(low, high, name)
    return Block(function, None if jac is None else jacobian, low, high, None if hess is None else hessian)


def _values(value: Any, x: Tensor) -> Tensor:
    """Return what a constraint's function returned as a vector, with its graph where it has one."""
    if isinstance(value, (list, tuple)) and any(isinstance(each, Tensor) for each in value):
        parts = [each if isinstance(each, Tensor) else torch.as_tensor(each, dtype=torch.float64) for each in value]
        value = torch.cat([part.to(x).reshape(-1) for part in parts])
    if not isinstance(value, Tensor):
        if x.requires_grad:
            raise BadInputError(
                f"a constraint returned {type(value).__name__}, and fun is a torch function: write the constraint with "
                "torch operations, too, or give jac of fun and x0 as an array"
            )
        value = torch.from_numpy(np.array(value, dtype=None if np.iscomplexobj(value) else np.float64))
    if value.is_complex():
        raise BadInputError(f"a constraint returned {value.dtype}: return real numbers, as by torch.view_as_real")
    return value.reshape(-1).to(x)


def _product(matrix: Any, n: int, name: str) -> Function:
    """Return the product with a user's Hessian: dense, sparse, a ``LinearOperator``, or a tensor."""
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().numpy()
    if not (scipy.sparse.issparse(matrix) or isinstance(matrix, LinearOperator)):
        matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (n, n):
        raise BadInputError(f"hess beside {name} returned shape {tuple(matrix.shape)}: it must be [{n}, {n}]")
    return lambda v: torch.from_numpy(np.asarray(matrix @ v.cpu().double().numpy(), dtype=np.float64)).to(v)


def _spread(value: Any, count: int, like: Tensor, name: str) -> Tensor:
    flat = torch.from_numpy(np.array(value, dtype=np.float64)).reshape(-1).to(like)  # SciPy hands read-only arrays
    if flat.numel() not in (1, count):
        raise BadInputError(f"{name} has {flat.numel()} entries for {count} constraints: give one, or one for each")
    return flat.expand(count).clone()


def _check_order(lower: Tensor, upper: Tensor, name: str) -> None:
    impossible = bool((lower > upper).any() or (lower == math.inf).any() or (upper == -math.inf).any())
    if impossible or bool(torch.isnan(lower).any() or torch.isnan(upper).any()):
        raise BadInputError(
            f"{name}: a lower bound exceeds the upper one, or is +inf, an upper one -inf, or one is not a number: "
            "nothing can satisfy it"
        )
