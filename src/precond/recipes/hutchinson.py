"""Methods fed with random products of the Hessian that estimate its diagonal."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper
from precond.filters.ema import EMA
from precond.filters.hessian_diagonal import HessianDiagonal
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.observing import Observing
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled


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
