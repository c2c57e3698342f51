"""Natural gradients from a window of gradients: M-FAC, and its compressed forms."""

from __future__ import annotations

from typing import Any, Literal

from precond.core import BadInputError, Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.filters.clip import ClipNorm
from precond.filters.ema import EMA
from precond.filters.error_feedback import ErrorFeedback, LowRank, TopK
from precond.filters.heavy_ball import HeavyBall
from precond.preconditioners.fisher_window import FisherWindow
from precond.preconditioners.observing import Observing
from precond.preconditioners.windows import LowRankWindow, SparseWindow
from precond.recipes.registry import recipe
from precond.steps.decay import Coupled, Independent

_EFCP = Paper(
    title="Error Feedback Can Accurately Compress Preconditioners",
    authors="Ionut-Vlad Modoranu, Aleksei Kalinov, Eldar Kurtic, Elias Frantar, Dan Alistarh",
    year=2024,
    arxiv="2306.06098",
    venue="ICML",
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="windowed",
    paper=Paper(
        title="M-FAC: Efficient Matrix-Free Approximations of Second-Order Information",
        authors="Elias Frantar, Eldar Kurtic, Dan Alistarh",
        year=2021,
        arxiv="2107.03356",
        venue="NeurIPS",
    ),
    purpose="Natural gradients by the exact inverse of the empirical Fisher matrix of the last gradients.",
    claim="Improves on other second-order and first-order optimizers on residual networks and small transformers, at "
    "costs close to theirs, and prunes better in one shot than WoodFisher.",
    example="precond.optim.MFAC(model.named_parameters(), lr=1e-3)",
    space={
        "lr": LogUniform(1e-4, 1e-1),
        "memory": Choice((32, 128, 1024)),
        "damping": LogUniform(1e-6, 1.0),
        "momentum": Choice((0.0, 0.9)),
    },
    lr=1e-3,
    name="m-fac",
)
def m_fac(
    *,
    memory: int = 1024,
    damping: float = 1e-5,
    momentum: float = 0.0,
    clip: float | None = None,
    divisor: Literal["seen", "memory"] = "seen",
    every: int = 1,
) -> Method:
    """M-FAC, the dynamic algorithm.

    With the last ``m`` gradients, of all parameters together, as the rows of ``G``:
    ``F = damping I + G^T G / m``, ``u = F^-1 g = (g - G^T (damping m I + G G^T)^-1 G g) / damping``, ``g`` being in
    ``G`` already; ``v <- b v + (1 - b) u``, ``w <- w - lr v``. Weight decay adds ``decay w`` to ``g``. A step costs
    three products with ``G``, ``4 m`` bytes and ``6 m`` operations for each parameter, and ``m^3 / 3`` operations.

    A parameter without a gradient stays where it is, and counts as zero in the gradient of that step.

    Args:
        memory: How many gradients are kept, ``m``.
        damping: What is added to the Fisher matrix.
        momentum: Decay ``b`` of the average of directions; 0 for none.
        clip: Largest norm of a gradient, over all parameters; longer ones are scaled down. None are unless given.
        divisor: What sums over the window are divided by: gradients ``"seen"``, or always the ``"memory"``.
        every: Steps between gradients that are taken into the window; 1 in the paper. What a gradient in between has
            outside the window is divided by the damping alone, so more than 1 wants a damping of the size of squared
            gradients, and diverges with those of the paper.

    Returns:
        The method.

    Deviations:
        1. The ``m x m`` system is solved by a Cholesky factor in double precision, rather than by the recursion of the
           paper: the same direction, to rounding.
        2. Until ``m`` gradients have been seen, ``F`` is divided by how many there are. In the published code those to
           come count as zero, so that the first directions are up to ``m`` times as long; ``divisor="memory"`` does so.
    """
    return Method(
        estimator=None if clip is None else ClipNorm(clip),
        preconditioner=FisherWindow(memory, damping, divisor=divisor),
        smoothing=EMA(momentum, debias=False) if momentum else None,
        decay=Coupled(),
        cadence=Cadence(every=every, stagger=False),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="windowed",
    paper=_EFCP,
    purpose="M-FAC in a fraction of the memory: the largest entries of each gradient are kept, the others fed back.",
    claim="Compresses full-matrix preconditioners to up to 99% sparsity without loss of convergence.",
    example="precond.optim.SparseMFAC(model.named_parameters(), lr=1e-3)",
    space={
        "lr": LogUniform(1e-4, 1e-1),
        "memory": Choice((32, 128, 1024)),
        "damping": LogUniform(1e-6, 1.0),
        "density": LogUniform(1e-3, 1e-1),
    },
    lr=1e-3,
    name="sparse-m-fac",
)
def sparse_m_fac(
    *,
    memory: int = 1024,
    damping: float = 1e-5,
    density: float = 0.01,
    block: int | None = None,
    half: bool = True,
    feedback: bool = True,
    precondition: Literal["compressed", "gradient"] = "compressed",
    momentum: float = 0.0,
    divisor: Literal["seen", "memory"] = "seen",
    every: int = 1,
) -> Method:
    """EFCP with sparse gradients: Sparse M-FAC.

    ``a = e + g``, ``c`` the ``density n`` entries of ``a`` of largest magnitude, ``e <- a - c``; ``c`` takes the place
    of the oldest row of the window ``C``, ``F = damping I + C^T C / m``, ``u = F^-1 c``, ``v <- b v + u``,
    ``w <- (1 - decay) w - lr v``, with ``g`` the gradient of all parameters together. An entry of the window takes four
    bytes for the place and two for the value; two and two where ``block`` is at most 32768.

    Args:
        memory: How many gradients are kept, ``m``.
        damping: What is added to the Fisher matrix.
        density: Share of the entries that are kept.
        block: Entries of blocks that each keep that share; unless given, the largest of all are kept.
        half: Whether values are rounded to bfloat16.
        feedback: Whether what was left out comes back; without, the method of the paper does not converge as well.
        precondition: Whether ``u`` is made of ``c`` or of ``g``.
        momentum: Decay ``b`` of the velocity; 0 for none.
        divisor: What sums over the window are divided by: gradients ``"seen"``, or always the ``"memory"``.
        every: Steps between gradients that are taken into the window; 1 in the paper. What a gradient in between has
            outside the window is divided by the damping alone, so more than 1 wants a damping of the size of squared
            gradients, and diverges with those of the paper.

    Returns:
        The method.

    Deviations:
        1. The ``m x m`` system is solved by a Cholesky factor in double precision: the same direction, to rounding.
        2. Values are kept in bfloat16, as in the later code of the authors; what rounding takes off is fed back too.
           ``half=False`` keeps all digits.
        3. Until ``m`` gradients have been seen, ``F`` is divided by how many there are, as in `m_fac`.
    """
    kept = ErrorFeedback(TopK(density, block, half), feedback)
    window = FisherWindow(memory, damping, SparseWindow(density, block, half), divisor)
    return Method(
        **_shown(precondition, kept, window),
        smoothing=HeavyBall(momentum) if momentum else None,
        decay=Independent(),
        cadence=Cadence(every=every, stagger=False),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="windowed",
    paper=_EFCP,
    purpose="M-FAC with gradients kept as thin factors, one Fisher matrix for each layer.",
    claim="Compresses full-matrix preconditioners to rank one without loss of convergence.",
    example="precond.optim.LowRankMFAC(model.parameters(), lr=1e-3)",
    space={
        "lr": LogUniform(1e-4, 1e-1),
        "memory": Choice((32, 128, 1024)),
        "damping": LogUniform(1e-6, 1.0),
        "rank": Choice((1, 2, 4)),
    },
    lr=1e-3,
    name="low-rank-m-fac",
)
def low_rank_m_fac(
    *,
    memory: int = 1024,
    damping: float = 1e-5,
    rank: int = 1,
    feedback: bool = True,
    precondition: Literal["compressed", "gradient"] = "compressed",
    momentum: float = 0.0,
    divisor: Literal["seen", "memory"] = "seen",
    every: int = 1,
) -> Method:
    """EFCP with gradients of low rank: Low-rank M-FAC.

    For each tensor, as a matrix of its first axis by the others: ``A = E + G``, ``P = orth(A Q)``, ``Q <- A^T P``,
    ``C = P Q^T``, ``E <- A - C``; the window holds ``(P, Q)`` of the last ``m`` steps,
    ``F = damping I + (1/m) sum vec(C_i) vec(C_i)^T``, ``u = F^-1 c``, ``v <- b v + (1 - b) u``, ``w <- w - lr v``.
    Weight decay adds ``decay w`` to the gradient. The window takes ``4 m r (rows + columns)`` bytes; vectors are kept
    in full. Inner products with rows come from the factors.

    Args:
        memory: How many gradients are kept, ``m``.
        damping: What is added to the Fisher matrix.
        rank: Rank of what is kept of each gradient.
        feedback: Whether what was left out comes back.
        precondition: Whether ``u`` is made of ``C`` or of ``G``.
        momentum: Decay ``b`` of the average of directions; 0 for none.
        divisor: What sums over the window are divided by: gradients ``"seen"``, or always the ``"memory"``.
        every: Steps between gradients that are taken into the window; 1 in the paper. What a gradient in between has
            outside the window is divided by the damping alone, so more than 1 wants a damping of the size of squared
            gradients, and diverges with those of the paper.

    Returns:
        The method.

    Deviations:
        1. Each tensor has a Fisher matrix of its own, as in the code's ``LowRankMFAC``; in the code's
           ``LowRankAggregateMFAC`` all have one.
        2. The ``m x m`` systems are solved by Cholesky factors in double precision: the same direction, to rounding.
        3. ``orth`` is a QR decomposition rather than Gram-Schmidt with an epsilon, and the first ``Q`` is drawn with a
           fixed seed.
        4. Until ``m`` gradients have been seen, ``F`` is divided by how many there are, as in `m_fac`.
    """
    kept = ErrorFeedback(LowRank(rank), feedback)
    window = FisherWindow(memory, damping, LowRankWindow(rank), divisor)
    return Method(
        **_shown(precondition, kept, window),
        smoothing=EMA(momentum, debias=False) if momentum else None,
        decay=Coupled(),
        cadence=Cadence(every=every, stagger=False),
    )


def _shown(precondition: str, kept: ErrorFeedback, window: FisherWindow) -> dict[str, Any]:
    """Return the slots of a window that is shown compressed gradients, and applied to these or to those that came."""
    if precondition == "compressed":
        return {"estimator": kept, "preconditioner": window}
    if precondition == "gradient":
        return {"preconditioner": Observing(kept, window)}
    raise BadInputError(f"precondition must be 'compressed' or 'gradient', not {precondition!r}")
