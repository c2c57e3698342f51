"""Probes of the Hessian in training: what a second gradient on the same batch tells."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from precond.core import Need
from precond.math.draws import normals, signs
from precond.optim.layout import named
from precond.optim.replay import Replay
from precond.optim.slab import Slab


def probed(
    replay: Replay, slabs: Sequence[Slab], groups: Sequence[Mapping[str, Any]]
) -> dict[Tensor, tuple[Tensor, Tensor]] | None:
    """Return a random vector and its product with the Hessian for each parameter that has a gradient.

    The product is ``(g(w + t v) - g(w)) / t`` with ``t = eps^(1/2)``, where ``v`` is what is left of normal numbers, or
    of signs where the method asks for these, when ``w + t v`` has been rounded to the precision of the parameter. What
    is drawn depends on the gradients that a parameter has absorbed and on its name (its number, where it has none), so
    that a run which is resumed repeats itself, also in a model that lists its parameters in another order.

    Args:
        replay: The batch of this step, as evaluated.
        slabs: All slabs; those of methods that need probes are moved, all at once.
        groups: The parameter groups, which know the names.

    Returns:
        Pairs by parameter; ``None`` if nobody has a gradient.
    """
    moved: dict[Tensor, Tensor] = {}
    drawn: dict[Tensor, Tensor] = {}
    before: dict[Tensor, Tensor] = {}
    pairs = [pair for group in groups for pair in named(group)]
    streams = {param: zlib.crc32(name.encode()) if name else i + 1 for i, (name, param) in enumerate(pairs)}
    for slab in (slab for slab in slabs if Need.PROBE in slab.method.needs):
        random = signs if Need.SIGNS in slab.method.needs else normals
        for param, steps in zip(slab.params, slab.steps, strict=True):
            if param.grad is None:
                continue
            t = torch.finfo(param.dtype).eps ** 0.5
            draw = random(torch.tensor([steps]), param.detach().to(slab.dtype).unsqueeze(0), streams[param])[0]
            moved[param] = (param + t * draw).to(param.dtype)
            drawn[param] = (moved[param].to(slab.dtype) - param) / t
            before[param] = param.grad.clone()
    if not moved:
        return None
    after = replay.gradients(moved)
    found = {}
    for param, v in drawn.items():
        t = torch.finfo(param.dtype).eps ** 0.5
        found[param] = (v, (after[param].to(v.dtype) - before[param]) / t)
    return found
