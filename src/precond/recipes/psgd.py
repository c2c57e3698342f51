"""Preconditioned stochastic gradient descent on Lie groups."""

from __future__ import annotations

from precond.core import Builds, Cadence, Choice, Kind, LogUniform, Method, Paper
from precond.filters.clip import ClipAmplitude
from precond.filters.running_mean import RunningMean
from precond.preconditioners.fitted_kron import FittedKron
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled


@recipe(
    builds=Builds.METHOD,
    runs_on=Kind.TRAINING,
    family="matrix",
    paper=Paper(
        title="Curvature-Informed SGD via General Purpose Lie-Group Preconditioners",
        authors="Omead Pooladzandi, Xi-Lin Li",
        year=2024,
        arxiv="2402.04553",
    ),
    purpose="White gradients from Kronecker factors that are fitted, not decomposed: products of matrices alone.",
    claim="Outperforms the state of the art on vision, language and reinforcement learning tasks, with minimal tuning "
    "and overhead.",
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
        2. Nothing is random: the noise that damps the gradient enters through its expectation, spectral norms are
           estimated by power iterations from the column of largest norm, and the factors are balanced every hundredth
           step rather than with probability 0.01.
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
