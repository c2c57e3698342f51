"""One step of all slabs: what the processes must agree on, who moves what, and when."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Distributor, Duty, Method
from precond.distributors.part import part_here
from precond.optim.checks import dense
from precond.optim.layout import Layout
from precond.optim.replay import Further, Seen
from precond.optim.slab import Slab
from precond.optim.slab_state import working_dtype
from precond.optim.trust import trusted_devices
from precond.optim.walk import Contribution, Heading, Walk, Walker
from precond.optim.whole_step import SMALL


class Journey:
    """One step: gradients are agreed on and made whole, slabs walk, and all parts of the parameters move.

    Args:
        layout: Who works on what.
        groups: The parameter groups.
        distributor: Where the parameters live.
        walker: Walks the slabs.
    """

    def __init__(
        self, layout: Layout, groups: Sequence[dict[str, Any]], distributor: Distributor, walker: Walker
    ) -> None:
        self.layout = layout
        self.groups = groups
        self.distributor = distributor
        self.walker = walker
        self._held: dict[Tensor, Tensor] = {}
        self._leaving: list[Heading] = []
        self._small: dict[tuple[int, int, float, torch.dtype, torch.device], list[Heading]] = {}

    def take(self, seen: Seen) -> None:
        """Take the step.

        Args:
            seen: What this process evaluated beside the gradients that its parameters carry.
        """
        layout = self.layout
        slabs, params = self._rush()
        if not slabs:
            return
        seen = self._collect(seen, params)
        waiting: dict[tuple[int, int], list[tuple[Walk, Contribution]]] = {}
        for slab in slabs:
            walk = self.walker.advance(slab, self.groups[slab.group], seen)
            contribution = self._follow(walk, None)
            if contribution is not None:  # the slab waits for what the others contribute
                waiting.setdefault((slab.group, id(slab.method)), []).append((walk, contribution))
        for key, params in layout.agreeing.items():
            walks = waiting.get(key, [])
            for _ in range(layout.methods[params[0]].agreements):
                walks = self._agree(params, walks)
        for alike in self._small.values():
            self._move(
                [param for heading in alike for param in heading.params],
                [direction for heading in alike for direction in heading.directions],
                alike[0].factor,
            )
        self._deliver()

    def _rush(self) -> tuple[Sequence[Slab], Sequence[Tensor]]:
        """Let the slabs go that need neither others nor one another; return those that are left, and what they hold."""
        layout, groups = self.layout, self.groups
        if self.distributor.alone:  # several processes agree on what is finite
            self.walker.trusted = trusted_devices(layout.elsewhere) if layout.elsewhere else frozenset()
        if not self.distributor.alone or layout.clips:
            return layout.slabs, layout.params
        left = [slab for convoy in layout.convoys for slab in self.walker.rush(convoy, groups[convoy.slabs[0].group])]
        return left, [param for slab in left for param in slab.params]

    def _collect(self, seen: Seen, params: Sequence[Tensor]) -> Seen:
        """Return all that is worked on here of some parameters, once the processes have agreed on it."""
        layout, distributor = self.layout, self.distributor
        if layout.needs_loss:
            seen = dataclasses.replace(seen, loss=distributor.average(seen.loss))
        agreed = distributor.agree(params)
        self.walker.leave_out(agreed.dropped)
        self._held = {param: distributor.held(param) for param in agreed.parts}
        further = {need: _held_parts(found) for need, found in seen.further.items()}
        if layout.clips:
            norm = distributor.norm({param: dense(part) for param, part in agreed.parts.items()})
            seen = dataclasses.replace(seen, norm=norm)
            further = {
                need: Further(found.gradients, distributor.norm(found.gradients)) for need, found in further.items()
            }
        parts = agreed.parts.items() if layout.owned else ()
        away = {param: part for param, part in parts if layout.duties[param] is not Duty.HOLDER}
        if not away:
            return dataclasses.replace(seen, gradients=agreed.parts, weights=self._held, further=further)
        here = {param: part for param, part in agreed.parts.items() if param not in away}
        weights = {param: self._held[param] for param in here}
        read = {param: self._held[param] for param in away if self._reads_weights(param)}
        weights |= distributor.whole(read) if read else {}
        for need, found in further.items():
            wanted = {param: found.gradients[param] for param in away if need in layout.methods[param].needs}
            further[need] = Further({**found.gradients, **distributor.whole(wanted)}, found.norm)
        gradients = here | distributor.whole(away)
        return dataclasses.replace(seen, gradients=gradients, weights=weights, further=further)

    def _reads_weights(self, param: Tensor) -> bool:
        decay = self.layout.methods[param].decay
        return (
            decay is not None and decay.reads_weights and bool(self.groups[self.layout.groups[param]]["weight_decay"])
        )

    def _follow(self, walk: Walk, answer: Tensor | None) -> Contribution | None:
        """Let a slab go on; return what it wants to be combined, or ``None`` where it has arrived."""
        try:
            return next(walk) if answer is None else walk.send(answer)
        except StopIteration as end:
            heading: Heading | None = end.value
        if heading is None:
            return None
        first = heading.params[0]
        if self.layout.duties[first] is not Duty.HOLDER:
            self._leaving.append(heading)
        elif len(heading.params) * heading.directions[0].numel() > SMALL:
            self._move(heading.params, heading.directions, heading.factor)
        else:  # all that move alike in one call
            key = (self.layout.groups[first], id(self.layout.methods[first]), heading.factor, first.dtype, first.device)
            self._small.setdefault(key, []).append(heading)
        return None

    # --- agreeing -----------------------------------------------------------------------------------------------

    def _agree(
        self, params: Sequence[Tensor], walks: Sequence[tuple[Walk, Contribution]]
    ) -> list[tuple[Walk, Contribution]]:
        """Combine what parameters contribute, also in other processes; return the slabs that then contribute again."""
        duties = self.layout.duties
        owned = [param for param in params if duties[param] is not Duty.HOLDER]
        parts = [given.values.double() for _, given in walks if duties[given.params[0]] is Duty.HOLDER]
        parts += self._pool(owned, [given for _, given in walks if duties[given.params[0]] is not Duty.HOLDER])
        if not walks:
            return []
        combined = walks[0][1].combine(torch.cat([part.to(parts[0].device) for part in parts]))
        further = [(walk, self._follow(walk, combined.to(given.values))) for walk, given in walks]
        return [(walk, contribution) for walk, contribution in further if contribution is not None]

    def _pool(self, owned: Sequence[Tensor], given: Sequence[Contribution]) -> list[Tensor]:
        """Return what the owners of some parameters contribute, in the same order in all processes."""
        if not owned:
            return []
        values: dict[Tensor, Tensor] = {}
        for contribution in given:  # several numbers for each parameter, one parameter after the other
            values |= dict(zip(contribution.params, contribution.values.chunk(len(contribution.params)), strict=True))
        held = torch.tensor([[len(values[param]) if param in values else 0.0] for param in owned], dtype=torch.float64)
        counts = self.distributor.pool(owned, held.to(owned[0].device)).to(torch.int64)[:, 0].tolist()
        table = torch.zeros(len(owned), max(counts), dtype=torch.float64, device=owned[0].device)
        for row, param in enumerate(owned):
            if param in values:
                table[row, : counts[row]] = values[param]
        table = self.distributor.pool(owned, table)
        return [table[row, :count] for row, count in enumerate(counts)]

    # --- moving -------------------------------------------------------------------------------------------------

    def _move(self, params: Sequence[Tensor], updates: Sequence[Tensor], factor: float) -> None:
        """Move what is held of parameters of one group and method as far as the learning rate says; let them decay."""
        method, group = self.layout.methods[params[0]], self.groups[self.layout.groups[params[0]]]
        move(
            [self._held[param] for param in params], list(updates), group["lr"] * factor, method, group["weight_decay"]
        )

    def _deliver(self) -> None:
        """Tell all processes the directions of what they hold of owned parameters, and move it."""
        owned = self.layout.owned
        if not owned:
            return
        rows = {param: row for row, param in enumerate(owned)}
        wholes: dict[Tensor, Tensor] = {}
        table = torch.zeros(len(owned), 3, dtype=torch.float64)  # whether it moves, by which factor, gradients absorbed
        for slab in self.layout.slabs:
            for param, steps in zip(slab.params, slab.steps, strict=True):
                if param in rows:
                    table[rows[param], 2] = steps
        for heading in self._leaving:
            for param, direction in zip(heading.params, heading.directions, strict=True):
                wholes[param] = direction
                table[rows[param], 0], table[rows[param], 1] = 1.0, heading.factor
        table = self.distributor.pool(owned, table.to(owned[0].device)).cpu()
        factors = {param: factor for param, (moves, factor, _) in zip(owned, table.tolist(), strict=True) if moves}
        for param, steps in zip(owned, table[:, 2].tolist(), strict=True):
            if param in self.layout.counts:
                self.layout.counts[param].fill_(int(steps))
        self._keep_time(factors)
        alike: dict[tuple[int, int, float, torch.dtype], list[Tensor]] = {}
        for param, factor in factors.items():
            key = (self.layout.groups[param], id(self.layout.methods[param]), factor, param.dtype)
            alike.setdefault(key, []).append(param)
        updates: dict[Tensor, Tensor] = {}
        for dtype in sorted({working_dtype(param.dtype) for param in factors}, key=str):
            moving = [param for param in factors if working_dtype(param.dtype) is dtype]
            updates.update(zip(moving, self.distributor.parts(moving, wholes, dtype), strict=True))
        for (_, _, factor, _), params in alike.items():
            self._move(params, [updates[param] for param in params], factor)

    def _keep_time(self, moved: Mapping[Tensor, float]) -> None:
        """Count the step in slabs whose members all stayed, while parameters like them went on in other processes."""
        for slab in self.layout.slabs:
            stayed = not any(param in moved for param in slab.params)
            if (
                self.layout.duties[slab.params[0]] is Duty.OWNER
                and stayed
                and any(param in moved for param in slab.kin)
            ):
                slab.pass_by()


def _held_parts(found: Further) -> Further:
    """Return what this process holds of gradients, which may be sharded."""
    parts = {param: part_here(value) for param, value in found.gradients.items()}
    return Further(parts, found.norm)


def move(weights: list[Tensor], updates: list[Tensor], rate: float | Tensor, method: Method, decay: float) -> None:
    """Take ``w <- w - rate u`` in place, and let the weights decay where the method says so."""
    if method.decay is None:
        updates = [update.to(weight.dtype) for weight, update in zip(weights, updates, strict=True)]
        torch._foreach_add_(weights, updates, alpha=-float(rate))
    else:
        method.decay.move(weights, updates, rate, decay)
