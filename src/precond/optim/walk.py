"""The way of one slab through a step: from gradients to a direction."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Health, IncompatibleError, Need, RefreshError, Shared, Work
from precond.math.norms import member_norm
from precond.optim.checks import dense
from precond.optim.convoy import Convoy
from precond.optim.core import push
from precond.optim.replay import Seen, clipped
from precond.optim.slab import Slab
from precond.optim.slab_evidence import evidence as evidence_of
from precond.optim.slab_state import SlabState, count_failures
from precond.optim.whole_step import Moved, fits, surely_finite

logger = logging.getLogger(__name__)

Walk = Generator["Contribution", Tensor, "Heading | None"]
"""The step of one slab, which returns where its members go. Wherever parameters must agree on a number
(`Method.agreements`) it stops: it yields what each member contributes, and is to be sent what the contributions of all
combine to."""


@dataclasses.dataclass(frozen=True)
class Contribution:
    """What some members of a slab contribute to the number on which all agree.

    Attributes:
        params: The parameters.
        values: What each contributes, ``[members]``.
        combine: Makes the number of the contributions of all.
    """

    params: list[Tensor]
    values: Tensor
    combine: Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Heading:
    """Where some members of a slab go.

    Attributes:
        params: The parameters.
        directions: Their directions.
        factor: What multiplies the learning rate.
    """

    params: list[Tensor]
    directions: list[Tensor]
    factor: float


class Walker:
    """Walks slabs through their steps, counts the work, and reports each kind of trouble once.

    Args:
        work: Where work is counted.
        reported: Kinds of trouble that were reported before; grows.

    Attributes:
        trusted: Devices on which all gradients of this step are known to be finite.
    """

    def __init__(self, work: Work, reported: set[str]) -> None:
        self.work = work
        self.reported = reported
        self.trusted: frozenset[torch.device] = frozenset()

    def advance(self, slab: Slab, group: dict[str, Any], seen: Seen) -> Walk:
        """Find where the parameters of one slab that have a usable gradient go; see `Walk`."""
        found = [seen.gradients.get(param) for param in slab.params]
        members = [i for i, gradient in enumerate(found) if gradient is not None]
        if not members:
            return None
        if Need.LOSS in slab.method.needs and seen.loss is None:
            raise IncompatibleError("this method needs the loss: call step(closure) with a closure that returns it")
        grads = [dense(gradient) for gradient in found if gradient is not None]
        if slab.fused is not None and all(slab.params[i] in seen.weights for i in members):
            params = [seen.weights[slab.params[i]] for i in members]
            if self._fused(slab, group, members, params, grads):
                return None
        gradient = slab.gather(grads, members)
        members, gradient = self._drop_non_finite(slab, members, gradient)
        if not members:
            return None
        gradient = clipped(gradient, slab.method.clip, seen.norm)
        new = [position for position, i in enumerate(members) if slab.steps[i] == 0]
        if slab.method.cadence.prime and new:
            members, gradient = self._prime(slab, members, gradient, new)
            if not members:
                return None
        with slab.working(None if len(members) == len(slab.params) else members) as state:
            return (yield from self._head(slab, state, members, gradient, group["weight_decay"], seen))

    def rush(self, convoy: Convoy, group: dict[str, Any]) -> list[Slab]:
        """Take the steps of a convoy as one kernel, or that of each slab, from the gradients that parameters carry.

        Args:
            convoy: The slabs.
            group: The options of their parameter group.

        Returns:
            The slabs whose step was not taken: a parameter lacks a usable gradient, or the method lacks a kernel.
        """
        if convoy.step(group["lr"], group["weight_decay"], finite=convoy.slabs[0].device in self.trusted):
            self.work.applies += len(convoy.params)
            return []
        return [slab for slab in convoy.slabs if not self._alone(slab, group)]

    def _alone(self, slab: Slab, group: dict[str, Any]) -> bool:
        """Take the step of one slab from the gradients that its parameters carry, if it is one kernel."""
        grads = None if slab.fused is None else _carried(slab)
        return grads is not None and self._fused(slab, group, list(range(len(grads))), slab.params, grads)

    def _fused(
        self,
        slab: Slab,
        group: dict[str, Any],
        members: list[int],
        params: list[Tensor],
        grads: list[Tensor],
    ) -> bool:
        """Take the step as one kernel, if there is one for the method and nothing stands against it."""
        if slab.fused is None or (slab.method.cadence.prime and any(slab.steps[i] == 0 for i in members)):
            return False
        if not fits(params, slab.dtype) or not fits(grads, slab.dtype):
            return False
        if not (slab.device in self.trusted or slab.fused.checks or surely_finite(grads)):
            return False
        everyone = len(members) == len(slab.params)
        with slab.working(None if everyone else members) as state:
            scatter = slab.pieces if everyone else functools.partial(slab.scatter, members=members)
            momentum = state.filters.get("momentum")
            moved = Moved(params, grads, scatter, state.preconditioner, momentum, state.previous)
            bad = slab.fused.run(moved, group["lr"], group["weight_decay"])
            if bad:
                self.leave_out([params[position] for position in bad])
            slab.tick(state, members, bad or ())
        self.work.applies += len(members) - len(bad or ())
        return True

    def _prime(self, slab: Slab, members: list[int], gradient: Tensor, new: list[int]) -> tuple[list[int], Tensor]:
        """Let the first evidence of some members prime their preconditioner; return the others."""
        chosen = [members[position] for position in new]
        with slab.working(None if len(chosen) == len(slab.params) else chosen) as state:
            evidence = evidence_of(slab, state, gradient[new] if len(new) < len(members) else gradient, chosen, Seen())
            health = slab.method.preconditioner.prime(state.preconditioner, evidence)
            count_failures(state.failures, health)
            self._note(slab, health)
            slab.count(state, chosen)
        rest = [position for position in range(len(members)) if position not in set(new)]
        return [members[position] for position in rest], gradient[rest]

    def _head(
        self, slab: Slab, state: SlabState, members: list[int], gradient: Tensor, decay: float, seen: Seen
    ) -> Generator[Contribution, Tensor, Heading]:
        """Return where ``members`` go, with their working state; see `Walk` for what it yields."""
        method, params = slab.method, [slab.params[i] for i in members]
        added = None
        if method.decay is not None and decay:
            raw = gradient
            reads = method.decay.reads_weights
            weights = slab.gather([seen.weights[param] for param in params], members) if reads else None
            gradient = method.decay.regularize(raw, weights, decay)
            added = None if gradient is raw else gradient - raw
        evidence = evidence_of(slab, state, gradient, members, seen, added)
        signal = push(method.estimator, state, "estimator", gradient, evidence)
        if method.clip_estimates is not None:
            norms = member_norm(signal).flatten()
            norm = yield Contribution(params, norms, torch.linalg.vector_norm)
            signal = clipped(signal, method.clip_estimates, norm)
        counted = slab.counted(members)
        if signal is not gradient or counted is not None:
            evidence = dataclasses.replace(evidence, gradient=signal, counted=counted)
        core = slab.core if state is slab.state else slab.plain
        signal = core.absorb(state, signal, evidence)

        slab.tick(state, members)
        due = slab.due(members)
        if due != [] and not method.refreshes_after:
            self._refresh(slab, state, due)
        direction = core.direct(state, signal, evidence)
        self.work.applies += direction.shape[0]

        if isinstance(method.step, Shared):
            apply = functools.partial(method.preconditioner.apply, state.preconditioner)
            given = method.step.contribute(state.rule, evidence, apply)
            combined = yield Contribution(params, given, method.step.combine)
            factors = method.step.share(state.rule, evidence, combined)
            one_each = factors.ndim == 1
            scale: Tensor | float = factors.view(-1, *(1,) * (direction.ndim - 1)) if one_each else factors
        else:
            scale = method.step.factor(state.rule, evidence, direction)  # type: ignore[attr-defined]  # a Factor
        # a number is a constant multiple of the learning rate, which weight decay sees too
        if isinstance(scale, Tensor):
            heading = Heading(params, slab.scatter(direction * scale, members), 1.0)
        else:
            heading = Heading(params, slab.scatter(direction, members), scale)
        if due != [] and method.refreshes_after:
            self._refresh(slab, state, due)
        if state.previous is not None:
            state.previous.copy_(gradient)
        return heading

    def _refresh(self, slab: Slab, state: SlabState, positions: list[int] | None) -> None:
        start = time.perf_counter()
        health = slab.refresh(state, positions)
        self.work.spend("refresh", time.perf_counter() - start)
        self.work.refreshes += state.step.shape[0] if positions is None else len(positions)
        self._note(slab, health)

    # --- survival -----------------------------------------------------------------------------------------------

    def _note(self, slab: Slab, health: Health) -> None:
        if health.failures:
            self.work.refresh_failures += health.failures
            shape = tuple(slab.params[0].shape)
            self._once(
                "refresh",
                f"a refresh failed for {health.failures} of {len(slab.params)} tensors of shape {shape} "
                f"({health.detail}); the last good factors stay in use. Further failures are counted, not logged.",
            )
        if health.hopeless:
            raise RefreshError(
                f"refreshes of tensors of shape {tuple(slab.params[0].shape)} failed too often in a row "
                f"({health.detail}): lower the learning rate, raise the damping, or tolerate more failures"
            )

    def leave_out(self, dropped: Sequence[Tensor]) -> None:
        """Count and report gradients that are not finite."""
        if dropped:
            self.work.skipped += len(dropped)
            self._once(
                "non-finite",
                f"a gradient of shape {tuple(dropped[0].shape)} is not finite, or so large that its squares are "
                "not; such parameters are left alone for the step. Further ones are counted in work.skipped, not "
                "logged.",
            )

    def _drop_non_finite(self, slab: Slab, members: list[int], gradient: Tensor) -> tuple[list[int], Tensor]:
        """Leave out members whose gradient has an entry that is not finite."""
        if slab.device in self.trusted:
            return members, gradient
        keep, gradient = slab.usable(gradient, members)
        if len(keep) < len(members):
            self.leave_out([slab.params[i] for i in members if i not in set(keep)])
        return keep, gradient

    def _once(self, kind: str, message: str) -> None:
        if kind not in self.reported:
            self.reported.add(kind)
            logger.warning(message)


def _carried(slab: Slab) -> list[Tensor] | None:
    """Return the gradients that the parameters of a slab carry, if all do."""
    grads = [param.grad for param in slab.params]
    found = [dense(gradient) for gradient in grads if gradient is not None]
    return found if len(found) == len(grads) else None
