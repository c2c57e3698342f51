"""Preconditioned stochastic gradient descent on Lie groups, with the Newton criterion."""

from __future__ import annotations

from typing import Any, Literal

from precond.core import BadInputError, Builds, Cadence, Choice, Kind, LogUniform, Method, Preconditioner
from precond.filters.running_mean import RunningMean
from precond.preconditioners.fitted_affine import FittedAffine
from precond.preconditioners.fitted_kron import FittedKron
from precond.preconditioners.fitted_low_rank import FittedLowRank
from precond.recipes.psgd import CLAIM, PAPER
from precond.recipes.registry import recipe
from precond.steps.decay import Decoupled

Form = Literal["kron", "affine", "lra"]


@recipe(
    builds=Builds.METHOD,
    runs_on=frozenset({Kind.TRAINING, Kind.SMOOTH}),
    family="matrix",
    paper=PAPER,
    purpose="Newton-like steps without line search: factors fitted to products of the Hessian with random vectors.",
    claim=CLAIM,
    example="precond.optim.PSGDNewton(model.parameters(), lr=0.01)",
    space={
        "lr": LogUniform(1e-3, 1.0),
        "form": Choice(("affine", "kron", "lra")),
        "momentum": Choice((0.0, 0.9)),
        "fit_lr": LogUniform(0.01, 0.5),
    },
    lr=0.01,
)
def psgd_newton(
    *,
    form: Form = "kron",
    rank: int = 10,
    momentum: float = 0.0,
    fit_lr: float = 0.1,
    fit_beta: float = 0.9,
    damping: float = 1e-9,
    max_size: int = 8192,
    max_skew: float | None = None,
    init_scale: float | None = None,
) -> Method:
    """PSGD that approximates the inverse of the Hessian, by its absolute value.

    ``P = Q^T Q`` makes ``E[h^T P h + v^T P^-1 v]`` least for pairs of a normal ``v`` and ``h = H v``: then
    ``P = |H|^-1``, whatever the signs of the eigenvalues of ``H``. The fits are those of
    `psgd_kron` (``T_i - N / n_i`` becoming ``T_i - V_i``, the Gram matrices of ``P h`` and of ``v`` along axis ``i``),
    `psgd_affine` and `psgd_lra`, ``v`` being the probe. ``Q`` starts at
    ``(mean v^2)^(1/4) (mean h^4 + damping^4)^(-1/8)``. Then ``m <- b m + (1 - b) g`` with
    ``b = min(t / (t + 1), momentum)`` and ``w <- (1 - lr decay) w - lr P m``.

    `precond.minimize` makes exact pairs. The optimizer makes them of a second gradient on the same batch, at weights
    that are moved by ``eps^(1/2) v`` with the machine epsilon of the parameters; so its ``step`` needs a closure.

    Args:
        form: ``"kron"``, ``"affine"`` or ``"lra"``: what ``Q`` is made of.
        rank: Rank of ``"lra"``.
        momentum: Decay of the average of gradients; 0 for none.
        fit_lr: Relative step size of the fit.
        fit_beta: Decay of the running bounds.
        damping: Standard deviation of the noise that is thought added to each ``h``.
        max_size: Longer sides get a diagonal factor (not in ``"lra"``).
        max_skew: So do sides beyond this proportion to the rest; the form's own unless given.
        init_scale: Start of ``Q``; by the size of the first pair unless given.

    Returns:
        The method.

    Deviations:
        1. Those of `psgd_kron`, `psgd_affine` and `psgd_lra` but for clipping: there is none, as in the code's default.
        2. Every step fits a pair; the code can be told to leave some out at random.
    """
    fit: dict[str, Any] = {"lr": fit_lr, "beta": fit_beta, "damping": damping, "init_scale": init_scale}
    skew = {} if max_skew is None else {"max_skew": max_skew}
    preconditioner: Preconditioner[Any]
    if form == "kron":
        preconditioner = FittedKron(criterion="newton", max_size=max_size, **skew, **fit)
    elif form == "affine":
        preconditioner = FittedAffine(criterion="newton", max_size=max_size, **skew, **fit)
    elif form == "lra":
        preconditioner = FittedLowRank(rank, criterion="newton", **fit)
    else:
        raise BadInputError(f"form must be 'kron', 'affine' or 'lra', not {form!r}")
    return Method(
        momentum=RunningMean(momentum) if momentum else None,
        preconditioner=preconditioner,
        decay=Decoupled(),
        cadence=Cadence(every=10 if form == "lra" else 100),
    )
