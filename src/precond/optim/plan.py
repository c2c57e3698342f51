"""A layout made before there are gradients, so that the first step does not wait for memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from precond.core import Distributor, Method
from precond.optim.layout import Layout, lay_out
from precond.optim.rules import Rule


class Plan:
    """A layout with fresh state, for the guess that every parameter that trains will have a gradient at the first step.

    State must be touched page by page before it can be used, which takes as long as several steps of a method that is
    bound by memory. Where the guess is wrong, because parameters turn out to have no gradient, have moved or were
    frozen, the plan is dropped, and only what has a gradient gets a state.

    Args:
        groups: Parameter groups.
        rules: Which method the parameters of each group follow.
        distributor: Says where each parameter is worked on; one that needs no other process.
        backend: What compiles the work of slabs; ``None`` for nothing.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], rules: Sequence[Rule], distributor: Distributor, backend: str | None
    ) -> None:
        self._layout = lay_out(groups, rules, {}, distributor, backend, everyone=True)
        self._shapes = [tuple(param.shape) for param in self._layout.params]

    @classmethod
    def of(
        cls, groups: Sequence[dict[str, Any]], rules: Sequence[Rule], distributor: Distributor, backend: str | None
    ) -> Plan | None:
        """Return the plan for some parameter groups, if they are all there and this process works alone."""
        there = not any(param.is_meta or is_lazy(param) for group in groups for param in group["params"])
        lasting = not torch.is_inference_mode_enabled() and torch.get_default_device().type != "meta"
        return cls(groups, rules, distributor, backend) if there and lasting and distributor.alone else None

    @property
    def methods(self) -> Mapping[Tensor, Method]:
        """The method that each parameter follows."""
        return self._layout.methods

    def layout(self, groups: Sequence[dict[str, Any]], changed: Mapping[Tensor, Method]) -> Layout | None:
        """Return the layout, if the guess has come true.

        Args:
            groups: Parameter groups.
            changed: The new methods of parameters that have others now.

        Returns:
            The layout, or ``None``.
        """
        layout = self._layout
        params = [param for group in groups for param in group["params"] if param.numel()]
        came_true = (
            [id(param) for param in params if param.requires_grad] == [id(param) for param in layout.params]
            and all(param.grad is not None for param in layout.params)
            and self._shapes == [tuple(param.shape) for param in layout.params]
            and not any(param.grad is not None for param in params if not param.requires_grad)
            and not layout.moved()
        )
        return layout if came_true and (not changed or layout.follow(changed)) else None
