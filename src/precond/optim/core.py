"""The tensor work of a step between gradient and direction, as two functions that may be compiled."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from precond.core import Evidence, Method, Turned
from precond.math.machine.products import fast_products, multiplies_bfloat16
from precond.optim.fused_within import adam_within
from precond.preconditioners.rotate import Rotate

if TYPE_CHECKING:
    from precond.optim.slab_state import SlabState

Stage = Callable[["SlabState", Tensor, Evidence], Tensor]


@dataclasses.dataclass(frozen=True)
class Core:
    """What a slab does with its tensors at each step; a refresh may come between the two.

    Attributes:
        absorb: Lets the preconditioner observe; returns the signal in the coordinates in which it is averaged.
        direct: Averages the signal, preconditions it, and smooths the direction.
    """

    absorb: Stage
    direct: Stage


def plain(method: Method, turned: Turned[Any] | None, *, fuse: bool = True) -> Core:
    """Return the core of a method that runs as it is written.

    Args:
        method: The method.
        turned: Its preconditioner, if the momentum is averaged in its coordinates.
        fuse: Take what is one kernel as one kernel; compilers have their own.

    Returns:
        The core.
    """
    preconditioner = method.preconditioner
    within = adam_within(method, turned) if fuse else None
    if within is not None:
        return _within(method, turned, within)

    def absorb(state: SlabState, signal: Tensor, evidence: Evidence) -> Tensor:
        if turned is None:
            preconditioner.observe(state.preconditioner, evidence)
            return signal
        signal = turned.enter(state.preconditioner, signal)
        turned.observe_within(state.preconditioner, signal, evidence)
        return signal

    def direct(state: SlabState, signal: Tensor, evidence: Evidence) -> Tensor:
        averaged = push(method.momentum, state, "momentum", signal, evidence)
        if turned is None:
            direction = preconditioner.apply(state.preconditioner, averaged)
        else:
            direction = turned.leave(state.preconditioner, turned.apply_within(state.preconditioner, averaged))
        return push(method.smoothing, state, "smoothing", direction, evidence)

    return Core(absorb, direct)


def _within(method: Method, turned: Turned[Any] | None, adam: Callable[[Any, Any, Tensor], Tensor]) -> Core:
    """Return the core of a method that is Adam, perhaps in the coordinates of a basis."""

    def absorb(state: SlabState, signal: Tensor, evidence: Evidence) -> Tensor:
        if not isinstance(turned, Rotate):
            return signal
        signal = turned.enter(state.preconditioner, signal)
        turned.basis.observe(state.preconditioner.basis, evidence, signal)
        return signal

    def direct(state: SlabState, signal: Tensor, evidence: Evidence) -> Tensor:
        direction = adam(state.preconditioner, state.filters["momentum"], signal)
        direction = direction if turned is None else turned.leave(state.preconditioner, direction)
        return push(method.smoothing, state, "smoothing", direction, evidence)

    return Core(absorb, direct)


def compiled(core: Core, method: Method, device: torch.device, backend: str) -> Core:
    """Return a core whose stages are compiled for one slab, at its first step.

    A preconditioner that no compiler can follow (`Traits.traceable`) leaves its core as it is, since torch would cut it
    into a graph for each piece. Learning rates, decay and cadence are no part of the stages, so that they may change.
    Statistics that absorb some gradients alone (`Cadence.statistics`) make another graph of each choice, so that stage
    then stays as it is. When some gradients of the slab are missing, the driver takes the plain core, whose work has no
    fixed shapes.

    Args:
        core: The plain core.
        method: Its method.
        device: Where the slab lives.
        backend: For `torch.compile`.

    Returns:
        The core.
    """
    if not method.preconditioner.traits.traceable:
        return core
    multiplies_bfloat16(device)  # found out once, outside of any graph

    def compile_(stage: Stage) -> Stage:
        made: Stage = torch.compile(_own(stage), backend=backend, dynamic=False)

        def run(state: SlabState, signal: Tensor, evidence: Evidence) -> Tensor:
            with fast_products(signal, signal.numel() * max(signal.shape[1:])):  # no graph holds such a context
                return made(state, signal, evidence)

        return run

    absorb = compile_(core.absorb) if method.cadence.statistics == 1 else core.absorb
    return Core(absorb, compile_(core.direct))


def _own(stage: Stage) -> Stage:
    """Return a copy with a code object of its own: compilers keep few graphs for each, and each slab has its shapes."""
    assert isinstance(stage, types.FunctionType)
    code = stage.__code__.replace()
    return types.FunctionType(code, stage.__globals__, stage.__name__, stage.__defaults__, stage.__closure__)


def push(filter_: Any, state: SlabState, slot: str, v: Tensor, evidence: Evidence) -> Tensor:
    """Return ``v`` through the filter of a slot; as it is where the slot is empty."""
    return v if filter_ is None else filter_.push(state.filters[slot], v, evidence)
