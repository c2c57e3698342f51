"""Random numbers that a counter determines, so that a run resumed from its state repeats itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def normals(steps: Sequence[int] | Tensor, like: Tensor, stream: int = 0) -> Tensor:
    """Return normal numbers shaped like ``like``; the draw of a member depends on its own counter alone.

    Args:
        steps: Counters, ``[batch]``; a tensor of another device is waited for.
        like: What the numbers are to look like, ``[batch, *shape]``.
        stream: Tells apart several draws of one step.

    Returns:
        The numbers, drawn in single precision.
    """

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape[1:], generator=generator, dtype=torch.float32, device=like.device).to(like.dtype)

    return _drawn(steps, like.device, stream, draw)


def signs(steps: Sequence[int] | Tensor, like: Tensor, stream: int = 0) -> Tensor:
    """Return random signs shaped like ``like``, in its dtype, drawn as `normals` are."""

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randint(0, 2, like.shape[1:], generator=generator, device=like.device).mul_(2).sub_(1).to(like)

    return _drawn(steps, like.device, stream, draw)


def halves(steps: Tensor, like: Tensor, stream: int = 0) -> Tensor:
    """Return integers in ``[0, 2^16)`` shaped like ``like``, in its dtype, drawn as `normals` are."""

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randint(0, 1 << 16, like.shape[1:], generator=generator, dtype=like.dtype, device=like.device)

    return _drawn(steps, like.device, stream, draw)


def _drawn(
    steps: Sequence[int] | Tensor, device: torch.device, stream: int, draw: Callable[[torch.Generator], Tensor]
) -> Tensor:
    """Return what is drawn for each counter, stacked; equal counters share a draw."""
    counters = steps.tolist() if isinstance(steps, Tensor) else steps
    drawn = {step: draw(torch.Generator(device).manual_seed(_seed(step, stream))) for step in set(counters)}
    if len(drawn) == 1:
        return drawn[counters[0]].expand(len(counters), *drawn[counters[0]].shape)
    return torch.stack([drawn[step] for step in counters])


def _seed(step: int, stream: int) -> int:
    """Return 32 bits (processors' generators use no more) that differ between nearby steps and streams.

    The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    mixed = (step * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return (mixed ^ (mixed >> 31)) % 2**32
