"""The torch optimizer driver: runs any `Method` (or `Route` of methods) as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from precond.core import BadInputError, Distributor, Method, Need, Route, Work
from precond.distributors.choose import choose
from precond.math.machine.heap import keep_freed_memory
from precond.optim.adjustable import Adjustable
from precond.optim.checks import (
    AGAIN,
    check_batches,
    check_closure,
    check_gradients,
    check_keys,
    check_method,
    check_parameter,
    check_rate,
    check_saved_groups,
    check_shapes,
    check_there,
)
from precond.optim.journey import Journey
from precond.optim.layout import Layout, lay_out, named, renewed
from precond.optim.plan import Plan
from precond.optim.replay import Replay, unscaled
from precond.optim.resting import bytes_of, fill
from precond.optim.rules import Rule
from precond.optim.saving import as_saved, matched_by_name, warn_of_lacking
from precond.optim.seeing import look
from precond.optim.slab import Slab
from precond.optim.walk import Walker


class Optimizer(torch.optim.Optimizer):
    """Trains a network with a `Method`.

    One step does, for each slab of equal-shaped parameters: estimator, observe, [refresh], momentum, apply, smoothing,
    move, [refresh]. Half-precision gradients are worked on in float32. A parameter without a gradient, or with one that
    is not finite, or whose squares are not, is left alone, its state too; the latter is counted in ``work.skipped`` and
    reported once. A refresh that fails keeps the last good factor, is counted in ``work.refresh_failures`` and in the
    parameter's own state (``failures``), and reported once.

    The state of a parameter has dotted names (``preconditioner.second_moment``), so that ``state_dict`` does not
    depend on the layout; a run resumed from it continues bit for bit on the CPU.

    Args:
        params: Parameters, named parameters, or parameter groups as for any torch optimizer, or what
            `precond.optim.groups_for` made of a network. A group may carry its own ``"method"``, and the ``"role"``
            of its tensors.
        method: The method, or a route that chooses one by name and shape; or a recipe some of whose numbers each group
            may have of its own (`Adjustable`). May be left out where every group has one.
        lr: Learning rate, per group; schedulers act on it.
        weight_decay: Decay factor, per group; what it multiplies is the method's ``decay``.
        distributor: Where the parameters live and who computes them: ``"auto"`` for DTensors and for parameters that
            this process has alone, ``DataParallel()`` for copies in several processes.
        compile: Compile the work between refreshes with `torch.compile`, at the first steps of each slab; a string
            names the backend, ``True`` stands for ``"inductor"``. Results agree to rounding. Nothing is compiled again
            when the learning rate, the decay or the refresh interval change, or when gradients are missing; but it is
            when a group gets another momentum. Not compiled are steps that are one fused kernel already, refreshes,
            states that rest in fewer bits, methods of all parameters as one vector, and preconditioners that draw or
            decide by what tensors hold (PSGD, EFCP): there the argument changes nothing.

    Attributes:
        work: Counted work: applies, refreshes (with their seconds), failures, skipped gradients.
    """

    def __init__(
        self,
        params: Any,
        method: Method | Route | Adjustable | None = None,
        *,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.0,
        distributor: Distributor | Literal["auto"] = "auto",
        compile: bool | str = False,  # as `torch.compile` is called
    ) -> None:
        if not (isinstance(compile, bool | str) or callable(compile)):
            raise BadInputError(f"compile must be True, False or a backend of torch.compile, not {compile!r}")
        self._backend = "inductor" if compile is True else (compile or None)
        if isinstance(params, nn.Module):
            raise BadInputError("give model.parameters(), or groups_for(model), rather than the model")
        check_rate("lr", lr)
        check_rate("weight_decay", weight_decay)
        choose(distributor, [])
        self.work = Work()
        self._ruled: list[tuple[dict[str, Any], Rule]] = []
        self._default = method
        self._needs = Need.NOTHING
        self._distributor = distributor
        self._layout: Layout | None = None
        self._plan: Plan | None = None
        self._known: set[int] = set()
        self._members: list[list[int]] = []
        self._reported: set[str] = set()
        own = method.defaults if isinstance(method, Adjustable) else {}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **own})
        keep_freed_memory()
        if self.distributor.eager and not any(param.is_meta for param in self._params()):
            self._build()  # so that a checkpoint can be loaded into what is there
        else:
            self._plan = Plan.of(self.param_groups, self._rules, self.distributor, self._backend)

    # --- building -----------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as for any torch optimizer; a ``"method"`` in it overrides the optimizer's own."""
        param_group = dict(param_group)
        check_keys(param_group, signature(type(self)).parameters, {"params", "method", *self.defaults})
        rule = Rule.of(param_group, self._default)
        param_group.pop("method", None)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for name, param in named(group):
                check_parameter(name, param)
                chosen = rule.method_for(name, param)
                check_method(chosen)
                check_batches(self._needs | chosen.needs)
                self._needs |= chosen.needs
        except Exception:
            self.param_groups.pop()
            raise
        self._ruled.append((group, rule))
        self._layout = self._plan = None

    @property
    def _rules(self) -> list[Rule]:
        """The rule of each group that is there; groups may be taken out by hand."""
        rules = {id(group): rule for group, rule in self._ruled}
        if not all(id(group) in rules for group in self.param_groups):
            raise BadInputError("a parameter group was put in by hand, which has no method: use add_param_group")
        return [rules[id(group)] for group in self.param_groups]

    @property
    def distributor(self) -> Distributor:
        """Where the parameters live and who computes them."""
        if not isinstance(self._distributor, Distributor):
            self._distributor = choose(self._distributor, self._params())
        return self._distributor

    @property
    def _slabs(self) -> list[Slab]:
        return [] if self._layout is None else self._layout.slabs

    def _build(self) -> Layout:
        """Lay out the slabs anew, keeping the states that the parameters have."""
        distributor = self.distributor
        check_gradients(self._params())
        layout = self._planned()
        if layout is None:
            layout = lay_out(self.param_groups, self._rules, self.state, distributor, self._backend)
        fill(layout, self.state, distributor)
        known = layout.params if distributor.eager else [param for slab in layout.slabs for param in slab.params]
        self._layout, self._known, self._members = layout, {id(param) for param in known}, self._grouped()
        return layout

    def _grouped(self) -> list[list[int]]:
        """Which parameters each group has, by identity."""
        return [list(map(id, group["params"])) for group in self.param_groups]

    def _planned(self) -> Layout | None:
        """Return the layout that was made at construction, if it serves now; it serves once."""
        plan, self._plan = self._plan, None
        changed = renewed(self.param_groups, self._rules, {} if plan is None else plan.methods)
        return None if plan is None or any(self.state.values()) else plan.layout(self.param_groups, changed)

    def _current_layout(self) -> Layout:
        layout = self._layout
        if layout is None:
            check_there(self._params())
            return self._build()
        if layout.moved() or self._grouped() != self._members:
            check_shapes(layout.reshaped(), self.state)
            return self._build()
        changed = renewed(self.param_groups, self._rules, layout.methods)
        if changed and not layout.follow(changed):
            return self._build()
        return self._build() if any(self._joins(group["params"]) for group in self.param_groups) else layout

    def _joins(self, params: Sequence[Tensor]) -> bool:
        """Whether a parameter without a state needs one now."""
        if self._known.issuperset(map(id, params)):
            return False
        eager = self.distributor.eager
        new = [param for param in params if id(param) not in self._known and param.numel()]
        return any(param.requires_grad if eager else param.grad is not None for param in new)

    # --- stepping -----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Zeroes the gradients, evaluates the model, calls ``backward`` and returns the loss. Needed only by
                methods that need the loss, or the gradient of the same batch at other weights. Under a
                `torch.amp.GradScaler`, let these scale the loss before ``backward``, call the closure once, and then
                ``scaler.step(optimizer, closure)``.

        Returns:
            What the closure returned, or ``None``.
        """
        given = () if closure is None else (closure,)
        if self._watched:
            return self._shown_step(*given)
        if torch.is_inference_mode_enabled():  # what a step leaves behind must serve the next one, anywhere
            with torch.inference_mode(False):
                return self.step(*given)
        with torch.no_grad():
            return self._step(*given)

    step.hooked = True  # type: ignore[attr-defined]  # torch need not wrap it: hooks are called, and profilers told

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure is None:
            if self._needs and self.replays:
                check_closure(self._needs)
        elif hasattr(self, "found_inf"):  # a GradScaler sets this and the scale for the step
            if float(self.found_inf):
                return None
            closure = unscaled(closure, self._params(), getattr(self, "grad_scale", None))
        replay = None if closure is None else Replay(closure, self._params(), self.work, again=self.replays)
        layout = self._current_layout()
        seen = look(replay, self._needs, self.state, layout.slabs, self.param_groups)
        walker = Walker(self.work, self._reported)
        Journey(layout, self.param_groups, self.distributor, walker).take(seen)
        return None if replay is None else replay.value

    _shown_step = torch.optim.Optimizer.profile_hook_step(torch.inference_mode(False)(torch.no_grad()(_step)))

    @property
    def _watched(self) -> bool:
        """Whether a profiler is at work or somebody has hooks on steps: telling them takes a fifth of a small step."""
        hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        return bool(hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks or _profiler_enabled())

    @property
    def replays(self) -> bool:
        """Whether a step calls its closure more than once: for the same batch, or for another (`Need.ANOTHER`)."""
        return bool(AGAIN & self._needs)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` is to leave the gradients scaled: where the closure computes them anew."""
        return bool((Need.LOOKBACK | Need.PROBE | Need.LOSS) & self._needs)

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    # --- saving -------------------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` saved, in the precision it was saved in.

        What groups may have of their own (the learning rate, ``betas``) is taken from it, as by torch's optimizers;
        all else is as the constructor was told. Parameters are matched by name when both sides were given named
        parameters; by position where there are no names, or other ones.

        Args:
            state_dict: What `state_dict` returned.

        Raises:
            BadInputError: A state has the shape of another parameter, or of other settings; or a group has the options
                of another optimizer. What a state lacks is logged.
        """
        seen: dict[str, Any] = {}
        rules = self._rules

        def capture(_: Any, given: dict[str, Any]) -> dict[str, Any]:
            seen.update(matched_by_name(given, self.param_groups))
            check_saved_groups(seen["param_groups"], self.param_groups, signature(type(self)).parameters, self.defaults)
            return seen

        handle = self.register_load_state_dict_pre_hook(capture)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        self._ruled = list(zip(self.param_groups, rules, strict=True))
        for param, values in as_saved(seen, self.param_groups):
            self.state[param] = values
        loaded = {param: set(state) for param, state in self.state.items() if state}
        self._layout = None
        self._build()
        warn_of_lacking(loaded, self.state)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling and copying need; slabs are rebuilt."""
        kept = ("work", "_ruled", "_default", "_needs", "_reported", "_distributor", "_backend")
        own = {name: getattr(self, name) for name in kept}
        return {**super().__getstate__(), **own, "_layout": None, "_plan": None, "_known": set(), "_members": []}

    def state_bytes(self) -> int:
        """Return the bytes that the optimizer's state takes now."""
        return bytes_of(self._slabs, self.state)
