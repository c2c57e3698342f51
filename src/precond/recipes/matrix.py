"""Methods with one factor of the second moment per axis: Shampoo, SOAP."""

from __future__ import annotations

import dataclasses
from typing import Literal

from precond.core import BadInputError, Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.graft import Graft
from precond.preconditioners.identity import Identity
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.rotate import Rotate
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled, DecoupledAfter

_GRAFTS = {"sgd": Identity(), "adagrad": Diagonal(beta=1.0, eps=1e-10)}

_SOAP = Paper(
    title="SOAP: Improving and Stabilizing Shampoo using Adam",
    authors="Nikhil Vyas, Depen Morwani, Rosie Zhao, Mujin Kwun, Itai Shapira, David Brandfonbrener, Lucas Janson, "
    "Sham Kakade",
    year=2024,
    arxiv="2409.11321",
    venue="ICLR 2025",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="matrix",
    paper=Paper(
        title="Shampoo: Preconditioned Stochastic Tensor Optimization",
        authors="Vineet Gupta, Tomer Koren, Yoram Singer",
        year=2018,
        arxiv="1802.09568",
        venue="ICML 2018",
    ),
    purpose="Full-matrix AdaGrad with one factor per axis of each tensor.",
    claim="Reaches a given training loss in considerably fewer steps than SGD, AdaGrad and Adam on image "
    "classification, at a comparable time per step.",
    example="precond.optim.Shampoo(model.parameters(), lr=0.1)",
    space={"lr": LogUniform(1e-2, 3.0), "momentum": Choice((0.0, 0.5, 0.9))},
    lr=0.1,
)
def shampoo(
    *,
    momentum: float = 0.0,
    beta: float = 1.0,
    eps: float = 1e-4,
    exponent: float | None = None,
    every: int = 1,
    max_dim: int = 8192,
    graft: Literal["none", "sgd", "adagrad"] = "none",
    block: int | None = None,
    one_sided: bool = False,
    statistics: int = 1,
    half: bool = False,
) -> Method:
    """Kronecker-factored AdaGrad.

    For a tensor with ``k`` axes and unfoldings ``G_i``: ``H_i = eps I + sum G_i G_i^T`` and
    ``w <- w - lr G x_1 H_1^(-1/2k) ... x_k H_k^(-1/2k)``; for a matrix ``L^(-1/4) G R^(-1/4)``.

    Options beyond the paper's algorithm: heavy-ball ``momentum`` on the directions; ``beta < 1`` averages the factors;
    ``exponent`` replaces ``-1/2k``; roots are taken at the first and then every ``every`` steps; ``graft`` gives each
    direction the norm of an SGD or AdaGrad step (arXiv 2002.09018). With ``every > 1`` the first roots come from one
    gradient and magnify all others by up to ``eps^(-1/2)``: raise ``eps``, or graft.

    To save work and memory: ``block``, ``one_sided``, ``statistics`` and ``half``, as in `lean_soap`. Factors that sum
    take every ``statistics``-th gradient alone, so that they grow more slowly.

    Deviations:
        1. Axes longer than ``max_dim`` are left as they are, and ``k`` counts the others.
        2. Eigenvalues below rounding level, relative to the largest, are raised to it before the root.
        3. Weight decay, if any, is decoupled.
        4. With ``every > 1``, different tensors take their roots at different steps.
    """
    if graft not in ("none", *_GRAFTS):
        raise BadInputError(f"graft must be 'none', 'sgd' or 'adagrad', not {graft!r}")
    factors = Kronecker(beta**statistics, eps, exponent, max_dim, block=block, one_sided=one_sided, half=half)
    return Method(
        preconditioner=Graft(factors, _GRAFTS[graft]) if graft != "none" else factors,
        smoothing=HeavyBall(momentum) if momentum else None,
        decay=Decoupled(),
        cadence=Cadence(every=every, statistics=statistics),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_SOAP,
    purpose="Adam in the slowly turning eigenbasis of Shampoo's factors.",
    claim="Pre-trains language models of 360M and 660M parameters in over 40 % fewer steps and over 35 % less time "
    "than AdamW, at large batch size.",
    example="precond.optim.SOAP(model.parameters(), lr=3e-3, weight_decay=0.01)",
    space={"lr": LogUniform(1e-3, 3e-2), "b1": Choice((0.9, 0.95)), "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=3e-3,
    weight_decay=0.01,
)
def soap(
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    every: int = 10,
    max_dim: int = 10000,
    stagger: bool = True,
) -> Method:
    """Shampoo with Adam in the preconditioner's eigenbasis.

    ``m <- b1 m + (1 - b1) g``, ``g' = Q_L^T g Q_R``, ``v <- b2 v + (1 - b2) g'^2``,
    ``w <- w - lr (sqrt(1 - b2^t) / (1 - b1^t)) Q_L [Q_L^T m Q_R / (sqrt(v) + eps)] Q_R^T``, then
    ``w <- (1 - lr decay) w``, and the factors ``L``, ``R`` average ``g g^T``, ``g^T g`` with decay ``shampoo_beta``
    (``b2`` unless given). The first gradient finds ``Q`` by an eigendecomposition and takes no step; every ``every``
    steps ``Q <- qr(L Q)`` after sorting its columns by their Rayleigh quotients. Vectors get Adam, axes longer than
    ``max_dim`` keep their own basis.

    Deviations:
        1. Placement of ``eps`` and of the decay follow the published code, where the paper's text leaves them open.
        2. With ``stagger``, different tensors turn their bases at different steps, to spread the cost.
        3. No option to merge axes, to normalize directions, or to precondition vectors; all are off by default there.
    """
    return Method(
        momentum=EMA(b1),
        preconditioner=Rotate(
            Eigenbasis(b2 if shampoo_beta is None else shampoo_beta, max_dim), Diagonal(b2, eps, eps_first=True)
        ),
        decay=DecoupledAfter(),
        cadence=Cadence(every=every, after=True, prime=True, stagger=stagger),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_SOAP,
    purpose="SOAP at a fraction of its cost and memory, and at equal loss: long axes in blocks, bases in bfloat16.",
    claim="Pre-trains language models of 360M and 660M parameters in over 40 % fewer steps and over 35 % less time "
    "than AdamW, at large batch size.",
    example="precond.optim.LeanSOAP(model.parameters(), lr=3e-3, weight_decay=0.01)",
    space={"lr": LogUniform(1e-3, 3e-2), "b1": Choice((0.9, 0.95)), "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=3e-3,
    weight_decay=0.01,
)
def lean_soap(
    *,
    block: int | None = 512,
    one_sided: bool = False,
    statistics: int = 1,
    half: bool = True,
    b1: float = 0.95,
    b2: float = 0.95,
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    every: int = 10,
    max_dim: int = 10000,
    stagger: bool = True,
) -> Method:
    """SOAP with less work in the bases: four savings, each of which can be taken alone.

    The equations are those of `soap`, but for the factors and bases of the axes:

    * ``block``: those of an axis of length ``n > block`` are block diagonal. All that is done for the axis costs
      ``block / n`` of what it did; the other axes do not notice, and see the whole tensor.
    * ``one_sided``: only the shortest axis has them.
    * ``statistics``: the factors absorb every ``statistics``-th gradient alone, with decay
      ``shampoo_beta^statistics``, so that they remember as many steps.
    * ``half``: the bases are kept in bfloat16, and so are products with them where the device multiplies bfloat16
      natively; other devices multiply in single precision. No effect on tensors of double precision.

    ``benchmarks/lean.py`` measures what each costs in loss and gains in time.

    Deviations:
        1. The savings: the paper has whole matrices in one precision (blocking is from Scalable Shampoo, arXiv
           2002.09018, where other axes are cut, too). Without any of them this is `soap`.
        2. Those of `soap`.
    """
    whole = soap(b1=b1, b2=b2, shampoo_beta=shampoo_beta, eps=eps, every=every, max_dim=max_dim, stagger=stagger)
    rotate = whole.preconditioner
    assert isinstance(rotate, Rotate)
    beta = rotate.basis.beta**statistics
    basis = dataclasses.replace(rotate.basis, beta=beta, block=block, one_sided=one_sided, half=half)
    return dataclasses.replace(
        whole,
        preconditioner=dataclasses.replace(rotate, basis=basis),
        cadence=dataclasses.replace(whole.cadence, statistics=statistics),
    )
