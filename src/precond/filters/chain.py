"""Filters one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from precond.core import Evidence, Filter, Need, Scope


@dataclasses.dataclass
class ChainState:
    """State of `Chain`.

    Attributes:
        links: States of the filters, in order.
    """

    links: list[Any]


@final
@dataclasses.dataclass(frozen=True)
class Chain(Filter[ChainState]):
    """Push through several filters in order, so that one slot of a method can hold, say, a correction and a clipping.

    Attributes:
        filters: The filters; none of them leaves the signal as it is.
    """

    filters: Sequence[Filter[Any]] = ()

    @property
    def needs(self) -> Need:
        """What any of them needs."""
        needs = Need.NOTHING
        for link in self.filters:
            needs |= link.needs
        return needs

    @property
    def scope(self) -> Scope:
        """Elementwise if all of them are."""
        elementwise = all(link.scope is Scope.ELEMENTWISE for link in self.filters)
        return Scope.ELEMENTWISE if elementwise else Scope.MATRIX

    def init(self, like: Tensor) -> ChainState:
        """Start them all."""
        return ChainState([link.init(like) for link in self.filters])

    def push(self, state: ChainState, v: Tensor, evidence: Evidence) -> Tensor:
        """Return what the last one returns."""
        for link, own in zip(self.filters, state.links, strict=True):
            v = link.push(own, v, evidence)
        return v
