"""Methods fed with random products of the Hessian that estimate its diagonal."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper
from precond.filters.ema import EMA
from precond.filters.hessian_diagonal import HessianDiagonal
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.hutchinson_diagonal import HutchinsonDiagonal
from precond.preconditioners.observing import Observing
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled
from precond.steps.polyak import Polyak, Slack


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="first-order",
    paper=Paper(
        title="ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning",
        authors="Zhewei Yao, Amir Gholami, Sheng Shen, Mustafa Mustafa, Kurt Keutzer, Michael W. Mahoney",
        year=2020,
        arxiv="2006.00719",
        venue="AAAI 2021",
    ),
    purpose="Adam with the size of the Hessian's rows in place of that of the gradient's entries.",
    claim="Raises the accuracy of ResNet-20 and ResNet-32 on CIFAR-10 by 1.80 % and 1.45 % over Adam's, that on "
    "ImageNet by 5.55 %, and translations by 0.13 and 0.33 BLEU over AdamW's; less sensitive to its learning rate.",
    example="precond.optim.AdaHessian(model.parameters(), lr=0.15)",
    space={"lr": LogUniform(3e-3, 1.0), "b2": Choice((0.95, 0.99, 0.999)), "weight_decay": Choice((0.0, 5e-4))},
    lr=0.15,
)
def adahessian(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-4, kernels: bool = True) -> Method:
    """AdaHessian.

    With random signs ``z`` and the estimate ``d = |z * H z|`` of the diagonal of the Hessian, averaged over each
    convolution kernel: ``m <- b1 m + (1 - b1) g``,
    ``v <- b2 v + (1 - b2) d^2``, ``w <- (1 - lr decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``.

    `precond.minimize` makes exact products. The optimizer makes them of a second gradient on the same batch, at weights
    that are moved by ``eps^(1/2) z`` with the machine epsilon of the parameters; so its ``step`` needs a closure.

    Args:
        b1: Decay of the average of gradients.
        b2: Decay of the average of squares.
        eps: Added to the root.
        kernels: Average over the axes after the first two.

    Returns:
        The method.

    Deviations:
        1. Products by differences of gradients rather than by double backward, in the optimizer. Where the model
           computes in half precision these are lost in rounding: raise ``eps`` there, by which alone is divided then.
        2. Tensors of three axes are averaged as those of four; the published code leaves all but four alone, and its
           variant for language models averages matrices, too.
        3. The power of the Hessian is one, as in the published code unless told otherwise.
    """
    seen = Observing(HessianDiagonal(kernels), Diagonal(b2, eps))
    return Method(momentum=EMA(b1), preconditioner=seen, decay=Decoupled())


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="first-order",
    paper=Paper(
        title="Stochastic Gradient Descent with Preconditioned Polyak Step-size",
        authors="Farshed Abdukhakimov, Chulu Xiang, Dmitry Kamzolov, Martin Takac",
        year=2024,
        arxiv="2310.02093",
        venue="Computational Mathematics and Mathematical Physics 64",
    ),
    purpose="Training without a learning rate on badly scaled data, where the loss can come near zero.",
    claim="Improves on Polyak's stochastic step where the data are badly scaled.",
    example="precond.optim.Optimizer(model.parameters(), precond.recipes.hutchinson.psps(), lr=1.0)",
    space={"slack": Choice(("absolute", "square")), "weight": LogUniform(1e-3, 1.0), "floor": LogUniform(1e-2, 1.0)},
    lr=1.0,
)
def psps(
    *, beta: float = 0.999, floor: float = 0.1, slack: Slack = "absolute", weight: float = 0.01, lower: float = 0.0
) -> Method:
    """Polyak's step in the metric of an estimated diagonal of the Hessian.

    With random signs ``z``: ``D <- beta D + (1 - beta) z * H z``, ``B = max(|D|, floor)``, ``G = <g, B^-1 g>`` over all
    parameters of a group, and ``w <- w - lr t B^-1 g`` with the step ``t`` of `precond.steps.polyak.Polyak`, which
    takes the loss of the batch and ``lower``, what that cannot fall below. ``step`` needs a closure.

    Args:
        beta: Decay of the average of estimates.
        floor: The least entry of ``B``.
        slack: ``"none"``, ``"absolute"`` (PSPS_L1) or ``"square"`` (PSPS_L2): how the loss may stay above ``lower``.
        weight: Of the slack.
        lower: Lower bound of the loss of every batch.

    Returns:
        The method.

    Deviations:
        1. ``D`` is debiased instead of starting from a hundred probes of the first batch.
        2. Products by differences of gradients rather than by double backward.
        3. The published code sums ``G`` over the last parameter group alone.
    """
    metric = HutchinsonDiagonal(beta, floor)
    return Method(preconditioner=metric, step=Polyak(slack, weight, lower), decay=Decoupled())
