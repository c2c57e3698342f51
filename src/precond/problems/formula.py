"""Formulas of a few operations, read without ever running what they say as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError

Value = Tensor | float
Expression = Callable[[Mapping[str, Tensor]], Value]

_LONGEST = 2000
_CONSTANTS = {"pi": math.pi}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "arctan": torch.arctan,
    "cos": torch.cos,
    "exp": torch.exp,
    "ln": torch.log,
    "log": torch.log,
    "sin": torch.sin,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


def parse_formula(text: str, names: Collection[str]) -> Expression:
    """Return a function that evaluates a formula on tensors, differentiable as often as the operations are.

    Allowed are numbers, the given names, ``pi``, ``+ - * / **`` (also ``^``), round and square brackets, and
    ``exp log ln sqrt sin cos tan tanh arctan``.

    Args:
        text: The formula, without an equals sign.
        names: Names of the variables.

    Returns:
        A function from tensors by name to the value; names that do not occur may be missing.

    Raises:
        BadInputError: Anything else stands in it.
    """
    python = text.replace("[", "(").replace("]", ")").replace("^", "**").strip()
    if len(python) > _LONGEST:
        raise BadInputError(f"a formula of {len(python)} characters; at most {_LONGEST} are read")
    try:
        tree = ast.parse(python, mode="eval")
        return _expression(tree.body, names)
    except SyntaxError as error:
        raise BadInputError(
            f"cannot read the formula {text.strip()!r} ({error.msg}); check brackets and signs"
        ) from None
    except (RecursionError, MemoryError):
        raise BadInputError("the formula is nested too deeply; write it flatter") from None


def _expression(node: ast.expr, names: Collection[str]) -> Expression:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _constant(value)
        case ast.Name(id=name) if name in names:
            return lambda values: values[name]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        case ast.Name(id=name):
            raise BadInputError(f"the formula uses {name!r}, which is none of {', '.join(sorted(names))}; rename it")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _expression(operand, names)
            return lambda values: -inner(values)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _expression(operand, names)
        case ast.BinOp(left=left_node, op=op, right=right_node) if type(op) in _BINARY:
            combine, left, right = _BINARY[type(op)], _expression(left_node, names), _expression(right_node, names)
            return lambda values: combine(left(values), right(values))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            function, inner = _FUNCTIONS[name], _expression(argument, names)
            return lambda values: function(torch.as_tensor(inner(values), dtype=torch.float64))
        case ast.Call(func=ast.Name(id=name)):
            raise BadInputError(f"the formula calls {name!r} so; known with one argument: {', '.join(_FUNCTIONS)}")
    raise BadInputError(f"the formula holds {ast.unparse(node)!r}; only numbers, names, + - * / ** and calls are read")


def _constant(value: float) -> Expression:
    try:
        number = float(value)
    except OverflowError:
        raise BadInputError("the formula holds a number beyond float64; write a smaller one") from None
    return lambda values: number
