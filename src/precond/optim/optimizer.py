"""The torch optimizer driver: runs any `Method` (or `Route` of methods) as a ``torch.optim.Optimizer``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import (
    BadInputError,
    Factor,
    Health,
    IncompatibleError,
    Method,
    Need,
    Route,
    Scope,
    Shared,
    Work,
    named_tensors,
)
from precond.optim.fused import Moved, fits, fused_step
from precond.optim.slab import Slab, SlabState, slab_room
from precond.optim.stagger import phases, refresh_cost

logger = logging.getLogger(__name__)

_PROVIDED = Need.GRADIENT | Need.PREVIOUS | Need.LOSS


class Optimizer(torch.optim.Optimizer):
    """Trains a network with a `Method`.

    One step does, for each slab of equal-shaped parameters: estimator, observe, [refresh], momentum, apply,
    smoothing, move, [refresh]. Half-precision gradients are worked on in float32. A parameter without a gradient, or
    with one that is not finite, is left alone, its state too; the latter is counted in ``work.skipped`` and reported
    once. A refresh that fails keeps the last good factor, is counted in ``work.refresh_failures`` and reported once.

    The state of a parameter has dotted names (``preconditioner.second_moment``), so that ``state_dict`` does not
    depend on the layout; a run resumed from it continues bit for bit on the CPU.

    Args:
        params: Parameters, named parameters, or parameter groups as for any torch optimizer. A group may carry its
            own ``"method"``.
        method: The method, or a route that chooses one by name and shape.
        lr: Learning rate, per group; schedulers act on it.
        weight_decay: Decay factor, per group; what it multiplies is the method's ``decay``.

    Attributes:
        work: Counted work: applies, refreshes (with their seconds), failures, skipped gradients.
    """

    def __init__(
        self, params: Any, method: Method | Route, *, lr: float | Tensor = 1e-3, weight_decay: float = 0.0
    ) -> None:
        if not isinstance(method, Method | Route):
            raise BadInputError(
                f"method must be a Method or a Route, not {type(method).__name__}; build one with precond.recipes"
            )
        _check_rate("lr", lr)
        _check_rate("weight_decay", weight_decay)
        self.work = Work()
        self._methods: list[Method | Route] = []
        self._default = method
        self._slabs: list[Slab] | None = None
        self._known: set[int] = set()
        self._reported: set[str] = set()
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    # --- building -----------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as for any torch optimizer; a ``"method"`` in it overrides the optimizer's own."""
        param_group = dict(param_group)
        method = param_group.pop("method", self._default)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for name, param in _named(group):
                _check_parameter(name, param)
                _check_method(_method_for(method, name, param))
        except Exception:
            self.param_groups.pop()
            raise
        self._methods.append(method)
        self._slabs = None

    def _build(self) -> list[Slab]:
        """Group the parameters that have a gradient or a state into slabs, keeping the states they have."""
        places: dict[tuple[Any, ...], list[Tensor]] = {}
        methods: dict[tuple[Any, ...], Method] = {}
        count: dict[tuple[Any, ...], int] = {}
        for index, group in enumerate(self.param_groups):
            for name, param in _named(group):
                if param.numel() == 0 or (param.grad is None and not self.state.get(param)):
                    continue
                method = _method_for(self._methods[index], name, param)
                alike = (index, id(method), tuple(param.shape), param.dtype, param.device)
                count[alike] = count.get(alike, -1) + 1
                room = None if fused_step(method) is not None else slab_room(param)
                key = (*alike, count[alike] // (room or len(group["params"])))
                places.setdefault(key, []).append(param)
                methods[key] = method
        order = [(key, i) for key, params in places.items() for i in range(len(params))]
        offsets = {key: [0] * len(params) for key, params in places.items()}
        for method in {id(m): m for m in methods.values()}.values():
            mine = [(key, i) for key, i in order if methods[key] is method]
            spread = phases([refresh_cost(key[2]) for key, _ in mine], method.cadence.every)
            for (key, i), phase in zip(mine, spread, strict=True):
                offsets[key][i] = phase
        slabs = [Slab(params, methods[key], key[0], offsets[key]) for key, params in places.items()]
        for slab in slabs:
            for member, param in enumerate(slab.params):
                slab.restore(member, self.state.get(param, {}))
                self.state[param] = slab.named_views(member)
            slab.read_counters()
        self._slabs = slabs
        self._known = {id(param) for slab in slabs for param in slab.params}
        return slabs

    def _current_slabs(self) -> list[Slab]:
        slabs = self._slabs
        if slabs is None or any(slab.moved() for slab in slabs):
            return self._build()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and id(param) not in self._known and param.numel():
                    return self._build()
        return slabs

    # --- stepping -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]  # as torch's own
        """Take one step.

        Args:
            closure: Zeroes the gradients, evaluates the model, calls ``backward`` and returns the loss. Needed only by
                methods that need the loss.

        Returns:
            What the closure returned, or ``None``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        seen = None if loss is None else torch.as_tensor(loss).detach()
        waiting: dict[tuple[int, int], list[tuple[_Walk, Tensor, Shared[Any]]]] = {}
        for slab in self._current_slabs():
            walk = self._advance(slab, seen)
            contribution, rule = next(walk, None), slab.method.step
            if contribution is not None and isinstance(rule, Shared):  # the slab waits for what the others contribute
                waiting.setdefault((slab.group, id(slab.method)), []).append((walk, contribution, rule))
        for walks in waiting.values():
            _agree(walks)
        return loss

    def _advance(self, slab: Slab, loss: Tensor | None) -> _Walk:
        """Move the parameters of one slab that have a usable gradient; yields as `_move` does."""
        members = [i for i, param in enumerate(slab.params) if param.grad is not None]
        if not members:
            return
        if Need.LOSS in slab.method.needs and loss is None:
            raise IncompatibleError("this method needs the loss: call step(closure) with a closure that returns it")
        grads = [_dense(slab.params[i].grad) for i in members]
        if self._fused(slab, members, grads):
            return
        gradient = slab.gather(grads)
        members, gradient = self._drop_non_finite(slab, members, gradient)
        if not members:
            return
        new = [position for position, i in enumerate(members) if slab.steps[i] == 0]
        if slab.method.cadence.prime and new:
            members, gradient = self._prime(slab, members, gradient, new)
            if not members:
                return
        whole = len(members) == len(slab.params)
        with slab.working(None if whole else members) as state:
            yield from self._move(slab, state, members, gradient, loss)

    def _fused(self, slab: Slab, members: list[int], grads: list[Tensor]) -> bool:
        """Take the step as one kernel, if there is one for the method and nothing stands against it."""
        params = [slab.params[i] for i in members]
        if slab.fused is None or not fits(params, slab.dtype) or not fits(grads, slab.dtype):
            return False
        if not bool(torch.isfinite(torch.stack([gradient.sum() for gradient in grads])).all()):
            return False
        group = self.param_groups[slab.group]
        with slab.working(None if len(members) == len(slab.params) else members) as state:
            self._tick(slab, state, members)
            moved = Moved(params, grads, slab.scatter, state.preconditioner, state.filters.get("momentum"))
            slab.fused(moved, group["lr"], group["weight_decay"])
        self.work.applies += len(members)
        return True

    def _prime(self, slab: Slab, members: list[int], gradient: Tensor, new: list[int]) -> tuple[list[int], Tensor]:
        """Let the first evidence of some members prime their preconditioner; return the others."""
        chosen = [members[position] for position in new]
        with slab.working(None if len(chosen) == len(slab.params) else chosen) as state:
            evidence = slab.evidence(state, gradient[new] if len(new) < len(members) else gradient, [0], None)
            slab.method.preconditioner.prime(state.preconditioner, evidence)
            state.step.add_(1)
        for i in chosen:
            slab.steps[i] += 1
        rest = [position for position in range(len(members)) if position not in set(new)]
        return [members[position] for position in rest], gradient[rest]

    def _move(self, slab: Slab, state: SlabState, members: list[int], raw: Tensor, loss: Tensor | None) -> _Walk:
        """Take one step of the method with the working state of ``members``; see `_Walk` for what it yields."""
        method, group = slab.method, self.param_groups[slab.group]
        params = [slab.params[i] for i in members]
        decay, rate = group["weight_decay"], group["lr"]
        gradient = raw
        if method.decay is not None and decay:
            weights = slab.gather(params) if method.decay.reads_weights else None
            gradient = method.decay.regularize(gradient, weights, decay)
        evidence = slab.evidence(state, gradient, [slab.steps[i] for i in members], loss)
        signal = _push(method.estimator, state, "estimator", gradient, evidence)
        evidence = dataclasses.replace(evidence, gradient=signal)
        turned = slab.turned
        if turned is None:
            method.preconditioner.observe(state.preconditioner, evidence)
        else:
            signal = turned.enter(state.preconditioner, signal)
            turned.observe_within(state.preconditioner, signal, evidence)

        self._tick(slab, state, members)
        due = self._due(slab, members)
        if due != [] and not method.cadence.after:
            self._refresh(slab, state, due)
        direction = _push(method.momentum, state, "momentum", signal, evidence)
        if turned is None:
            direction = method.preconditioner.apply(state.preconditioner, direction)
        else:
            direction = turned.leave(state.preconditioner, turned.apply_within(state.preconditioner, direction))
        direction = _push(method.smoothing, state, "smoothing", direction, evidence)
        self.work.applies += len(members)

        if isinstance(method.step, Shared):
            apply = functools.partial(method.preconditioner.apply, state.preconditioner)
            combined = yield method.step.contribute(state.rule, evidence, apply)
            factors = method.step.share(state.rule, evidence, combined)
            scale: Tensor | float = factors.view(-1, *(1,) * (direction.ndim - 1))
        else:
            scale = method.step.factor(state.rule, evidence, direction)  # type: ignore[attr-defined]  # a Factor
        if isinstance(scale, Tensor):
            direction = direction * scale
        else:  # a constant multiple of the learning rate, which weight decay sees too
            rate = rate * scale
        if method.decay is None:
            updates = [u.to(slab.param_dtype) for u in slab.scatter(direction)]
            torch._foreach_add_(params, updates, alpha=-float(rate))
        else:
            method.decay.move(params, slab.scatter(direction), rate, decay)
        if due != [] and method.cadence.after:
            self._refresh(slab, state, due)
        if state.previous is not None:
            state.previous.copy_(gradient)

    def _tick(self, slab: Slab, state: SlabState, members: list[int]) -> None:
        slab.clock += 1
        state.step.add_(1)
        state.clock.fill_(slab.clock)
        for i in members:
            slab.steps[i] += 1

    def _due(self, slab: Slab, members: list[int]) -> list[int] | None:
        """Return the positions in ``members`` whose refresh is due now; ``None`` for all."""
        if not slab.method.preconditioner.refreshes:
            return []
        cadence, clock = slab.method.cadence, slab.clock
        first = 1 if not cadence.after else -1
        due = [
            position
            for position, i in enumerate(members)
            if slab.steps[i] == first or cadence.due(clock, slab.offsets[i])
        ]
        return None if len(due) == len(members) else due

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

    def _drop_non_finite(self, slab: Slab, members: list[int], gradient: Tensor) -> tuple[list[int], Tensor]:
        """Leave out members whose gradient has an entry that is not finite."""
        sums = gradient.flatten(1).sum(1)
        if bool(torch.isfinite(sums).all()):
            return members, gradient
        finite = torch.isfinite(gradient.flatten(1)).all(1).tolist()
        keep = [position for position, ok in enumerate(finite) if ok]
        if len(keep) < len(members):
            self.work.skipped += len(members) - len(keep)
            self._once(
                "non-finite",
                f"a gradient of shape {tuple(slab.params[0].shape)} is not finite; such parameters are left alone for "
                "the step. Further ones are counted in work.skipped, not logged.",
            )
            return [members[position] for position in keep], gradient[keep]
        return members, gradient

    def _once(self, kind: str, message: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            logger.warning(message)

    # --- saving -------------------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` saved, in the precision it was saved in.

        Parameters are matched by name when both sides were given named parameters, else by position.
        """
        seen: dict[str, Any] = {}

        def capture(_: Any, given: dict[str, Any]) -> dict[str, Any]:
            seen.update(_matched_by_name(given, self.param_groups))
            return seen

        handle = self.register_load_state_dict_pre_hook(capture)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for saved, group in zip(seen["param_groups"], self.param_groups, strict=True):
            for key, param in zip(saved["params"], group["params"], strict=True):
                if key in seen["state"]:  # torch casts to the parameter's dtype, which would lose precision
                    values = seen["state"][key].items()
                    self.state[param] = {name: v.to(param.device, copy=True) for name, v in values}
        self._slabs = None
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling and copying need; slabs are rebuilt."""
        own = {"work": self.work, "_methods": self._methods, "_default": self._default, "_reported": self._reported}
        return {**super().__getstate__(), **own, "_slabs": None, "_known": set()}

    def state_bytes(self) -> int:
        """Return the bytes that the optimizer's state takes now."""
        slabs = self._slabs or []
        tensors = [tensor for slab in slabs for _, tensor in named_tensors(slab.state)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


_Walk = Generator[Tensor, Tensor, None]
"""The step of one slab. For step rules on which parameters agree (`Shared`) it stops once: it yields what each member
contributes, and is to be sent what the contributions of all combine to."""


def _agree(walks: Sequence[tuple[_Walk, Tensor, Shared[Any]]]) -> None:
    """Combine what the slabs of one method contribute, and let each finish its step."""
    _, first, rule = walks[0]
    combined = rule.combine(torch.cat([part.to(first.device, torch.float64) for _, part, _ in walks]))
    for walk, contribution, _ in walks:
        with contextlib.suppress(StopIteration):
            walk.send(combined.to(contribution))


def _push(filter_: Any, state: SlabState, slot: str, v: Tensor, evidence: Any) -> Tensor:
    return v if filter_ is None else filter_.push(state.filters[slot], v, evidence)


def _named(group: dict[str, Any]) -> Iterable[tuple[str, Tensor]]:
    names = group.get("param_names") or [""] * len(group["params"])
    return zip(names, group["params"], strict=True)


def _method_for(method: Method | Route, name: str, param: Tensor) -> Method:
    return method.method_for(name, param) if isinstance(method, Route) else method


def _dense(gradient: Tensor) -> Tensor:
    if gradient.layout is not torch.strided:
        raise BadInputError("sparse gradients are not supported: build the embedding with sparse=False")
    return gradient


def _check_parameter(name: str, param: Tensor) -> None:
    if not param.is_floating_point():
        raise BadInputError(
            f"parameter {name or tuple(param.shape)} has dtype {param.dtype}; real floating-point parameters are "
            "needed (view complex ones with torch.view_as_real)"
        )


def _check_method(method: Method) -> None:
    missing = method.needs & ~_PROVIDED
    if missing or not isinstance(method.step, Factor | Shared):
        what = missing.name or type(method.step).__name__
        raise IncompatibleError(
            f"this method needs {what}, which training steps do not provide; use precond.minimize for it"
        )
    if method.preconditioner.scope is Scope.GLOBAL:
        raise IncompatibleError(
            f"{type(method.preconditioner).__name__} acts on all parameters as one vector; use precond.minimize for it"
        )


def _check_rate(name: str, value: float | Tensor) -> None:
    if not 0.0 <= float(value) < float("inf"):
        raise BadInputError(f"{name} must be finite and not negative, not {float(value)}")


def _matched_by_name(saved: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the saved dict with each group's parameters in this optimizer's order, when both have names."""
    result = {**saved, "param_groups": [dict(group) for group in saved["param_groups"]]}
    for theirs, ours in zip(result["param_groups"], groups, strict=False):
        names, wanted = theirs.get("param_names"), ours.get("param_names")
        if names and wanted and names != wanted and sorted(names) == sorted(wanted):
            key = dict(zip(names, theirs["params"], strict=True))
            theirs["params"], theirs["param_names"] = [key[name] for name in wanted], list(wanted)
    return result
