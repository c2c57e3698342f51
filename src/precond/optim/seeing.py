"""What methods need beside gradients, from the closure of one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Need
from precond.optim.probe import probed
from precond.optim.replay import NOTHING_SEEN, Further, Replay, Seen, looked_back, remember
from precond.optim.slab import Slab


def look(
    replay: Replay | None,
    needs: Need,
    states: Mapping[Tensor, dict[str, Any]],
    slabs: list[Slab],
    groups: Sequence[dict[str, Any]],
) -> Seen:
    """Return what methods need beside gradients, and remember what the next step will need.

    Args:
        replay: The closure, which has been evaluated; ``None`` where the step has none.
        needs: What the methods need.
        states: The state of each parameter; the current weights are kept in it where the next step looks back.
        slabs: The slabs.
        groups: The parameter groups.

    Returns:
        The loss, the probe and the further gradients; the work counts the probe.
    """
    if replay is None:
        return NOTHING_SEEN
    probe = None
    further: dict[Need, Further] = {}
    loss = None if replay.value is None else torch.as_tensor(replay.value).detach()
    if Need.LOOKBACK in needs:
        before = looked_back(replay, states)
        further |= {} if before is None else {Need.LOOKBACK: Further(before)}
        remember(states)
    if Need.ANOTHER in needs:
        further[Need.ANOTHER] = Further(replay.another())
    if Need.PROBE in needs:
        probe = probed(replay, slabs, groups)
        replay.work.hvps += 1
    return Seen(loss=loss, probe=probe, further=further)
