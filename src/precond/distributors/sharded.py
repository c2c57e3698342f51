"""Parameters that are DTensors, of which every process holds a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from precond.core import Agreement, Distributor, Duty, IncompatibleError, Tenant
from precond.distributors.boxes import Box, box_at, whole_box
from precond.distributors.domain import Domain
from precond.distributors.part import part_here
from precond.math.norms import joint_norm


class Sharded(Distributor):
    """DTensors, as ``fully_shard`` and tensor parallelism make them; ordinary tensors are computed by every process.

    A method that looks at entries alone works on the part that each process holds. Where it must see a tensor whole,
    one process owns the tensor: it gets the parts of the gradient, keeps the state, and sends back the parts of the
    direction. Owners are chosen so that their work is balanced, by a rule that every process computes alike.

    A process that lacks a gradient takes part with zeros; one that is not finite somewhere is left out everywhere.
    """

    eager: ClassVar[bool] = True

    def __init__(self) -> None:
        self._domains: dict[tuple[int, ...], Domain] = {}
        self._home: dict[Tensor, Domain] = {}

    def place(self, tenants: Sequence[Tenant]) -> dict[Tensor, Duty]:
        """Place the parameters; those placed before keep their owners."""
        newcomers: dict[tuple[int, ...], list[Tenant]] = {}
        groups: dict[tuple[int, ...], Any] = {}
        for tenant in tenants:
            if tenant.param in self._home:
                continue
            group = self._group(tenant.param)
            if group is not None:
                ranks = tuple(dist.get_process_group_ranks(group))
                groups[ranks] = group
                newcomers.setdefault(ranks, []).append(tenant)
        for ranks, arriving in newcomers.items():
            domain = self._domains.setdefault(ranks, Domain(groups[ranks]))
            domain.admit(arriving, [_boxes(tenant.param, ranks) for tenant in arriving])
            for tenant in arriving:
                self._home[tenant.param] = domain
                if domain.mine(tenant.param).shape != tuple(self.held(tenant.param).shape):
                    raise IncompatibleError(
                        f"a parameter of shape {tuple(tenant.param.shape)} has a part of shape "
                        f"{tuple(self.held(tenant.param).shape)} where its placements say "
                        f"{domain.mine(tenant.param).shape}: use Shard and Replicate alone"
                    )
        return {tenant.param: self._duty(tenant.param) for tenant in tenants}

    def _duty(self, param: Tensor) -> Duty:
        domain = self._home.get(param)
        owner = None if domain is None else domain.owner[param]
        if domain is None or owner is None:
            return Duty.HOLDER
        return Duty.OWNER if owner == domain.rank else Duty.GUEST

    def _group(self, param: Tensor) -> Any:
        """Return the group of the processes that hold parts of a parameter; ``None`` if this one holds it alone."""
        return _mesh_group(param.device_mesh) if hasattr(param, "device_mesh") else None

    def agree(self, params: Sequence[Tensor]) -> Agreement:
        """Return the gradients of this step, the same decision in all processes that hold parts of a parameter."""
        parts: dict[Tensor, Tensor] = {}
        dropped: list[Tensor] = []
        for domain, mine in self._by_domain(params):
            agreed = domain.agree(mine)
            parts |= agreed.parts
            dropped += agreed.dropped
        alone = {p: p.grad for p in params if p not in self._home and p.grad is not None}
        return Agreement(parts | alone, dropped)

    def whole(self, parts: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return whole tensors of the parameters that this process owns."""
        result: dict[Tensor, Tensor] = {}
        for domain, mine in self._by_domain(list(parts)):
            result |= domain.whole({param: parts[param] for param in mine})
        return result

    def parts(self, params: Sequence[Tensor], wholes: Mapping[Tensor, Tensor], dtype: torch.dtype) -> list[Tensor]:
        """Return this process's parts of what the owners have."""
        result: dict[Tensor, Tensor] = {}
        for domain, mine in self._by_domain(params):
            result |= domain.parts(mine, wholes, dtype)
        return [result[param] for param in params]

    def pool(self, params: Sequence[Tensor], table: Tensor) -> Tensor:
        """Return the sum over the processes of rows that belong to some parameters."""
        result = table.clone()
        rows = {param: row for row, param in enumerate(params)}
        for domain, mine in self._by_domain(params):
            index = torch.tensor([rows[param] for param in mine], device=table.device)
            result[index] = domain.total(table[index])
        return result

    def norm(self, parts: Mapping[Tensor, Tensor]) -> Tensor:
        """Return the norm of tensors of which each process has parts; equal parts count once."""
        alone = [part for param, part in parts.items() if param not in self._home]
        result = joint_norm(alone).square() if alone else torch.zeros((), dtype=torch.float64)
        if parts:
            self.check_united()
        for domain, mine in self._by_domain(list(parts)):
            once = [parts[param] for param in mine if domain.first_with(param)]
            square = joint_norm(once).square() if once else torch.zeros(())
            result = domain.total(square.to(mine[0].device, torch.float64)) + result.to(mine[0].device)
        return result.sqrt()

    def average(self, loss: Tensor | None) -> Tensor | None:
        """Return the mean of the losses of all processes."""
        if not self._domains:
            return loss
        self.check_united()
        domain = next(iter(self._domains.values()))
        value = torch.zeros(2, dtype=torch.float64, device=domain.params[0].device)
        if loss is not None:
            value[0], value[1] = loss, 1.0
        total = domain.total(value)
        if int(total[1]) < domain.size:
            return None
        mean = total[0] / domain.size
        return mean if loss is None else mean.to(loss)

    def held(self, param: Tensor) -> Tensor:
        """Return the part of a parameter that this process holds."""
        return part_here(param)

    def outward(self, param: Any, value: Tensor) -> Tensor:
        """Return a held part of a state as a DTensor that is placed as the parameter is."""
        if self._duty(param) is not Duty.HOLDER or not hasattr(param, "device_mesh") or not param.ndim:
            return value
        if tuple(value.shape) != self._home[param].mine(param).shape:
            return value
        from torch.distributed.tensor import DTensor

        stride = torch.empty(param.shape, device="meta").stride()
        return DTensor.from_local(
            value, param.device_mesh, param.placements, run_check=False, shape=param.shape, stride=stride
        )

    def inward(self, param: Tensor, value: Tensor) -> Tensor:
        """Return the held part of a state, from a DTensor or from a whole tensor."""
        if hasattr(value, "device_mesh"):
            return part_here(value)
        domain = self._home.get(param)
        if domain is None or domain.owner[param] is not None or tuple(value.shape) != tuple(param.shape):
            return value
        return domain.mine(param).cut(value)

    def check_united(self) -> None:
        """Refuse several groups of processes."""
        if len(self._domains) > 1:
            raise IncompatibleError(
                "all parameters of this method agree on one number, but they live on several groups of processes: "
                "give each group an optimizer of its own"
            )

    @property
    def sent(self) -> int:
        """Bytes that this process has sent to others."""
        return sum(domain.sent for domain in self._domains.values())

    def _by_domain(self, params: Sequence[Tensor]) -> list[tuple[Domain, list[Tensor]]]:
        """Return the parameters of each domain, domains in the order in which they were made."""
        split = [(domain, [p for p in params if self._home.get(p) is domain]) for domain in self._domains.values()]
        return [(domain, mine) for domain, mine in split if mine]

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling and copying need; parameters are placed anew."""
        return {**self.__dict__, "_domains": {}, "_home": {}}


def _mesh_group(mesh: Any) -> Any:
    """Return the group of all processes of a mesh."""
    if mesh.ndim == 1:
        return mesh.get_group()
    ranks = mesh.mesh.flatten().tolist()
    if sorted(ranks) == list(range(dist.get_world_size())):
        return dist.group.WORLD
    return dist.new_group(ranks, use_local_synchronization=True)


def _boxes(param: Any, ranks: Sequence[int]) -> list[Box]:
    """Return the part of a parameter that each process of a group holds."""
    if not hasattr(param, "device_mesh"):
        return [whole_box(param.shape)] * len(ranks)
    mesh, placements = param.device_mesh, param.placements
    grid = mesh.mesh.cpu()
    where = {int(grid[tuple(place)]): place.tolist() for place in torch.ones_like(grid).nonzero()}
    return [box_at(param.shape, tuple(grid.shape), where[rank], placements) for rank in ranks]
