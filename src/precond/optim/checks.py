"""What the optimizer refuses, before any work and with a remedy."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Factor, IncompatibleError, Method, Need, Shared

_SCALED = ". Under a GradScaler call the closure once, then scaler.step(optimizer, closure)"
_SAME_BATCH = Need.LOOKBACK | Need.PROBE
AGAIN = _SAME_BATCH | Need.ANOTHER
"""What takes more than one evaluation a step."""
_PROVIDED = Need.GRADIENT | Need.PREVIOUS | Need.LOSS | Need.SIGNS | AGAIN


def dense(gradient: Tensor) -> Tensor:
    """Return the gradient, which must be strided."""
    if gradient.layout is not torch.strided:
        raise BadInputError("sparse gradients are not supported: build the embedding with sparse=False")
    return gradient


def check_gradients(params: Sequence[Tensor]) -> None:
    """Refuse gradients that do not fit, all of them before any parameter moves."""
    for param in params:
        if param.grad is not None and dense(param.grad).shape != param.shape:
            raise BadInputError(
                f"a parameter of shape {tuple(param.shape)} has a gradient of shape {tuple(param.grad.shape)}, from "
                "before it was resized: call zero_grad and evaluate the model again"
            )


def is_flat_shard(param: Tensor) -> bool:
    """Whether a parameter is a piece of a flat vector of parameters, or such a vector, by the marks of its makers."""
    marked = any(getattr(param, mark, False) for mark in ("_is_flat_param", "_fsdp_flattened"))
    return marked or hasattr(param, "ds_id") or type(param).__name__ == "FlatParameter"


def check_parameter(name: str, param: Tensor) -> None:
    """Refuse a parameter that is not of real floating-point numbers."""
    if is_flat_shard(param):
        raise BadInputError(
            f"parameter {name or tuple(param.shape)} is a flat shard, as FullyShardedDataParallel (with "
            "use_orig_params, too) and ZeRO stage 3 make them, and does not tell the shape of what it is a piece of: "
            "shard the model with torch.distributed.fsdp.fully_shard"
        )
    if not param.is_floating_point():
        raise BadInputError(
            f"parameter {name or tuple(param.shape)} has dtype {param.dtype}; real floating-point parameters are "
            "needed (view complex ones with torch.view_as_real)"
        )


def check_there(params: Sequence[Tensor]) -> None:
    """Refuse to train parameters of which none has values: steps would go by without a trace."""
    if params and all(param.is_meta for param in params):
        raise BadInputError(
            "all parameters are on the meta device: give the model memory first and make the optimizer afterwards, "
            "since model.to_empty and load_state_dict(assign=True) put new parameters in their place"
        )


def check_shapes(reshaped: Iterable[tuple[Tensor, torch.Size]], states: Mapping[Tensor, Any]) -> None:
    """Refuse to go on with the state of a parameter that has another shape now: kernels would write past its end."""
    for param, shape in reshaped:
        if any(value.dim() for value in states.get(param, {}).values()):
            raise BadInputError(
                f"a parameter of shape {tuple(shape)} has shape {tuple(param.shape)} now, and its state cannot follow: "
                "'del optimizer.state[parameter]' lets it start anew and keeps the others"
            )


def check_method(method: Method) -> None:
    """Refuse a method that needs what training steps do not provide."""
    missing = method.needs & ~_PROVIDED
    if missing or not isinstance(method.step, Factor | Shared):
        what = missing.name or type(method.step).__name__
        raise IncompatibleError(
            f"this method needs {what}, which training steps do not provide; use precond.minimize for it"
        )


def check_batches(needs: Need) -> None:
    """Refuse methods of which one evaluates a batch again and another one the next batch: there is one closure."""
    if Need.ANOTHER in needs and needs & _SAME_BATCH:
        raise IncompatibleError(
            "of the methods of one optimizer, one evaluates the same batch twice in a step and one two batches, which "
            "no closure can do: give their parameters to two optimizers, or take the forms that need gradients alone"
        )


def check_closure(needs: Need) -> None:
    """Refuse a step without a closure if the methods need one."""
    if Need.LOOKBACK in needs:
        raise IncompatibleError(
            "this method evaluates each batch twice, at the current weights and at those of the step before: call "
            "step(closure) with a closure that zeroes the gradients, evaluates one and the same batch whenever it is "
            "called, calls backward and returns the loss; the approximate forms (exact=False) need none" + _SCALED
        )
    if Need.ANOTHER in needs:
        raise IncompatibleError(
            "this method takes the gradients of two batches at the same weights: call step(closure) with a closure "
            "that draws a batch whenever it is called, zeroes the gradients, evaluates it, calls backward and returns "
            "the loss; the forms that compare with the step before (independent=False) need none" + _SCALED
        )
    if Need.PROBE in needs:
        raise IncompatibleError(
            "this method probes the Hessian by evaluating each batch twice: call step(closure) with a closure that "
            "zeroes the gradients, evaluates one and the same batch whenever it is called, calls backward and returns "
            "the loss; the whitening forms of PSGD need none" + _SCALED
        )


_OF_TORCH = ("amsgrad", "maximize", "nesterov")
"""What a group of one of torch's optimizers may ask for, and what changes the method where it is heard."""


def check_keys(group: Mapping[str, Any], arguments: Iterable[str], read: Container[str]) -> None:
    """Refuse a key that would be ignored though it names an argument: others are the user's own, as in torch.

    Args:
        group: A parameter group.
        arguments: Names of arguments of the optimizer.
        read: Those that a group may have of its own.

    Raises:
        BadInputError: The group has another one of them.
    """
    for key in group.keys() & set(arguments):
        if key not in read:
            raise BadInputError(
                f"{key!r} in a parameter group would not be read: give it to the optimizer, or give the group a "
                "'method' of its own"
            )
    for key in _OF_TORCH:
        if group.get(key, False) and key not in read:
            remedy = "negate the loss" if key == "maximize" else "give the group a 'method' that does it"
            raise BadInputError(f"{key!r} in a parameter group would not be read: {remedy}")


_OF_RULES = ("role", "stack")
"""What decides, when a group is added, which form of the method each of its tensors follows."""


def check_saved_groups(
    saved: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    arguments: Container[str],
    defaults: Container[str],
) -> None:
    """Refuse the parameter groups of a checkpoint whose options would be lost, or would not be followed.

    Its numbers replace those of the groups here, so that what was saved by another optimizer takes its learning rate
    along, and leaves groups without the numbers of their own method.

    Args:
        saved: Groups of the checkpoint.
        groups: Groups here, in the same order.
        arguments: Names of arguments of the optimizer.
        defaults: Those that a group may have of its own.

    Raises:
        BadInputError: A group of the checkpoint lacks one of these, has one that would not be read, or calls its
            tensors something else.
    """
    for index, (theirs, ours) in enumerate(zip(saved, groups, strict=False)):
        lacking = [key for key in ours if key in defaults and key not in theirs]
        ignored = [key for key in theirs if key in arguments and key not in defaults and key not in ours]
        ignored += [key for key in _OF_TORCH if theirs.get(key, False) and key not in defaults]
        what = [f"lacks {key!r}" for key in lacking] + [f"has {key!r}, which is not read here" for key in ignored]
        what += [f"has {key!r}: {theirs.get(key)!r}, not {ours.get(key)!r}" for key in _differing(theirs, ours)]
        if what:
            raise BadInputError(
                f"parameter group {index} of the checkpoint {', '.join(what)}: it was saved by another optimizer, or "
                "with other settings; make the optimizer as it was then, or, to go on with this one's settings, load "
                "{'state': saved['state'], 'param_groups': optimizer.state_dict()['param_groups']}"
            )


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    def plain(value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else value or None

    return [key for key in _OF_RULES if plain(theirs.get(key)) != plain(ours.get(key))]


def check_rate(name: str, value: float | Tensor) -> None:
    """Refuse a learning rate or decay that is negative or not finite."""
    try:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise BadInputError(f"{name} must be a number, not {value!r}") from None
    if not 0.0 <= number < float("inf"):
        raise BadInputError(f"{name} must be finite and not negative, not {number}")
