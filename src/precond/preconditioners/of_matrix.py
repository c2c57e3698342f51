"""A preconditioner of a given matrix, whatever operator is at hand."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from torch import Tensor

from precond.core import BadInputError, Evidence, Health, Need, Operator, Preconditioner, Scope, Traits


@final
@dataclasses.dataclass(frozen=True)
class OfMatrix(Preconditioner[Any]):
    """Another preconditioner, fed with one matrix once, in place of the Hessian at each point.

    For objectives ``f(x) = g(A x)`` the matrix ``A^T A`` bounds all Hessians, and nothing is ever set up again.

    Attributes:
        inner: The preconditioner.
        matrix: What it is fed with, symmetric positive definite.
    """

    inner: Preconditioner[Any]
    matrix: Operator

    needs: ClassVar[Need] = Need.NOTHING
    scope: ClassVar[Scope] = Scope.GLOBAL

    @property
    def traits(self) -> Traits:
        """Those of the inner part."""
        return self.inner.traits

    def init(self, like: Tensor) -> Any:
        """Allocate the inner state; refuse vectors of another length than the matrix has."""
        if like.ndim != 2 or like.shape[1] != self.matrix.shape[0]:
            raise BadInputError(
                f"the matrix has shape {self.matrix.shape}, the variables {tuple(like.shape[1:])}: give one for all "
                "variables in one vector"
            )
        return _Once(self.inner.init(like))

    def refresh(self, state: Any) -> Health:
        """Set the inner part up, the first time."""
        if state.done:
            return Health()
        state.done = True
        self.inner.observe(state.inner, Evidence(operator=self.matrix))
        return self.inner.refresh(state.inner)

    def apply(self, state: Any, v: Tensor, *, shift: float = 0.0) -> Tensor:
        """Apply the inner part."""
        return self.inner.apply(state.inner, v, shift=shift)


@dataclasses.dataclass
class _Once:
    """The state of the inner part, and whether it is set up."""

    inner: Any
    done: bool = False
