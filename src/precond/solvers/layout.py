"""How the variables that a user has, one tensor or a dict of them, lie in one flat vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from precond.core import BadInputError
from precond.operators.checks import all_finite


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names and shapes of variables in the order in which they are ravelled.

    Attributes:
        shapes: Shapes by name; the name of a lone tensor is empty.
    """

    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, variables: Tensor | Mapping[str, Tensor]) -> Layout:
        """Describe ``variables``, refusing what cannot be optimized.

        Args:
            variables: A tensor of any shape, or tensors by name.

        Returns:
            Their layout.

        Raises:
            BadInputError: A dtype other than float32 or float64, values that are not finite, or mixed kinds.
        """
        named = {"": variables} if isinstance(variables, Tensor) else dict(variables)
        for name, tensor in named.items():
            where = f"x0[{name!r}]" if name else "x0"
            if not isinstance(tensor, Tensor):
                raise BadInputError(f"{where} is {type(tensor).__name__}: make every value of the dict a tensor")
            if tensor.dtype not in (torch.float32, torch.float64):
                raise BadInputError(
                    f"{where} has dtype {tensor.dtype}: convert it, with x0.double() or x0.astype(float)"
                )
            if not all_finite(tensor):
                raise BadInputError(f"{where} holds NaN or infinity: start from finite values")
        kinds = {(tensor.dtype, tensor.device) for tensor in named.values()}
        if len(kinds) > 1:
            raise BadInputError(f"x0 mixes {sorted(map(str, kinds))}: use one dtype and one device")
        return cls({name: tensor.shape for name, tensor in named.items()})

    def flatten(self, variables: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return a new flat vector ``[n]``."""
        if isinstance(variables, Tensor):
            return variables.detach().reshape(-1).clone()
        if not variables:
            return torch.zeros(0)
        return torch.cat([variables[name].detach().reshape(-1) for name in self.shapes])

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views of a flat vector ``[n]`` by name, with the users' shapes."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = torch.split(flat, sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def restore(self, flat: Tensor) -> Tensor | dict[str, Tensor]:
        """Return views of a flat vector ``[n]`` in the form that the layout was made of."""
        return self.alone(flat) if self.shapes.keys() == {""} else self.named(flat)

    def alone(self, flat: Tensor) -> Tensor:
        """Return a flat vector ``[n]`` in the shape of the one variable that the layout was made of."""
        shape = self.shapes[""]
        return flat if shape == flat.shape else flat.view(shape)
