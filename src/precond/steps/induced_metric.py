"""Steps shortened by the metric that a surface inherits from the space it lies in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor

from precond.core import BadInputError, Evidence, Need, Shared, need
from precond.math.averages import debias

Embedding = Literal["loss", "log", "sqrt"]


@dataclasses.dataclass
class InducedMetricState:
    """State of `InducedMetric`.

    Attributes:
        metric: Average of ``xi <g, P g>`` over all parameters, the same number for each, ``[batch]``.
        steps: Gradients absorbed, ``[batch]``.
    """

    metric: Tensor
    steps: Tensor


@final
@dataclasses.dataclass(frozen=True)
class InducedMetric(Shared[InducedMetricState]):
    """Descend on the graph of ``f(loss)`` over the parameters, in the metric that it inherits from the space around.

    With ``B = P^-1`` the metric of the parameters, the graph has ``B + xi f'^2 g g^T``, and by Sherman and Morrison the
    steepest step ``f' P g / (1 + e f'^2)`` with ``e = xi <g, P g>``, summed over all parameters and averaged over
    steps: the factor is ``1 / (1 + e)`` for ``f(L) = L``, ``L / (L^2 + e)`` for ``log L`` and
    ``2 sqrt(L) / (4 L + e)`` for ``sqrt L``. It is a smooth clipping by the norm of the whole gradient.

    Source: Harvey (arXiv 2509.03594).

    Attributes:
        xi: Scale of the direction of the loss, against the parameters.
        beta: Decay of the average of ``e``, which is debiased.
        embedding: ``"loss"``, ``"log"`` or ``"sqrt"``, which is ``f``; the last two need positive losses, and take
            others for the least positive number.
    """

    xi: float = 0.1
    beta: float = 0.8
    embedding: Embedding = "loss"

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.embedding not in ("loss", "log", "sqrt"):
            raise BadInputError(f"the embedding must be 'loss', 'log' or 'sqrt', not {self.embedding!r}")
        if not (self.xi >= 0 and 0.0 <= self.beta < 1.0):
            raise BadInputError(f"xi must not be negative and beta in [0, 1), not {self.xi} and {self.beta}")

    @property
    def needs(self) -> Need:
        """The gradient, and the loss unless it is embedded as it is."""
        return Need.GRADIENT if self.embedding == "loss" else Need.GRADIENT | Need.LOSS

    def init(self, like: Tensor) -> InducedMetricState:
        """Start at zero."""
        steps = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
        return InducedMetricState(torch.zeros(like.shape[0], dtype=like.dtype, device=like.device), steps)

    def contribute(
        self, state: InducedMetricState, evidence: Evidence, precondition: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return ``<g, P g>`` of each member."""
        gradient = need(evidence.gradient, "gradient")
        return (gradient * precondition(gradient)).flatten(1).sum(1)

    def combine(self, contributions: Tensor) -> Tensor:
        """Add them up, the least first, so that the sum does not depend on the order of the parameters."""
        return contributions.sort().values.sum()

    def share(self, state: InducedMetricState, evidence: Evidence, combined: Tensor) -> Tensor:
        """Absorb the sum and return the factor."""
        state.steps.add_(1)
        state.metric.lerp_((self.xi * combined).expand_as(state.metric), 1.0 - self.beta)
        metric = state.metric / debias(self.beta, state.steps, state.metric)
        if self.embedding == "loss":
            return 1.0 / (1.0 + metric)
        loss = need(evidence.loss, "loss").to(metric).clamp(min=torch.finfo(metric.dtype).tiny)
        if self.embedding == "log":  # divided through by the loss, whose square may vanish
            return 1.0 / (loss + metric / loss)
        return 2.0 / (4.0 * loss.sqrt() + metric / loss.sqrt())
