"""Which method each tensor of a parameter group follows, given what the tensors of the group are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Constant, Filter, Method, Route, Scope
from precond.filters.per_matrix import FilterPerMatrix
from precond.math.tensors.stacks import Stack
from precond.optim.adjustable import Adjustable
from precond.preconditioners.per_matrix import PerMatrix
from precond.steps.per_matrix import per_matrix
from precond.steps.scaled import Scaled

MATRICES = ("hidden", "convolution", "fused", "expert")
"""Roles whose tensors are matrices, or hold several."""
ENTRIES = ("embedding", "lm_head", "norm", "bias", "vector", "depthwise")
"""Roles whose tensors are treated entry by entry."""
_VECTORS = ("norm", "bias", "vector", "depthwise")
"""Those of them that count as vectors, whatever their shape."""


class Rule:
    """How a group turns its method into one for each of its tensors.

    A `Route` is asked about the role in place of the names, where the group has one. Any other method gives tensors
    with one of the roles `ENTRIES` its elementwise form, and treats every matrix in a tensor of the others by itself.
    A method that sees all tensors as one vector stays as it is.

    Args:
        method: The method or route of the group.
        role: What the tensors of the group are, one of `MATRICES` or `ENTRIES`; empty if that was not said.
        stack: How each tensor holds matrices; as one matrix, or as the method sees fit where there is no role.
    """

    def __init__(self, method: Method | Route, role: str = "", stack: Stack | None = None) -> None:
        if role and role not in MATRICES + ENTRIES:
            raise BadInputError(f"unknown role {role!r}: one of {', '.join(MATRICES + ENTRIES)}")
        self.method, self.role, self.stack = method, role, stack
        self._made: list[tuple[Method, Method]] = []
        self._source: Adjustable | None = None
        self._settings: tuple[Any, ...] = ()

    @classmethod
    def of(cls, group: Mapping[str, Any], default: Method | Route | Adjustable | None) -> Rule:
        """Return the rule of a parameter group, whose keys ``"method"``, ``"role"`` and ``"stack"`` it reads.

        Args:
            group: The group.
            default: The method of groups that have none, or what makes it from the numbers of a group.

        Returns:
            The rule.

        Raises:
            BadInputError: There is no method, or the role is not known.
        """
        method, stack = group.get("method", default), group.get("stack")
        source, settings = None, ()
        if isinstance(method, Adjustable):
            source, settings = method, method.settings(group)
            method = source.method(settings)
        if not isinstance(method, Method | Route):
            raise BadInputError(
                f"method must be a Method or a Route, not {type(method).__name__}: call a recipe, as in "
                "precond.recipes.matrix.soap(), or take a class of precond.optim, such as SOAP"
            )
        rule = cls(method, group.get("role", ""), None if stack is None else Stack(*stack))
        rule._source, rule._settings = source, settings
        return rule

    def renew(self, group: Mapping[str, Any]) -> bool:
        """Follow the numbers of the group, and return whether they have changed."""
        if self._source is None or (settings := self._source.settings(group)) == self._settings:
            return False
        self.method = self._source.method(settings)
        self._settings, self._made = settings, []
        return True

    def method_for(self, name: str, param: Tensor) -> Method:
        """Return the method of one tensor; the same object for all that follow the same."""
        chosen = self.method
        if isinstance(chosen, Route):
            seen = torch.empty(param.numel(), device="meta") if self.role in _VECTORS else param
            chosen = chosen.method_for(self.role or name, seen)
        elif self.role in ENTRIES:
            return self._once(chosen, _elementwise)
        if chosen.preconditioner.scope is Scope.GLOBAL:
            return chosen
        dims = tuple(param.shape)
        if self.stack is None or (self.stack.count == 1 and self.stack.matrix(dims) == dims):
            return chosen
        return self._once(chosen, self._stacked)

    def _once(self, method: Method, make: Any) -> Method:
        for known, made in self._made:
            if known is method:
                return made
        self._made.append((method, make(method)))
        return self._made[-1][1]

    def _stacked(self, method: Method) -> Method:
        stack, part, step = self.stack, method.preconditioner, method.step
        if stack is None or part.scope is Scope.GLOBAL:  # a part that sees one vector sees no matrices
            return method

        def each(filter_: Filter[Any] | None) -> Filter[Any] | None:
            return filter_ if filter_ is None or filter_.equivariant else FilterPerMatrix(stack, filter_)

        return dataclasses.replace(
            method,
            preconditioner=part if part.scope is Scope.ELEMENTWISE else PerMatrix(stack, part),
            estimator=each(method.estimator),
            momentum=each(method.momentum),
            smoothing=each(method.smoothing),
            step=step if isinstance(step, Constant | Scaled) else per_matrix(stack, step),
        )


def _elementwise(method: Method) -> Method:
    form = method.preconditioner.elementwise
    if form is None or form is method.preconditioner:
        return method
    return dataclasses.replace(method, preconditioner=form)
