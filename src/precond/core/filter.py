"""Causal maps on a stream of vectors: averages, momentum, clipping, variance reduction."""

from __future__ import annotations

import abc
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from precond.core.evidence import Evidence
from precond.core.traits import Need, Scope

S = TypeVar("S")


class Filter(abc.ABC, Generic[S]):
    """A causal map on a stream of vectors. Subclasses are frozen dataclasses; tensors live in ``S``."""

    needs: ClassVar[Need] = Need.NOTHING
    scope: ClassVar[Scope] = Scope.MATRIX
    """Whether entries of one tensor interact. Those that say `Scope.ELEMENTWISE` may be run on any part of a tensor."""
    equivariant: ClassVar[bool] = False
    """Whether it commutes with every orthogonal map of vectors, its state turning along, and looks at no evidence."""

    @abc.abstractmethod
    def init(self, like: Tensor) -> S:
        """Allocate the state for vectors shaped ``[batch, *shape]`` like ``like``; reads no values."""

    @abc.abstractmethod
    def push(self, state: S, v: Tensor, evidence: Evidence) -> Tensor:
        """Absorb ``v`` into ``state`` in place and return the filtered vector; never writes to ``v``."""
