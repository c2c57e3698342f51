"""Many small tensors between many processes in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def exchange(
    letters: Sequence[tuple[int, Tensor]],
    awaited: Sequence[tuple[int, Sequence[int]]],
    like: Tensor,
    group: Any,
) -> list[Tensor]:
    """Send tensors to other processes of a group and receive theirs, packed into one buffer for each pair.

    Every process of the group calls this, also one with nothing to send. Two processes name what goes from one to the
    other in the same order.

    Args:
        letters: Pairs of receiver (its rank in the group) and tensor.
        awaited: Pairs of sender and shape.
        like: A tensor with the dtype and device of all of them.
        group: The process group.

    Returns:
        What was received, in the order of ``awaited``.
    """
    size = dist.get_world_size(group)
    ours: list[list[Tensor]] = [[] for _ in range(size)]
    for receiver, tensor in letters:
        ours[receiver].append(tensor.reshape(-1))
    theirs: list[list[int]] = [[] for _ in range(size)]
    for sender, shape in awaited:
        theirs[sender].append(torch.Size(shape).numel())
    flat = [tensor for tensors in ours for tensor in tensors]
    outgoing = torch.cat(flat) if flat else like.new_empty(0)
    incoming = like.new_empty(sum(sum(lengths) for lengths in theirs))
    dist.all_to_all_single(
        incoming,
        outgoing,
        [sum(lengths) for lengths in theirs],
        [sum(tensor.numel() for tensor in tensors) for tensors in ours],
        group=group,
    )
    pieces = iter(incoming.split([length for lengths in theirs for length in lengths]))
    received = [[next(pieces) for _ in lengths] for lengths in theirs]
    turn = [iter(tensors) for tensors in received]
    return [next(turn[sender]).view(shape) for sender, shape in awaited]
