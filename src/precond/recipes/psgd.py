"""Preconditioned stochastic gradient descent on Lie groups, with the whitening criterion."""

from __future__ import annotations

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.filters.clip import ClipAmplitude
from precond.filters.running_mean import RunningMean
from precond.preconditioners.fitted_affine import FittedAffine
from precond.preconditioners.fitted_kron import FittedKron
from precond.preconditioners.fitted_low_rank import FittedLowRank
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled

PAPER = Paper(
    title="Curvature-Informed SGD via General Purpose Lie-Group Preconditioners",
    authors="Omead Pooladzandi, Xi-Lin Li",
    year=2024,
    arxiv="2402.04553",
)

CLAIM = (
    "Outperforms the state of the art on vision, language and reinforcement learning tasks, with minimal tuning and "
    "overhead."
)


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=PAPER,
    purpose="White gradients from Kronecker factors that are fitted, not decomposed: products of matrices alone.",
    claim=CLAIM,
    example="precond.optim.PSGDKron(model.parameters(), lr=1e-3)",
    space={"lr": LogUniform(1e-4, 1e-2), "momentum": Choice((0.0, 0.9, 0.95)), "fit_lr": LogUniform(0.01, 0.5)},
    lr=1e-3,
)
def psgd_kron(
    *,
    momentum: float = 0.0,
    fit_lr: float = 0.1,
    fit_beta: float = 0.9,
    damping: float = 1e-9,
    max_size: int = 8192,
    max_skew: float = 1.0,
    init_scale: float | None = None,
    rms: float = 2.0,
    largest: float = 10.0,
) -> Method:
    """PSGD with a Kronecker preconditioner that whitens the gradient.

    ``P = Q^T Q``, ``Q = Q_1 x ... x Q_k``. With ``H = P g``, ``T_i = H_i H_i^T`` its Gram matrix along axis ``i`` of
    length ``n_i`` and ``N`` the number of entries, ``l_i = ||T_i||_2 + N / n_i``,
    ``L_i <- max(fit_beta L_i + (1 - fit_beta) l_i, l_i)``, ``Q_i <- Q_i - fit_lr / L_i (T_i - N / n_i) Q_i``; then
    ``Q_i <- Q_i + a (R Q_i + a R R Q_i / 2)`` with ``R = (Q_i^T - Q_i) / ||Q_i^T - Q_i||_2`` and the best
    ``a <= 1/8`` brings ``Q_i`` nearer to its transpose. Axes longer than ``max_size``, or with
    ``n_i^2 > max_skew N``, have diagonal ``Q_i``. Then ``m <- b m + (1 - b) g`` with
    ``b = min(t / (t + 1), momentum)``, ``u = P m``, scaled down to a root mean square of ``rms`` and cut at
    ``largest``, and ``w <- (1 - lr decay) w - lr u``. ``Q`` starts at ``(mean g^4 + damping^4)^(-1/8)`` times the
    identity.

    Deviations:
        1. The published code is followed, in its default coordinates ``dQ = Q^(1/2) E Q^(3/2)``; the paper has
           triangular ``Q`` and ``dQ = E Q``.
        2. The noise that damps the gradient depends on the number of the step alone, spectral norms are estimated by
           power iterations from the column of largest norm, and the factors are balanced every hundredth step rather
           than with probability 0.01.
        3. ``Q`` starts from the size of each tensor's own gradient; the code has one size for the model.
        4. The fit takes every gradient; the code can be told to leave some out at random.
    """
    return Method(
        momentum=RunningMean(momentum) if momentum else None,
        preconditioner=FittedKron(fit_lr, fit_beta, damping, max_size, max_skew, init_scale),
        smoothing=ClipAmplitude(rms, largest),
        decay=Decoupled(),
        cadence=Cadence(every=100),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=PAPER,
    purpose="White gradients from two triangular factors for each tensor, one dense factor for each vector.",
    claim=CLAIM,
    example="precond.optim.PSGDAffine(model.parameters(), lr=1e-3)",
    space={"lr": LogUniform(1e-4, 1e-2), "momentum": Choice((0.0, 0.9, 0.95)), "fit_lr": LogUniform(0.01, 0.5)},
    lr=1e-3,
)
def psgd_affine(
    *,
    momentum: float = 0.0,
    fit_lr: float = 0.1,
    fit_beta: float = 0.9,
    damping: float = 1e-9,
    max_size: int = 8192,
    max_skew: float = float("inf"),
    init_scale: float | None = None,
    rms: float = 2.0,
    largest: float = 10.0,
) -> Method:
    """PSGD with an affine preconditioner that whitens the gradient.

    ``P = Q^T Q`` with ``Q = R x L``, both upper triangular: for a gradient ``G``, as a matrix, ``P G = L^T L G R^T R``.
    With ``V`` normal, ``H = G + noise V``, ``A = L H R^T``, ``B = L^-T V R^-1``, ``T = A A^T``, ``N = B B^T`` and
    ``l = ||T + N||_2``: ``c <- max(fit_beta c + (1 - fit_beta) l, l)``, ``L <- L - fit_lr / c triu(T - N) L``; and so
    for ``R``, with ``A^T A`` and ``B^T B``. Sides longer than
    ``max_size``, or than ``max_skew`` times the other, have a diagonal factor. Vectors are single rows. Then momentum,
    clipping and step as in `psgd_kron`.

    Deviations:
        1. The published code is followed, the running bound ``c`` being that of its newer triangular form.
        2. What is drawn at a step depends on the number of the step alone, spectral norms are estimated by power
           iterations from the column of largest norm, and factors are balanced every hundredth step rather than with
           probability 0.01.
        3. ``Q`` starts from ``(mean g^4 + damping^4)^(-1/8)`` of each tensor, as in the newer code; the older has
           ``(mean g^2)^(-1/4)``.
        4. Sides beyond ``max_size`` have diagonal factors; the code has no limit unless given one.
        5. Directions are clipped by amplitude, as in the newer code; in the older by their norm, if asked.
    """
    return Method(
        momentum=RunningMean(momentum) if momentum else None,
        preconditioner=FittedAffine(fit_lr, fit_beta, damping, max_size, max_skew, init_scale),
        smoothing=ClipAmplitude(rms, largest),
        decay=Decoupled(),
        cadence=Cadence(every=100),
    )


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=PAPER,
    purpose="White gradients from a diagonal and a correction of low rank for all parameters together.",
    claim=CLAIM,
    example="precond.optim.PSGDLRA(model.named_parameters(), lr=1e-3)",
    space={
        "lr": LogUniform(1e-4, 1e-2),
        "rank": Choice((2, 10, 20)),
        "momentum": Choice((0.0, 0.9, 0.95)),
        "fit_lr": LogUniform(0.01, 0.5),
    },
    lr=1e-3,
)
def psgd_lra(
    *,
    rank: int = 10,
    momentum: float = 0.0,
    fit_lr: float = 0.1,
    fit_beta: float = 0.9,
    damping: float = 1e-9,
    init_scale: float | None = None,
    balance: int = 10,
    rms: float = 2.0,
    largest: float = 10.0,
) -> Method:
    """PSGD with a low-rank approximation that whitens the gradient of all parameters, as one vector.

    ``P = Q^T Q``, ``Q = (I + U V^T) diag(d)``. With ``v`` normal, ``h = g + noise v``, ``a = Q h``, ``b = Q^-T v``,
    ``K = I + V^T U``: ``d <- d - fit_lr / L_d (h Ph - v P^-1 v) d`` entry by entry, and in turn
    ``U <- U - fit_lr / L_u (a a^T - b b^T) V K`` or
    ``V <- V - fit_lr / L_v (I + V U^T) (a a^T - b b^T) U``. The bounds are
    ``L <- max(fit_beta L + (1 - fit_beta) l, l)`` with ``l_d = max |h Ph| + max |v P^-1 v|``,
    ``l_u = |a| |V V^T a| + |b| |V V^T b|``, ``l_v = |a| |U U^T a| + |b| |U U^T b|``. ``d`` starts at
    ``(mean g^4 + damping^4)^(-1/8)``, ``U`` and ``V`` at normal numbers with a Frobenius norm of ``0.1^(1/2)``. Then
    momentum, clipping over all parameters, and step as in `psgd_kron`. State: ``4 (2 rank + 1)`` bytes per parameter.

    Deviations:
        1. ``U`` and ``V`` take turns, rather than by the toss of a coin; what is drawn at a step depends on the number
           of the step alone, so that a run that is resumed repeats itself.
        2. ``U`` and ``V`` are balanced after every ``balance``-th step of the fit; the code balances before each.
        3. The fit takes every gradient; the code can be told to leave some out at random.
    """
    return Method(
        momentum=RunningMean(momentum) if momentum else None,
        preconditioner=FittedLowRank(rank, fit_lr, fit_beta, damping, init_scale),
        smoothing=ClipAmplitude(rms, largest),
        decay=Decoupled(),
        cadence=Cadence(every=balance),
    )
