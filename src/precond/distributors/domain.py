"""Processes that hold parts of the same parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from precond.core import Agreement, IncompatibleError, Tenant
from precond.distributors.boxes import Box
from precond.distributors.mail import exchange
from precond.distributors.part import part_here
from precond.math.balance import balanced
from precond.math.norms import largest_usable, usable_members

_PRESENT, _BAD, _ASTRAY = 1, 2, 4

_ROOM = 2**24
"""Entries of the parameters that are exchanged in one call, so that buffers stay small beside the parameters."""


class Domain:
    """The processes of one group, the parts that each holds of some parameters, and their owners.

    A process that lacks a gradient which another one has takes its part from a process that holds the same part, and
    zeros if there is none.

    Args:
        group: The process group.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.params: list[Tensor] = []
        self.boxes: dict[Tensor, list[Box]] = {}
        self.owner: dict[Tensor, int | None] = {}
        self.load = [0.0] * self.size
        self.sent = 0
        self._sources: dict[Tensor, list[int]] = {}

    # --- who does what ------------------------------------------------------------------------------------------

    def admit(self, tenants: Sequence[Tenant], boxes: Sequence[list[Box]]) -> None:
        """Take in parameters, with the parts that each process holds; those that need an owner get one."""
        owned = [tenant for tenant in tenants if tenant.whole]
        chosen = balanced([tenant.cost for tenant in owned], self.size, self.load)
        owners: dict[Tensor, int] = {}
        for tenant, owner in zip(owned, chosen, strict=True):
            owners[tenant.param] = owner
            self.load[owner] += tenant.cost
        for tenant, held in zip(tenants, boxes, strict=True):
            self.params.append(tenant.param)
            self.boxes[tenant.param] = held
            self.owner[tenant.param] = owners.get(tenant.param)
            if tenant.whole:
                self._sources[tenant.param] = _sources(held, owners[tenant.param])

    def mine(self, param: Tensor) -> Box:
        """Return the part of a parameter that this process holds."""
        return self.boxes[param][self.rank]

    def first_with(self, param: Tensor) -> bool:
        """Whether no process before this one holds the same part of a parameter."""
        return self.mine(param) not in self.boxes[param][: self.rank]

    # --- agreeing -----------------------------------------------------------------------------------------------

    def agree(self, params: Sequence[Tensor]) -> Agreement:
        """Return the parts of the gradients that some process has, and the parameters that all leave alone."""
        flags = [self._flags(param) for param in params]
        device = params[0].device if params else torch.device("cpu")
        mine = {param: part_here(param.grad) for param in params if param.grad is not None}
        held = [(i, mine[param]) for i, param in enumerate(params) if param in mine and self.owner[param] is None]
        if held:
            sums = torch.stack([part.sum(dtype=torch.float64) for _, part in held])
            limit = largest_usable(torch.float32)
            for (i, part), finite in zip(held, (sums.abs() < limit).tolist(), strict=True):
                if not finite and not bool(usable_members(part[None])):
                    flags[i] |= _BAD
        own = torch.tensor(flags, dtype=torch.uint8, device=device)
        table = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(table, own, group=self.group)
        self.sent += len(params) * (self.size - 1)
        known = torch.stack(table).cpu()
        if bool((known == _PRESENT).all()):
            return Agreement(mine)
        return self._settle(params, mine, known)

    def _flags(self, param: Tensor) -> int:
        if param.grad is None:
            return 0
        placements = getattr(param, "placements", None)
        return _PRESENT | (_ASTRAY if getattr(param.grad, "placements", None) != placements else 0)

    def _settle(self, params: Sequence[Tensor], mine: dict[Tensor, Tensor], known: Tensor) -> Agreement:
        """Fill what is missing here, once it is known who has what."""
        anywhere, astray = (known & _PRESENT).amax(0).tolist(), (known & _ASTRAY).amax(0).tolist()
        everywhere, bad = (known & _PRESENT).amin(0).tolist(), (known & _BAD).amax(0).tolist()
        lacking, dropped = [], []
        for column, param in enumerate(params):
            if astray[column]:
                if not everywhere[column]:
                    raise IncompatibleError(
                        f"the gradient of a parameter of shape {tuple(param.shape)} has other placements than the "
                        "parameter, and is missing in some processes: let every process have one"
                    )
                mine[param] = _placed_as(param, param.grad)
            if anywhere[column] and not everywhere[column]:
                lacking.append((param, (known[:, column] & _PRESENT).tolist()))
            if bad[column]:
                dropped.append(param)
        self._lend(lacking, mine)
        for param in dropped:
            mine.pop(param, None)
        return Agreement({param: mine[param] for param in params if param in mine}, dropped)

    def _lend(self, lacking: Sequence[tuple[Tensor, list[int]]], mine: dict[Tensor, Tensor]) -> None:
        """Give processes that lack a gradient the part of one that holds the same, or zeros."""
        for dtype in sorted({param.dtype for param, _ in lacking}, key=str):
            letters, awaited, wanting = [], [], []
            for param, present in ((p, having) for p, having in lacking if p.dtype is dtype):
                boxes = self.boxes[param]
                for rank in (rank for rank, has in enumerate(present) if not has):
                    lender = next((r for r, has in enumerate(present) if has and boxes[r] == boxes[rank]), None)
                    if lender == self.rank:
                        letters.append((rank, mine[param].to(dtype)))
                    if rank == self.rank:
                        if lender is None:
                            mine[param] = torch.zeros(boxes[rank].shape, dtype=dtype, device=param.device)
                        else:
                            awaited.append((lender, boxes[rank].shape))
                            wanting.append(param)
            like = torch.empty(0, dtype=dtype, device=lacking[0][0].device)
            mine.update(zip(wanting, self._exchange(letters, awaited, like), strict=True))

    # --- whole and parts ----------------------------------------------------------------------------------------

    def whole(self, parts: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return the whole tensors of the parameters that this process owns."""
        result: dict[Tensor, Tensor] = {}
        for params in _batches([param for param in self.params if param in parts]):
            letters, awaited = [], []
            for param in params:
                owner, boxes, sources = self.owner[param], self.boxes[param], self._sources[param]
                if owner == self.rank:
                    awaited += [(source, boxes[source].shape) for source in sources if source != owner]
                elif self.rank in sources:
                    letters.append((owner, parts[param].to(param.dtype)))
            like = torch.empty(0, dtype=params[0].dtype, device=params[0].device)
            received = iter(self._exchange(letters, awaited, like))  # type: ignore[arg-type]  # they have owners
            for param in (param for param in params if self.owner[param] == self.rank):
                boxes, sources = self.boxes[param], self._sources[param]
                if sources == [self.rank]:
                    result[param] = parts[param]
                    continue
                result[param] = torch.empty(param.shape, dtype=param.dtype, device=param.device)
                for source in sources:
                    boxes[source].cut(result[param]).copy_(parts[param] if source == self.rank else next(received))
        return result

    def parts(
        self, params: Sequence[Tensor], wholes: Mapping[Tensor, Tensor], dtype: torch.dtype
    ) -> dict[Tensor, Tensor]:
        """Return this process's parts of tensors that the owners have."""
        result: dict[Tensor, Tensor] = {}
        for batch in _batches(params):
            letters, awaited, wanting = [], [], []
            for param in batch:
                owner, boxes = self.owner[param], self.boxes[param]
                if owner == self.rank:
                    letters += [(rank, box.cut(wholes[param])) for rank, box in enumerate(boxes) if rank != owner]
                    result[param] = boxes[owner].cut(wholes[param])
                else:
                    awaited.append((owner, boxes[self.rank].shape))
                    wanting.append(param)
            like = torch.empty(0, dtype=dtype, device=batch[0].device)
            result.update(zip(wanting, self._exchange(letters, awaited, like), strict=True))  # type: ignore[arg-type]  # as above
        return result

    def total(self, table: Tensor) -> Tensor:
        """Return the sum of a table over the processes."""
        table = table.clone()
        dist.all_reduce(table, group=self.group)
        self.sent += table.numel() * table.element_size()
        return table

    def _exchange(
        self, letters: Sequence[tuple[int, Tensor]], awaited: Sequence[tuple[int, Sequence[int]]], like: Tensor
    ) -> list[Tensor]:
        self.sent += sum(tensor.numel() for _, tensor in letters) * like.element_size()
        return exchange(letters, awaited, like, self.group)


def _placed_as(param: Any, gradient: Any) -> Tensor:
    """Return the part that lies here of a gradient, sharded as its parameter is."""
    return part_here(gradient.redistribute(placements=param.placements))


def _sources(boxes: list[Box], owner: int) -> list[int]:
    """Return the processes whose parts make up the whole, each part once: those nearest to the owner."""
    chosen: dict[Box, int] = {}
    for step in range(len(boxes)):
        rank = (owner + step) % len(boxes)
        if boxes[rank].numel and boxes[rank] not in chosen:
            chosen[boxes[rank]] = rank
    return sorted(chosen.values())


def _batches(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield parameters of one dtype at a time, few enough that the buffers of an exchange stay small."""
    by_dtype: dict[tuple[str, str], list[Tensor]] = {}
    for param in params:
        by_dtype.setdefault((str(param.dtype), param.device.type), []).append(param)
    for alike in by_dtype.values():
        batch: list[Tensor] = []
        entries = 0
        for param in alike:
            if batch and entries + param.numel() > _ROOM:
                yield batch
                batch, entries = [], 0
            batch.append(param)
            entries += param.numel()
        if batch:
            yield batch
