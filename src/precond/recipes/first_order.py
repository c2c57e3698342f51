"""Methods that treat every entry of a parameter alone: SGD, AdamW, Adan, Lion."""

from __future__ import annotations

from precond.core import Builds, Choice, Kind, LogUniform, Method, Paper
from precond.filters.adan import DifferenceMomentum, LookAhead
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.lion import Interpolation
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.identity import Identity
from precond.preconditioners.observing import Observing
from precond.preconditioners.sign import Sign
from precond.recipes.registry import recipe
from precond.steps.decay import Coupled, Decoupled, Proximal

_GRADIENT_FED = frozenset({Kind.TRAINING, Kind.SMOOTH})


@recipe(
    builds=Builds.METHOD,
    runs_on=_GRADIENT_FED,
    family="first-order",
    paper=Paper(
        title="On the importance of initialization and momentum in deep learning",
        authors="Ilya Sutskever, James Martens, George Dahl, Geoffrey Hinton",
        year=2013,
        venue="ICML",
    ),
    purpose="The baseline: gradient descent with heavy-ball or Nesterov momentum.",
    claim="With a good initialization and a slowly raised momentum, plain first-order training of deep and recurrent "
    "networks reaches what had been thought to need Hessian-free optimization.",
    example="precond.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)",
    space={"lr": LogUniform(3e-3, 1.0), "momentum": Choice((0.8, 0.9, 0.95, 0.98)), "nesterov": Choice((False, True))},
    lr=0.1,
)
def sgd(*, momentum: float = 0.9, dampening: float = 0.0, nesterov: bool = False) -> Method:
    """Stochastic gradient descent with momentum.

    ``b <- momentum b + (1 - dampening) g`` (undamped at the first step), ``w <- w - lr b``;
    with Nesterov momentum ``w <- w - lr (g + momentum b)``. Weight decay is added to the gradient: ``g + decay w``.

    Deviations:
        1. The learning rate multiplies the velocity when it is used rather than the gradient when it is absorbed, as
           in `torch.optim.SGD`; the two differ when the learning rate changes.
        2. The momentum is constant; the paper raises it on a schedule.
    """
    average = HeavyBall(momentum, dampening, nesterov) if momentum or nesterov else None
    return Method(momentum=average, preconditioner=Identity(), decay=Coupled())


@recipe(
    builds=Builds.METHOD,
    runs_on=_GRADIENT_FED,
    family="first-order",
    paper=Paper(
        title="Decoupled Weight Decay Regularization",
        authors="Ilya Loshchilov, Frank Hutter",
        year=2017,
        arxiv="1711.05101",
        venue="ICLR 2019",
    ),
    purpose="The default for transformers: steps of even size in every entry, and decay that they do not distort.",
    claim="Decoupling the decay from the gradient makes the best decay nearly independent of the learning rate and "
    "lets Adam generalize as well as SGD with momentum on image classification.",
    example="precond.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)",
    space={"lr": LogUniform(3e-4, 3e-2), "b2": Choice((0.95, 0.99, 0.999)), "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=1e-3,
    weight_decay=0.01,
)
def adamw(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Method:
    """Adam with decoupled weight decay.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``,
    ``w <- (1 - lr decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``.

    Deviations:
        1. The decay is multiplied by the learning rate, as in `torch.optim.AdamW`; the paper multiplies it by the
           schedule's multiplier alone.
    """
    return Method(momentum=EMA(b1), preconditioner=Diagonal(b2, eps), decay=Decoupled())


@recipe(
    builds=Builds.METHOD,
    runs_on=_GRADIENT_FED,
    family="first-order",
    paper=Paper(
        title="Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
        authors="Xingyu Xie, Pan Zhou, Huan Li, Zhouchen Lin, Shuicheng Yan",
        year=2022,
        arxiv="2208.06677",
    ),
    purpose="Adam with Nesterov momentum that needs no gradient at the look-ahead point.",
    claim="Reaches the accuracy of the best optimizers on vision and language models in about half the epochs, over "
    "batch sizes from 1k to 32k.",
    example="precond.optim.Adan(model.parameters(), lr=1e-3, weight_decay=0.02)",
    space={"lr": LogUniform(1e-3, 1e-1), "b1": Choice((0.9, 0.95, 0.98)), "weight_decay": Choice((0.0, 0.02))},
    lr=1e-3,
)
def adan(
    *, b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8, clip: float | None = None
) -> Method:
    """Adaptive Nesterov momentum in gradient differences.

    ``d = g - g_previous`` (0 at the first step), ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) d``,
    ``n <- b3 n + (1 - b3) (g + b2 d)^2``, ``u = (m / c1 + b2 v / c2) / (sqrt(n / c3) + eps)`` with ``ci = 1 - bi^t``,
    ``w <- (w - lr u) / (1 + lr decay)``. Each ``b`` is 1 minus the paper's ``beta``. With ``clip``, as in the authors'
    code, gradients whose norm over all parameters is longer are scaled down to it before anything else.

    Deviations:
        1. Averages start at zero and are debiased, as in the authors' code; the paper starts them at the first
           gradient.
        2. No restarts, which the authors' code leaves off by default too. Clipping divides by the norm, not by the norm
           plus ``eps``, and leaves the gradients themselves as they are.
    """
    return Method(
        momentum=DifferenceMomentum(b1, b2),
        preconditioner=Observing(LookAhead(b2), Diagonal(b3, eps)),
        decay=Proximal(),
        clip=clip,
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=_GRADIENT_FED,
    family="first-order",
    paper=Paper(
        title="Symbolic Discovery of Optimization Algorithms",
        authors="Xiangning Chen, Chen Liang, Da Huang, Esteban Real, Kaiyuan Wang, Yao Liu, Hieu Pham, Xuanyi Dong, "
        "Thang Luong, Cho-Jui Hsieh, Yifeng Lu, Quoc V. Le",
        year=2023,
        arxiv="2302.06675",
        venue="NeurIPS 2023",
    ),
    purpose="Signs of an interpolated momentum: half of Adam's memory, steps of equal size in every entry.",
    claim="Raises the ImageNet accuracy of ViT by up to 2 % and saves up to 5x of the pre-training compute on JFT.",
    example="precond.optim.Lion(model.parameters(), lr=1e-4, weight_decay=0.1)",
    space={"lr": LogUniform(3e-5, 1e-2), "b1": Choice((0.9, 0.95)), "weight_decay": Choice((0.0, 0.1, 1.0))},
    lr=1e-4,
)
def lion(*, b1: float = 0.9, b2: float = 0.99) -> Method:
    """EvoLved sign momentum.

    ``c = b1 m + (1 - b1) g``, ``w <- (1 - lr decay) w - lr sign(c)``, ``m <- b2 m + (1 - b2) g``.

    Deviations: none.
    """
    return Method(momentum=Interpolation(b1, b2), preconditioner=Sign(), decay=Decoupled())
