"""Evaluating the batch of a step again, at other weights than the current ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from precond.core import IncompatibleError, Need, Work

_WEIGHTS = "lookback.weights"
"""Name under which a parameter's state keeps its weights of the step before."""


@dataclasses.dataclass(frozen=True)
class Further:
    """Gradients of a second evaluation in a step.

    Attributes:
        gradients: What is worked on here of each gradient.
        norm: The norm of the gradients of all parameters together, 0-d; ``None`` where no method clips.
    """

    gradients: Mapping[Tensor, Tensor]
    norm: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was evaluated in a step.

    Attributes:
        gradients: What is worked on here of each gradient.
        weights: What is worked on here of the parameters themselves, where it is at hand.
        loss: The value of the loss at the current weights, 0-d.
        probe: A random vector and its product with the Hessian for each parameter; ``None`` where no method needs it.
        norm: The norm of the gradients of all parameters together, 0-d; ``None`` where no method clips.
        further: What second evaluations found, by the need that asked for it; without those on this batch at the
            weights of the step before (`Need.LOOKBACK`) in the first step.
    """

    gradients: Mapping[Tensor, Tensor] = dataclasses.field(default_factory=dict)
    weights: Mapping[Tensor, Tensor] = dataclasses.field(default_factory=dict)
    loss: Tensor | None = None
    probe: Mapping[Tensor, tuple[Tensor, Tensor]] | None = None
    norm: Tensor | None = None
    further: Mapping[Need, Further] = dataclasses.field(default_factory=dict)


NOTHING_SEEN = Seen()
"""Where there is no closure."""


def clipped(gradient: Tensor, limit: float | None, norm: Tensor | None) -> Tensor:
    """Return gradients scaled so that those of all parameters have at most the norm ``limit`` together."""
    if limit is None or norm is None:
        return gradient
    return gradient * (limit / norm.clamp(min=limit)).to(gradient)


class Replay:
    """The batch of one step, as its closure evaluates it.

    Whatever a further evaluation does is undone afterwards, even where the closure raises: weights and gradients, and
    with `gradients` random number generators, are as the evaluation at the current weights left them. `gradients` draws
    the random numbers anew that this evaluation drew, so that dropout masks agree. What the closure changes beyond that
    (running statistics of batch norm, counters of its own) is changed by every evaluation; a closure that draws the
    next batch itself is for `another` alone.

    Args:
        closure: Zeroes the gradients, evaluates the model, calls ``backward`` and returns the loss.
        params: Every parameter of the optimizer.
        work: Where evaluations are counted.
        again: Whether a further evaluation will be asked for.

    Attributes:
        value: What the closure returned at the current weights.
        work: Where evaluations are counted.
    """

    def __init__(self, closure: Callable[[], Any], params: Iterable[Tensor], work: Work, *, again: bool) -> None:
        self._closure = closure
        self._params = list(params)
        self.work = work
        self._before = _random_states(self._params) if again else {}
        self.value = self._evaluate()

    def gradients(self, weights: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return the gradients of this batch at other weights.

        Args:
            weights: The other weights of some parameters, by parameter; the others stay at their current ones.

        Returns:
            Copies of the gradients by parameter; zero where the closure left none.
        """
        with torch.no_grad(), self._same_draws(), self._undone(list(weights)):
            for param, other in weights.items():
                param.copy_(other)
            return self._further()

    def another(self) -> dict[Tensor, Tensor]:
        """Return the gradients, at the current weights, of the batch that the closure evaluates next.

        Nothing is repeated: random numbers go on from where the first evaluation left them.

        Returns:
            Copies of the gradients by parameter; zero where the closure left none.
        """
        with torch.no_grad(), self._undone([]):
            return self._further()

    def _further(self) -> dict[Tensor, Tensor]:
        self._evaluate()
        return {param: torch.zeros_like(param) if param.grad is None else param.grad.clone() for param in self._params}

    def _evaluate(self) -> Any:
        self.work.gradients += 1
        with torch.enable_grad():
            return self._closure()

    @contextlib.contextmanager
    def _undone(self, moved: list[Tensor]) -> Iterator[None]:
        """Undo within the context: gradients, and the weights of ``moved``."""
        weights = [param.clone() for param in moved]
        grads = [(param, param.grad, None if param.grad is None else param.grad.clone()) for param in self._params]
        for param in self._params:
            param.grad = None
        try:
            yield
        finally:
            for param, weight in zip(moved, weights, strict=True):
                param.copy_(weight)
            for param, grad, values in grads:  # views of buckets are written by every backward pass
                param.grad = grad if grad is None or values is None else grad.copy_(values)

    @contextlib.contextmanager
    def _same_draws(self) -> Iterator[None]:
        """Draw within the context what the first evaluation drew, and go on afterwards from where that ended."""
        after = _random_states(self._params)
        _set_random_states(self._before)
        try:
            yield
        finally:
            _set_random_states(after)


def unscaled(closure: Callable[[], Any], params: Iterable[Tensor], scale: Tensor | None) -> Callable[[], Any]:
    """Return a closure that divides the gradients which another one leaves by a scale.

    Args:
        closure: Scales the loss before it calls ``backward``, or returns a loss whose gradients are there already.
        params: The parameters whose gradients are scaled.
        scale: By how much; ``None`` where the gradients that are there have been divided, which the closure must
            leave as they are, since the scale is not known any more.

    Returns:
        The closure.
    """
    params = list(params)

    def evaluate() -> Any:
        before = [(param.grad, 0 if param.grad is None else param.grad._version) for param in params]
        value = closure()
        for param, (gradient, version) in zip(params, before, strict=True):
            if param.grad is None:
                continue
            if scale is not None:
                param.grad.div_(scale.to(param.grad.device))
            elif param.grad is not gradient or param.grad._version != version:
                raise IncompatibleError(
                    "the closure computed scaled gradients after scaler.unscale_(optimizer): leave that call out, and "
                    "clip inside of the closure or by the method"
                )
        return value

    return evaluate


def looked_back(replay: Replay, states: Mapping[Tensor, dict[str, Any]]) -> dict[Tensor, Tensor] | None:
    """Return the gradients of this batch at the weights that `remember` kept; ``None`` if it never did."""
    weights = {param: state[_WEIGHTS] for param, state in states.items() if _WEIGHTS in state}
    return replay.gradients(weights) if weights else None


def remember(states: Mapping[Tensor, dict[str, Any]]) -> None:
    """Keep the current weights in the state of every parameter that has one, in their own dtype."""
    for param, state in states.items():
        if _WEIGHTS in state:
            state[_WEIGHTS].copy_(param.detach())
        elif state:
            state[_WEIGHTS] = param.detach().clone()


def remembered(param: Tensor, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the part of a parameter's state that `remember` wrote, on the device of the parameter."""
    return {_WEIGHTS: state[_WEIGHTS].to(param.device, param.dtype)} if _WEIGHTS in state else {}


def _random_states(params: Iterable[Tensor]) -> dict[torch.device, Tensor]:
    """Return the states of the generators from which a model with these parameters draws."""
    states = {torch.device("cpu"): torch.get_rng_state()}
    for device in {param.device for param in params if param.device.type == "cuda"}:
        states[device] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: Mapping[torch.device, Tensor]) -> None:
    for device, state in states.items():
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
