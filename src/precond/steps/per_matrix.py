"""Step rules that treat each matrix in a tensor as a tensor of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from precond.core import Evidence, Factor, Need, Shared, StepRule, merge_members, need, split_members
from precond.math.tensors.stacks import Stack


def per_matrix(stack: Stack, rule: StepRule[Any]) -> StepRule[Any]:
    """Return the rule that gives every matrix of a tensor a factor of its own."""
    return SharedPerMatrix(stack, rule) if isinstance(rule, Shared) else FactorPerMatrix(stack, rule)


@final
@dataclasses.dataclass(frozen=True)
class FactorPerMatrix(Factor[Any]):
    """A factor for every matrix that a tensor holds.

    Attributes:
        stack: How tensors hold matrices.
        inner: The rule, a `Factor`.
    """

    stack: Stack
    inner: Any

    @property
    def needs(self) -> Need:
        """What the rule needs."""
        return self.inner.needs

    def init(self, like: Tensor) -> Any:
        """Start the rule on the matrices."""
        return split_members(self.inner.init(self.stack.take_apart(like)), like.shape[0])

    def factor(self, state: Any, evidence: Evidence, direction: Tensor) -> Tensor | float:
        """Return the factors, spread over the entries of the matrices; a number stays one."""
        matrices = self.stack.take_apart(direction)
        factors = self.inner.factor(merge_members(state), evidence.reshaped(self.stack.take_apart), matrices)
        return _spread(self.stack, factors, matrices, direction) if isinstance(factors, Tensor) else factors


@final
@dataclasses.dataclass(frozen=True)
class SharedPerMatrix(Shared[Any]):
    """A factor for every matrix that a tensor holds, on which all matrices of a group agree.

    Attributes:
        stack: How tensors hold matrices.
        inner: The rule, a `Shared`.
    """

    stack: Stack
    inner: Any

    @property
    def needs(self) -> Need:
        """What the rule needs."""
        return self.inner.needs | Need.GRADIENT

    def init(self, like: Tensor) -> Any:
        """Start the rule on the matrices."""
        return split_members(self.inner.init(self.stack.take_apart(like)), like.shape[0])

    def contribute(self, state: Any, evidence: Evidence, precondition: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what each matrix contributes, ``[batch * matrices]``."""
        dims = need(evidence.gradient, "gradient").shape[1:]

        def through(matrices: Tensor) -> Tensor:
            return self.stack.take_apart(precondition(self.stack.put_together(matrices, dims)))

        return self.inner.contribute(merge_members(state), evidence.reshaped(self.stack.take_apart), through)

    def combine(self, contributions: Tensor) -> Tensor:
        """Combine them as the rule does."""
        return self.inner.combine(contributions)

    def share(self, state: Any, evidence: Evidence, combined: Tensor) -> Tensor:
        """Return the factors, spread over the entries of the matrices."""
        seen, gradient = evidence.reshaped(self.stack.take_apart), need(evidence.gradient, "gradient")
        factors = self.inner.share(merge_members(state), seen, combined)
        return _spread(self.stack, factors, need(seen.gradient, "gradient"), gradient)


def _spread(stack: Stack, factors: Tensor, matrices: Tensor, like: Tensor) -> Tensor:
    factors = factors.view(-1, *(1,) * (matrices.ndim - 1)).expand(matrices.shape)
    return stack.put_together(factors, like.shape[1:])
