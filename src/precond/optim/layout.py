"""Where each parameter is worked on, which parameters share a slab, and when each is refreshed."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Distributor, Duty, IncompatibleError, Method, Need, Scope, Tenant, named_tensors
from precond.optim.adjustable import skeleton
from precond.optim.checks import AGAIN
from precond.optim.convoy import Convoy, convoys
from precond.optim.flat import FlatSlab
from precond.optim.fused import fused_step
from precond.optim.rules import Rule
from precond.optim.slab import Slab
from precond.optim.slab_state import allocate, slab_room, slab_shape, working_dtype
from precond.optim.stagger import TOGETHER, phases, refresh_cost, step_cost

Key = tuple[Any, ...]
_dtype_of, _device_of, _shape_of = map(operator.attrgetter, ("dtype", "device", "shape"))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Who works on what, and when.

    Attributes:
        slabs: Slabs with fresh state of the parameters that this process works on.
        convoys: These slabs, those together that one kernel may move.
        params: All parameters that some process works on, in order.
        duties: What this process does for each of them.
        methods: The method that each follows.
        groups: The parameter group of each.
        counts: Gradients absorbed by each parameter that another process owns, 0-d.
        residents: The parameters of the slabs.
        kinds: Dtypes, devices and shapes of these, as the slabs were made for.
    """

    slabs: list[Slab]
    convoys: list[Convoy]
    params: list[Tensor]
    duties: dict[Tensor, Duty]
    methods: dict[Tensor, Method]
    groups: dict[Tensor, int]
    counts: dict[Tensor, Tensor]
    residents: list[Tensor]
    kinds: tuple[list[torch.dtype], list[torch.device], list[torch.Size]]

    def moved(self) -> bool:
        """Whether parameters of the slabs have changed dtype, device or shape since these were made."""
        return _kinds(self.residents) != self.kinds

    def reshaped(self) -> list[tuple[Tensor, torch.Size]]:
        """Return the parameters of the slabs that have changed their shape since, with what it was."""
        pairs = zip(self.residents, self.kinds[2], strict=True)
        return [(param, shape) for param, shape in pairs if param.shape != shape]

    @functools.cached_property
    def elsewhere(self) -> list[Tensor]:
        """The parameters that do not live on the processor."""
        return [param for param in self.params if param.device.type != "cpu"]

    @functools.cached_property
    def owned(self) -> list[Tensor]:
        """The parameters that some process owns for all."""
        return [param for param in self.params if self.duties[param] is not Duty.HOLDER]

    @functools.cached_property
    def agreeing(self) -> dict[tuple[int, int], list[Tensor]]:
        """The parameters that agree on a number, by group and method, in the same order in all processes."""
        result: dict[tuple[int, int], list[Tensor]] = {}
        for param, method in self.methods.items():
            if method.agreements:
                result.setdefault((self.groups[param], id(method)), []).append(param)
        return result

    def follow(self, methods: Mapping[Tensor, Method]) -> bool:
        """Let parameters follow other methods, if these differ from theirs in real numbers alone; return whether."""
        pairs = {
            (id(self.methods[param]), id(method)): (self.methods[param], method) for param, method in methods.items()
        }
        if any(skeleton(before) != skeleton(after) for before, after in pairs.values()):
            return False
        self.methods.update(methods)
        self.__dict__.pop("agreeing", None)
        for slab in self.slabs:
            if slab.params[0] in methods:
                slab.follow(methods[slab.params[0]])
        return True

    @functools.cached_property
    def clips(self) -> bool:
        """Whether a method clips the gradients of all parameters together."""
        return any(method.clip is not None for method in self.methods.values())

    @functools.cached_property
    def needs_loss(self) -> bool:
        """Whether a method needs the loss."""
        return any(Need.LOSS in method.needs for method in {id(m): m for m in self.methods.values()}.values())


def named(group: Mapping[str, Any]) -> Iterable[tuple[str, Tensor]]:
    """Return name and parameter of each parameter of a group; names are empty where there are none."""
    names = group.get("param_names") or [""] * len(group["params"])
    return zip(names, group["params"], strict=True)


def renewed(
    groups: Sequence[Mapping[str, Any]], rules: Sequence[Rule], known: Mapping[Tensor, Method]
) -> dict[Tensor, Method]:
    """Let rules follow the numbers of their groups; return the new methods of known parameters that have others."""
    changed: dict[Tensor, Method] = {}
    for group, rule in zip(groups, rules, strict=True):
        if rule.renew(group):
            changed |= {param: rule.method_for(name, param) for name, param in named(group)}
    return {param: method for param, method in changed.items() if param in known}


def lay_out(
    groups: Sequence[dict[str, Any]],
    rules: Sequence[Rule],
    states: Mapping[Tensor, Any],
    distributor: Distributor,
    backend: str | None = None,
    *,
    everyone: bool = False,
) -> Layout:
    """Place the parameters, and group those that have a gradient or a state into slabs with fresh state.

    A global method has all parameters that train from the start, once one of them has a gradient.

    Args:
        groups: Parameter groups.
        rules: Which method the parameters of each group follow.
        states: What is known of each parameter from earlier steps.
        distributor: Says where each parameter is worked on.
        backend: What compiles the work of slabs; ``None`` for nothing.
        everyone: Take all parameters that train, also those without gradient and state.

    Returns:
        The layout, with slabs in the order of their first parameters, flat ones last. Where all parameters have names,
        slabs list them in the order of these: rounding depends on the place in a batch, and a state loads into a model
        of another order. The refreshes of a method's tensors are spread over its interval. Neither slabs nor phases
        depend on which gradients are missing.
    """
    followed: dict[Tensor, Method] = {}
    home: dict[Tensor, int] = {}
    names: dict[Tensor, str] = {}
    for index, group in enumerate(groups):
        for name, param in named(group):
            trains = param.requires_grad or param.grad is not None or states.get(param)
            if param.numel() and trains:
                followed[param], home[param] = rules[index].method_for(name, param), index
                names[param] = name
    duties = distributor.place(_tenants(followed, distributor.alone))
    for param, method in followed.items():
        _check(method, duties[param], distributor)

    places: dict[Key, list[Tensor]] = {}
    count: dict[Key, int] = {}
    whole: dict[Key, list[Tensor]] = {}
    for param in sorted(followed, key=names.__getitem__) if all(names.values()) else followed:
        method = followed[param]
        if method.preconditioner.scope is Scope.GLOBAL:
            together = (home[param], id(method), param.device, working_dtype(param.dtype))
            whole.setdefault(together, []).append(param)
            continue
        like = distributor.held(param) if duties[param] is Duty.HOLDER else param
        alike = (home[param], id(method), tuple(like.shape), param.dtype, param.device, duties[param] is Duty.HOLDER)
        count[alike] = count.get(alike, -1) + 1
        room = None if fused_step(method, slab_shape(1, like)[1:]) is not None else slab_room(like)
        places.setdefault((*alike, count[alike] // (room or len(followed))), []).append(param)
    phase = _phases(places, followed)

    def present(param: Tensor) -> bool:
        return everyone or distributor.eager or param.grad is not None or bool(states.get(param))

    slabs: list[Slab] = []
    for key, kin in places.items():
        here = [param for param in kin if duties[param] is not Duty.GUEST and present(param)]
        if here:
            like = distributor.held(here[0]) if duties[here[0]] is Duty.HOLDER else here[0]
            slabs.append(Slab(here, followed[here[0]], key[0], [phase[param] for param in here], like, kin, backend))
    for key, params in whole.items():
        if any(present(param) for param in params):
            slabs.append(FlatSlab([(names[param], param) for param in params], followed[params[0]], key[0], states))
    guests = [param for param in followed if duties[param] is Duty.GUEST]
    counts = {param: torch.zeros((), dtype=torch.int64, device=param.device) for param in guests}
    residents = [param for slab in slabs for param in slab.params]
    return Layout(slabs, convoys(slabs), list(followed), duties, followed, home, counts, residents, _kinds(residents))


def _kinds(params: Sequence[Tensor]) -> tuple[list[torch.dtype], list[torch.device], list[torch.Size]]:
    return list(map(_dtype_of, params)), list(map(_device_of, params)), list(map(_shape_of, params))


def _tenants(followed: Mapping[Tensor, Method], alone: bool) -> list[Tenant]:
    """Return what a distributor must know of the parameters and their methods; to be whole matters to several only."""
    whole: dict[tuple[int, torch.Size], bool] = {}
    tenants = []
    for param, method in followed.items():
        if method.scope is Scope.GLOBAL and hasattr(param, "device_mesh"):
            raise IncompatibleError(
                f"{type(method.preconditioner).__name__} acts on all parameters as one vector, and one of them is "
                "sharded: give it whole parameters, or take a method that acts on one tensor at a time"
            )
        kind = (id(method), param.shape)
        if kind not in whole:
            whole[kind] = not alone and _sees_whole(method, param)
        by_entries = method.preconditioner.scope is Scope.ELEMENTWISE
        cost = float(param.numel()) if by_entries else step_cost(tuple(param.shape), method.cadence)
        tenants.append(Tenant(param, whole[kind], cost))
    return tenants


def _sees_whole(method: Method, param: Tensor) -> bool:
    """Whether a step cannot be taken part by part: entries interact, or the state cannot be cut along with them."""
    if method.preconditioner.scope is Scope.GLOBAL:
        return False  # every process has all parameters, and takes them as one vector
    if method.scope is not Scope.ELEMENTWISE or method.agreements:
        return True
    if method.needs & AGAIN:  # what is not finite is left out by whoever sees all of it
        return True
    shape = slab_shape(1, param)
    state = allocate(method, torch.empty(shape, device="meta"))
    return any(tensor.ndim > 1 and tuple(tensor.shape) != shape for _, tensor in named_tensors(state))


def _check(method: Method, duty: Duty, distributor: Distributor) -> None:
    if duty is Duty.HOLDER:
        return
    if Need.PROBE in method.needs:
        raise IncompatibleError(
            "this method probes the Hessian at other weights, which processes that own different tensors do not do "
            "together: let each of several copies compute everything (distributor=Local()), or take a method that "
            "needs gradients alone"
        )
    if method.agreements:
        distributor.check_united()


def _phases(places: dict[Key, list[Tensor]], followed: Mapping[Tensor, Method]) -> dict[Tensor, int]:
    """Return the phase of each parameter within the refresh interval of its method."""
    result: dict[Tensor, int] = {}
    for method in {id(m): m for m in followed.values()}.values():
        cadence = method.cadence
        units: list[tuple[list[Tensor], float]] = []
        for params in places.values():
            if followed[params[0]] is not method:
                continue
            cost = refresh_cost(tuple(params[0].shape), cadence.block)
            units += [(unit, cost * len(unit)) for unit in _in_batches(params, max(1, int(TOGETHER // cost)))]
        for (unit, _), phase in zip(units, phases([cost for _, cost in units], cadence.every), strict=True):
            result |= dict.fromkeys(unit, phase)
    return result


def _in_batches(params: Sequence[Tensor], room: int) -> list[list[Tensor]]:
    return [list(params[start : start + room]) for start in range(0, len(params), room)]
