"""What the preconditioners that are fitted on Lie groups share: two criteria, and how a fit starts and steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, need
from precond.math.draws import normals

Criterion = Literal["whitening", "newton"]
"""What ``P`` is fitted to: the gradients of a stream, towards ``E[gg^T]^(-1/2)``; or the products of the Hessian with
random vectors, towards ``|H|^-1``."""


def check_fit(lr: float, criterion: str, init_scale: float | None) -> None:
    """Refuse step sizes that leave the group, criteria that there are not, and starts that are not positive."""
    if init_scale is not None and not 0.0 < init_scale < float("inf"):
        raise BadInputError(f"the fit must start from a positive multiple of the identity, not {init_scale}")
    if not 0.0 < lr < 1.0:
        raise BadInputError(f"the step size of the fit must be in (0, 1), not {lr}")
    if criterion not in ("whitening", "newton"):
        raise BadInputError(f"the criterion of the fit must be 'whitening' or 'newton', not {criterion!r}")


def fit_needs(criterion: Criterion) -> Need:
    """Return what a part with this criterion must be fed."""
    return Need.PROBE if criterion == "newton" else Need.GRADIENT


def pair(evidence: Evidence, criterion: Criterion) -> tuple[Tensor | None, Tensor] | None:
    """Return ``(v, h)``: a probe and its product, or nothing and a gradient; ``None`` at a step without a probe."""
    if criterion == "newton":
        return evidence.probe
    return None, need(evidence.gradient, "gradient")


def tells(v: Tensor | None, h: Tensor) -> Tensor | None:
    """Return which members learn from a pair: where the Hessian annihilates a probe, its inverse would be infinite.

    Args:
        v: The probes, or nothing where the fit is to gradients, from which all learn.
        h: Their products, ``[batch, *shape]``.

    Returns:
        A mask; ``None`` for all.
    """
    return None if v is None else h.flatten(1).abs().amax(1) > 0


def may_be_fresh(steps: Tensor) -> bool:
    """Whether a member has absorbed nothing yet, by their counters; perhaps, where reading them means to wait."""
    return steps.device.type != "cpu" or not bool(steps.all())


def drawn_pair(v: Tensor | None, h: Tensor, steps: Sequence[int], damping: float) -> tuple[Tensor, Tensor]:
    """Return ``(v, h + (damping + eps |h|) noise)``, where noise is drawn, and ``v`` is that noise unless given.

    Args:
        v: Probes, or nothing.
        h: Their products, or gradients, ``[batch, ...]``.
        steps: Gradients that the members had absorbed before, on which alone the draw depends.
        damping: Standard deviation of the noise.

    Returns:
        The pair to fit.
    """
    noise = normals(steps, h)
    deviation = h.abs().mul_(torch.finfo(h.dtype).eps).add_(damping)
    return (noise if v is None else v), torch.addcmul(h, deviation, noise)


def starting_scale(v: Tensor | None, h: Tensor, damping: float) -> Tensor:
    """Return ``(mean v^2)^(1/4) (mean h^4 + damping^4)^(-1/8)`` of each member, ``[batch]``; free of overflow."""
    largest = h.flatten(1).abs().amax(1)
    divisor = torch.where(largest > 0, largest, 1.0)
    size = largest * (h.flatten(1) / divisor[:, None]).pow(4).mean(1).pow(0.25)
    small, large = size.clamp(max=damping), size.clamp(min=damping)
    size = large * (1.0 + (small / large).pow(4)).pow(0.25)  # (mean h^4 + damping^4)^(1/4)
    scale = size.pow(-0.5)
    return scale if v is None else scale * v.flatten(1).square().mean(1).pow(0.25)


def start_at_size(factors: Sequence[Tensor], fresh: Tensor, v: Tensor | None, h: Tensor, damping: float) -> None:
    """Scale the factors of a product in place by the size of what is seen first.

    Args:
        factors: ``[batch, n, n]``, or ``[batch, n]`` where they are diagonal.
        fresh: Which members have seen nothing yet, and learn from this pair, ``[batch]``.
        v: Probes, or nothing.
        h: Their products, or gradients, ``[batch, ...]``.
        damping: See `starting_scale`.
    """
    scale = starting_scale(v, h, damping).pow(1.0 / len(factors))
    scale = torch.where(fresh & scale.isfinite() & (scale > 0), scale, 1.0)
    for q in factors:
        q.mul_(scale.view(-1, *(1,) * (q.ndim - 1)))


def level(factors: Sequence[Tensor]) -> None:
    """Give the factors of a product, as above, the same largest entry in place, which leaves the product as it is."""
    largest = torch.stack([q.flatten(1).abs().amax(1) for q in factors])
    mean = largest.log().mean(0).exp()
    for q, own in zip(factors, largest, strict=True):
        ratio = mean / own
        ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
        q.mul_(ratio.view(-1, *(1,) * (q.ndim - 1)))


def running_bound(bound: Tensor, size: Tensor, beta: float) -> Tensor:
    """Return ``max(beta bound + (1 - beta) size, size)``."""
    return torch.maximum(torch.lerp(size, bound, beta), size)


def moved_by(q: Tensor, change: Tensor, rate: Tensor) -> Tensor:
    """Return ``q - rate change`` for factors ``[batch, ...]`` and a rate ``[batch]`` for each."""
    return torch.addcmul(q, change, rate.view(-1, *(1,) * (q.ndim - 1)), value=-1.0)


def keep_finite(moved: Tensor, old: Tensor, new_bound: Tensor, bound: Tensor, told: Tensor | None = None) -> None:
    """Write a factor and its bound, ``[batch]``, over the old ones in place, for members in which both are finite.

    Args:
        moved: The new factor; its sum tells whether it is finite, and so large that nothing is lost with it.
        old: The old one.
        new_bound: The new bound.
        bound: The old one.
        told: Which members have learned anything; ``None`` for all.
    """
    good = moved.flatten(1).sum(1).add_(new_bound).isfinite()
    good = good if told is None else good & told
    torch.where(good.view(-1, *(1,) * (old.ndim - 1)), moved, old, out=old)
    torch.where(good, new_bound, bound, out=bound)
