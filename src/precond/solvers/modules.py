"""The parameters of a module as one flat vector."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from precond.core import BadInputError
from precond.solvers.layout import Layout

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclasses.dataclass(frozen=True)
class ModuleVariables:
    """Those parameters of a module that require gradients.

    Attributes:
        model: The module.
        parameters: The parameters by name.
        layout: How they lie in a flat vector.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    layout: Layout

    @classmethod
    def of(cls, model: nn.Module) -> ModuleVariables:
        """Collect them; refuse a module that has none, or that draws a new function at every call."""
        for name, part in model.named_modules():
            if isinstance(part, _DROPOUT) and part.training and part.p > 0:
                raise BadInputError(
                    f"{name or 'the module'} ({type(part).__name__}) drops entries at random, so that no point is a "
                    "minimum: call model.eval() first, or train with an optimizer of precond.optim"
                )
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not parameters:
            raise BadInputError("the module has no parameter that requires a gradient: nothing can be optimized")
        return cls(model, parameters, Layout.of(parameters))

    @property
    def start(self) -> Tensor:
        """The values of the parameters, ``[n]``."""
        return self.layout.flatten(self.parameters)

    def call(self, function: Callable[[nn.Module], Any], flat: Tensor) -> Any:
        """Return a function of the module with its parameters at a flat vector."""
        swapped = {f"model.{name}": value for name, value in self.layout.named(flat).items()}
        return torch.func.functional_call(_Called(self.model, function), swapped, ())

    def finish(self, flat: Tensor) -> nn.Module:
        """Write a flat vector into the module."""
        with torch.no_grad():
            for name, value in self.layout.named(flat).items():
                self.parameters[name].copy_(value)
        return self.model


class _Called(nn.Module):
    """A function of a model as a module of its own, so that its parameters can be swapped for a moment."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self) -> Any:
        """Call the function."""
        return self.function(self.model)
