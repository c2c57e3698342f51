"""Layers with noisier gradients take shorter steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Shared, need
from precond.math.factors.polar import FIVE_QUINTICS, polar

Geometry = Literal["operator", "entries"]


@dataclasses.dataclass
class NoiseAdaptiveState:
    """State of `NoiseAdaptive`.

    Attributes:
        noise: Average of squared dual norms of the differences of two gradients, ``[batch]``.
    """

    noise: Tensor


@final
@dataclasses.dataclass(frozen=True)
class NoiseAdaptive(Shared[NoiseAdaptiveState]):
    """The factor ``sqrt(a / max a)`` with ``a = alpha / sqrt(alpha^2 + H)``, where the maximum is over all parameters.

    ``H <- beta H + (1 - beta) ||g - g_other||^2``, in the norm dual to the one in which the method descends. The
    quietest parameter keeps the learning rate. The other gradient is that of the step before, which moves with the
    weights too, or that of another batch at the same weights, which costs a second evaluation.

    Source: LANTON (arXiv 2510.14009).

    Attributes:
        alpha: The noise, as a dual norm, up to which parameters are not told apart, positive.
        beta: Decay of the average, which starts at zero.
        geometry: ``"operator"`` for matrices and the norm between root mean squares, whose dual is
            ``sqrt(rows / columns)`` times the nuclear norm; ``"entries"`` for the largest entry, whose dual is the sum
            of absolute entries.
        steps: Newton-Schulz iterations for the nuclear norm; 0 takes singular values.
        independent: Whether the other gradient is that of another batch.
    """

    alpha: float = 1.0
    beta: float = 0.9
    geometry: Geometry = "operator"
    steps: int = 5
    independent: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.geometry not in ("operator", "entries"):
            raise BadInputError(f"the geometry must be 'operator' or 'entries', not {self.geometry!r}")
        if not (self.alpha > 0 and 0.0 <= self.beta < 1.0):
            raise BadInputError(f"alpha must be positive and beta in [0, 1), not {self.alpha} and {self.beta}")

    @property
    def needs(self) -> Need:
        """The gradient of this step and the other one."""
        return Need.GRADIENT | (Need.ANOTHER if self.independent else Need.PREVIOUS)

    def init(self, like: Tensor) -> NoiseAdaptiveState:
        """Start at zero."""
        return NoiseAdaptiveState(torch.zeros(like.shape[0], dtype=like.dtype, device=like.device))

    def contribute(
        self, state: NoiseAdaptiveState, evidence: Evidence, precondition: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Absorb the difference of two gradients and return ``a``."""
        other = need(evidence.another, "another") if self.independent else need(evidence.previous, "previous")
        difference = need(evidence.gradient, "gradient") - other
        square = self._dual_norm(difference).square().clamp(max=torch.finfo(difference.dtype).max)
        state.noise.lerp_(square, 1.0 - self.beta)
        return self._quiet(state)

    def combine(self, contributions: Tensor) -> Tensor:
        """Return the largest."""
        return contributions.max()

    def share(self, state: NoiseAdaptiveState, evidence: Evidence, combined: Tensor) -> Tensor:
        """Return the factors, at most 1."""
        return (self._quiet(state) / combined).clamp(max=1.0).sqrt()

    def _quiet(self, state: NoiseAdaptiveState) -> Tensor:
        return self.alpha / (self.alpha**2 + state.noise).sqrt()

    def _dual_norm(self, v: Tensor) -> Tensor:
        if self.geometry == "entries":
            return v.flatten(1).abs().sum(1)
        matrices = v.reshape(v.shape[0], -1, 1) if v.ndim <= 2 else v.flatten(2)
        rows, columns = matrices.shape[1:]
        if self.steps:
            nuclear = (matrices * polar(matrices, self.steps, FIVE_QUINTICS)).sum((1, 2))
        else:
            nuclear = torch.linalg.svdvals(matrices).sum(-1)
        return (rows / columns) ** 0.5 * nuclear
