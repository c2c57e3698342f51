"""One process has everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Agreement, Distributor, Duty, IncompatibleError, Tenant
from precond.math.norms import joint_norm


@final
@dataclasses.dataclass(frozen=True)
class Local(Distributor):
    """Every process computes all that it has: the only one, or each of several with the same parameters."""

    alone: ClassVar[bool] = True

    def place(self, tenants: Sequence[Tenant]) -> dict[Tensor, Duty]:
        """Hold everything."""
        if any(hasattr(tenant.param, "device_mesh") for tenant in tenants):
            raise IncompatibleError(
                "a parameter is a DTensor, of which this process holds a part only: use distributor='auto'"
            )
        return {tenant.param: Duty.HOLDER for tenant in tenants}

    def agree(self, params: Sequence[Tensor]) -> Agreement:
        """Agree with oneself."""
        return Agreement({param: param.grad for param in params if param.grad is not None})

    def whole(self, parts: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return the parts, which are whole."""
        return dict(parts)

    def parts(self, params: Sequence[Tensor], wholes: Mapping[Tensor, Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return the wholes."""
        return [wholes[param] for param in params]

    def pool(self, params: Sequence[Tensor], table: Tensor) -> Tensor:
        """Return the table."""
        return table

    def norm(self, parts: Mapping[Tensor, Tensor]) -> Tensor:
        """Return their norm."""
        return joint_norm(list(parts.values()))

    def average(self, loss: Tensor | None) -> Tensor | None:
        """Return the loss."""
        return loss

    def held(self, param: Tensor) -> Tensor:
        """Return the parameter."""
        return param

    def outward(self, param: Tensor, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def inward(self, param: Tensor, value: Tensor) -> Tensor:
        """Return the value."""
        return value
