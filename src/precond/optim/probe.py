"""Probes of the Hessian in training: what a second gradient on the same batch tells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from precond.core import Need
from precond.math.draws import normals
from precond.optim.replay import Replay
from precond.optim.slab import Slab


def probed(replay: Replay, slabs: Sequence[Slab]) -> dict[Tensor, tuple[Tensor, Tensor]] | None:
    """Return a random vector and its product with the Hessian for each parameter that has a gradient.

    The product is ``(g(w + t v) - g(w)) / t`` with ``t = eps^(1/2)``, where ``v`` is what is left of a normal draw when
    ``w + t v`` has been rounded to the precision of the parameter. What is drawn depends on the steps that a slab has
    taken and on the parameter's number, so that a run which is resumed repeats itself.

    Args:
        replay: The batch of this step, as evaluated.
        slabs: All slabs; those of methods that need probes are moved, all at once.

    Returns:
        Pairs by parameter; ``None`` if nobody has a gradient.
    """
    moved: dict[Tensor, Tensor] = {}
    drawn: dict[Tensor, Tensor] = {}
    before: dict[Tensor, Tensor] = {}
    for slab in (slab for slab in slabs if Need.PROBE in slab.method.needs):
        for param in slab.params:
            if param.grad is None:
                continue
            t = torch.finfo(param.dtype).eps ** 0.5
            clock = torch.tensor([slab.clock])
            draw = normals(clock, param.detach().to(slab.dtype).unsqueeze(0), stream=len(moved) + 1)[0]
            moved[param] = (param + t * draw).to(param.dtype)
            drawn[param] = (moved[param].to(slab.dtype) - param) / t
            before[param] = param.grad.clone()
    if not moved:
        return None
    after = replay.gradients(moved)
    pairs = {}
    for param, v in drawn.items():
        t = torch.finfo(param.dtype).eps ** 0.5
        pairs[param] = (v, (after[param].to(v.dtype) - before[param]) / t)
    return pairs
