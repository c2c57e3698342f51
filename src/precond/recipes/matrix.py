"""Methods with one factor of the second moment per axis: Shampoo, SOAP."""

from __future__ import annotations

from typing import Any

from precond.core import Builds, Cadence, Choice, Constant, Kind, LogUniform, Method, Paper, Preconditioner
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.fitted_eigenbasis import FittedEigenbasis
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.merged import Merged
from precond.preconditioners.rotate import Rotate
from precond.recipes.grafts import Grafting, grafted
from precond.recipes.registry import recipe
from precond.recipes.states import State, floor_of, storage_of
from precond.steps.bias_corrected import BiasCorrected
from precond.steps.decay import Decoupled, DecoupledAfter
from precond.steps.match_rms import MatchRMS

_SOAP = Paper(
    title="SOAP: Improving and Stabilizing Shampoo using Adam",
    authors="Nikhil Vyas, Depen Morwani, Rosie Zhao, Mujin Kwun, Itai Shapira, David Brandfonbrener, Lucas Janson, "
    "Sham Kakade",
    year=2024,
    arxiv="2409.11321",
    venue="ICLR 2025",
)


def _reshaped(inner: Preconditioner[Any], merge: int | None, block: int | None) -> Preconditioner[Any]:
    """Let a preconditioner see merged axes, and tiles of them."""
    inner = inner if block is None else Blocked(block, inner)
    return inner if merge is None else Merged(inner, merge)


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
    graft: Grafting = "none",
    block: int | None = None,
    merge: int | None = None,
    one_sided: bool = False,
    factor_block: int | None = None,
    statistics: int = 1,
    half: bool = False,
    stagger: bool = True,
    state: State = "full",
) -> Method:
    """Kronecker-factored AdaGrad.

    For a tensor with ``k`` axes and unfoldings ``G_i``: ``H_i = eps I + sum G_i G_i^T`` and
    ``w <- w - lr G x_1 H_1^(-1/2k) ... x_k H_k^(-1/2k)``; for a matrix ``L^(-1/4) G R^(-1/4)``.

    Options beyond the paper's algorithm: heavy-ball ``momentum`` on the directions; ``beta < 1`` averages the factors;
    ``exponent`` replaces ``-1/2k``; roots are taken at the first and then every ``every`` steps; ``graft`` gives each
    direction the norm of a step of SGD, AdaGrad, RMSProp or Adam; ``merge`` merges neighbouring axes from left to right
    up to this length; ``block`` cuts every tensor into tiles of this side, each with factors of its own (all arXiv
    2002.09018); ``one_sided`` gives only the shortest axis of each tensor (or tile) a factor, so that ``k = 1``. With
    ``every > 1`` the first roots come from one gradient and magnify all others by up to ``eps^(-1/2)``: raise ``eps``,
    or graft. ``factor_block``, ``statistics`` and ``half`` save work as in `lean_soap`; factors that sum then hold one
    of ``statistics`` gradients, and grow more slowly. ``state`` says in how many bits the state rests, as in `soap`;
    rounded factors that sum stop growing once a gradient adds less than a unit in the last place, so give ``beta < 1``.

    Deviations:
        1. Axes longer than ``max_dim`` are left as they are, and ``k`` counts the others.
        2. Eigenvalues below rounding level, relative to the largest, are raised to it before the root.
        3. Weight decay, if any, is decoupled.
        4. With ``stagger`` and ``every > 1``, different tensors take their roots at different steps.
        5. A ``state`` other than ``"full"`` is rounded, which the paper's is not; eigenvalues below ``2^-8`` of the
           largest, which are noise then, are raised to that.
    """
    factors = Kronecker(
        beta**statistics, eps, exponent, max_dim, floor=floor_of(state) or None, one_sided=one_sided,
        block=factor_block, half=half,
    )  # fmt: skip
    return Method(
        preconditioner=grafted(_reshaped(factors, merge, block), graft),
        smoothing=HeavyBall(momentum) if momentum else None,
        decay=Decoupled(),
        cadence=Cadence(every=every, stagger=stagger, statistics=statistics, block=factor_block),
        storage=storage_of(state),
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
    early: int | None = None,
    max_dim: int = 10000,
    merge: int | None = None,
    block: int | None = None,
    one_sided: bool = False,
    vectors: bool = False,
    normalize: bool = False,
    tolerance: float = 0.0,
    factor_block: int | None = None,
    statistics: int = 1,
    half: bool = False,
    fitted: bool = False,
    growth: float | None = None,
    stagger: bool = True,
    state: State = "full",
) -> Method:
    """Shampoo with Adam in the preconditioner's eigenbasis.

    ``m <- b1 m + (1 - b1) g``, ``g' = Q_L^T g Q_R``, ``v <- b2 v + (1 - b2) g'^2``,
    ``w <- w - lr (sqrt(1 - b2^t) / (1 - b1^t)) Q_L [Q_L^T m Q_R / (sqrt(v) + eps)] Q_R^T``, then
    ``w <- (1 - lr decay) w``, and the factors ``L``, ``R`` average ``g g^T``, ``g^T g`` with decay ``shampoo_beta``
    (``b2`` unless given). The first gradient finds ``Q`` by an eigendecomposition and takes no step; every ``every``
    steps ``Q <- qr(L Q)`` after sorting its columns by their Rayleigh quotients. Vectors get Adam, axes longer than
    ``max_dim`` keep their own basis.

    ``state`` says in how many bits the state rests between steps: ``"full"``, ``"compact"`` (8 bits, factors 16),
    ``"8-bit"``, or ``"4-bit"`` (bases 4, the rest 8); of symmetric factors one triangle is kept in all but the first.

    Options of the published code: ``merge`` merges neighbouring axes from left to right up to this length, ``vectors``
    turns vectors too, ``normalize`` scales every direction to a root mean square of one before its biases are
    corrected, ``one_sided`` (of the paper) turns only the shortest axis. Others: ``block`` cuts tensors into tiles of
    this side (arXiv 2002.09018); ``factor_block``, ``statistics``, ``half`` and ``fitted`` are those of `lean_soap`;
    ``early`` is the interval between turns in the beginning, as in `lean_soap`; ``tolerance`` leaves a basis as it is
    while the off-diagonal part of ``Q^T L Q`` is at most this fraction of the whole (arXiv 2506.03595). ``growth``
    bounds by how much a turn may lengthen the longest entry of a direction, and takes what is beyond off the momentum:
    where little was seen in coordinates before they turned, entries get hundreds of times too long in the first steps,
    and later, too, where most rows of the gradients are zero.

    Deviations:
        1. Placement of ``eps`` and of the decay follow the published code, where the paper's text leaves them open.
        2. With ``stagger``, different tensors turn their bases at different steps, to spread the cost.
        3. Where several axes are shortest, the last of them turns if ``one_sided``.
        4. Where a factor has a null space, as that of a first gradient with fewer columns than rows, any basis of it
           is as good: rounding errors choose it in the published code, the other eigenvectors do here, and runs part.
        5. A ``state`` other than ``"full"`` is rounded, which the paper's is not.
    """
    beta = (b2 if shampoo_beta is None else shampoo_beta) ** statistics
    cadence = Cadence(
        every=every, after=True, prime=True, stagger=stagger, statistics=statistics, block=factor_block, early=early
    )
    kind = FittedEigenbasis if fitted else Eigenbasis
    basis = kind(beta, max_dim, vectors, one_sided, tolerance, factor_block, half)
    return Method(
        momentum=EMA(b1),
        preconditioner=_reshaped(Rotate(basis, Diagonal(b2, eps, eps_first=True), growth), merge, block),
        step=BiasCorrected(MatchRMS(1.0, 1e-30), b1, b2) if normalize else Constant(),
        decay=DecoupledAfter(),
        cadence=cadence,
        storage=storage_of(state),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=_SOAP,
    purpose="SOAP at a fraction of its cost: bases in bfloat16 that turn rarely, factors fitted to each other.",
    claim="Pre-trains language models of 360M and 660M parameters in over 40 % fewer steps and over 35 % less time "
    "than AdamW, at large batch size.",
    example="precond.optim.LeanSOAP(model.parameters(), lr=3e-3, weight_decay=0.01)",
    space={"lr": LogUniform(1e-3, 3e-2), "b1": Choice((0.9, 0.95)), "weight_decay": Choice((0.0, 0.01, 0.1))},
    lr=3e-3,
    weight_decay=0.01,
)
def lean_soap(
    *,
    factor_block: int | None = None,
    statistics: int = 1,
    half: bool = True,
    fitted: bool = True,
    growth: float | None = 3.0,
    b1: float = 0.95,
    b2: float = 0.95,
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    every: int = 20,
    early: int | None = 4,
    max_dim: int = 10000,
    merge: int | None = None,
    block: int | None = None,
    one_sided: bool = False,
    tolerance: float = 0.0,
    stagger: bool = True,
    state: State = "full",
) -> Method:
    """SOAP with less work in the bases.

    The equations are those of `soap`, but for the factors and bases of the axes. Each change can be taken alone:

    * ``factor_block``: the factors and bases of an axis of length ``n > factor_block`` are block diagonal. All that is
      done for the axis costs ``factor_block / n`` of what it did; the other axes do not notice, and see the whole
      tensor.
    * ``half``: the bases are kept in bfloat16, and products with them are taken in it where the device multiplies
      bfloat16 natively; other devices multiply in single precision. No effect on tensors of double precision.
    * ``fitted``: factors are fitted to each other as in `kl_soap` (arXiv 2509.03378), which pays for some of what the
      others lose: ``L <- beta L + (1 - beta) / n G R^-1 G^T``, and likewise ``R``. They are kept in the coordinates of
      their bases, so that with ``half`` their products, too, are taken in bfloat16.
    * ``every`` and ``early``: bases turn every ``early`` steps within the first ``every``, then every ``2 early`` until
      twice as many steps have gone by, and so on until they turn every ``every``. The first basis is that of one
      gradient, so that early turns count most, and later ones may be rare; but first steps are dear then, two to three
      times as dear as later ones.
    * ``growth``: no turn makes the longest entry of a direction more than so many times as long, as in `soap`. It costs
      next to nothing, and early turns do no harm then.
    * ``statistics``: the factors absorb every ``statistics``-th gradient alone, with decay
      ``shampoo_beta^statistics``, so that they remember as many steps.
    * ``one_sided``: only the shortest axis has a basis; ``block``: the tensor is cut into tiles of this side;
      ``tolerance``: bases that are good enough are not turned; as for `soap`.

    ``benchmarks/lean.py`` measures what each costs in loss and gains in time.

    Deviations:
        1. The savings: the paper has whole matrices in one precision. Without any of them this is `soap`.
        2. Fitted factors as in `kl_soap`, but bases are sorted as in `soap`.
        3. Those of `soap`.
    """
    return soap(
        b1=b1, b2=b2, shampoo_beta=shampoo_beta, eps=eps, every=every, early=early, max_dim=max_dim, merge=merge,
        block=block, one_sided=one_sided, tolerance=tolerance, factor_block=factor_block, statistics=statistics,
        half=half, fitted=fitted, growth=growth, stagger=stagger, state=state,
    )  # fmt: skip
