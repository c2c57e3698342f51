"""Whether the derivatives that come with a smooth problem are those of its function, compared at a point."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import BadInputError, Certificate, Status, Work
from precond.solvers.check_derivatives import compare, slope_remains, wrong_slope
from precond.solvers.smooth.forms import SmoothForm


def refuse_wrong_derivatives(form: SmoothForm, products: bool) -> None:
    """Raise `BadInputError` where the user's derivatives at the start disagree with differences."""
    complaint = suspicion(form, form.start)
    if complaint is None and products:
        complaint = wrong_products(form, form.start)
    if complaint is not None:
        raise BadInputError(complaint)


def doubted(
    form: SmoothForm, x: Tensor, status: Status, certificate: Certificate, tol: float, *, products: bool, agree: bool
) -> tuple[Status, str]:
    """Return the verdict on a run, and what is wrong with the user's derivatives where it rests on wrong ones.

    Args:
        form: The problem, with derivatives of the user's own.
        x: Where the run ended, ``[1, n]``.
        status: The verdict so far.
        certificate: That of the point; curvatures by wrong products are removed from it.
        tol: Bound on the norm of the gradient.
        products: Products with the Hessian are the user's, too.
        agree: The steps of the run support the gradients.

    Returns:
        The verdict, and a complaint, empty without one.
    """
    failed = status is Status.FAILED_LINE_SEARCH
    wrong = suspicion(form, x) if failed else misleading(form, x, tol, agree) if status.group == "converged" else None
    if wrong is not None:
        return status if failed else Status.FAILED_GRADIENT, wrong
    if not products or not (failed or status is Status.CONVERGED_SADDLE):
        return status, ""
    wrong = wrong_products(form, x)
    if wrong is None or failed:
        return status, wrong or ""
    for told in ("smallest curvature", "largest curvature"):
        certificate.extra.pop(told)
    return Status.CONVERGED_GRADIENT, wrong


def misleading(form: SmoothForm, x: Tensor, tol: float, agree: bool) -> str | None:
    """Return a complaint where the user's gradient at the start or at the solution is not that of the function.

    Two slopes tell: the one along the gradient at the start, unless steps have told as much, and one along a random
    direction at the solution, where the gradient is said to vanish. Each costs two evaluations, which are not counted.
    """
    oracle, start = form.objective(Work(), False), form.start

    def value(y: Tensor) -> Tensor:
        return oracle.value(y[None])[None]

    if not agree and wrong_slope(value, oracle.point(start).gradient[0], start[0]):
        return suspicion(form, start) or ""
    if x.numel() and slope_remains(value, x[0], 10 * tol):
        return suspicion(form, x)
    return None


def suspicion(form: SmoothForm, x: Tensor) -> str | None:
    """Return what is wrong with the user's gradient at ``x``, if differences tell."""
    oracle = form.objective(Work(), False)
    given = oracle.point(x).gradient
    found = compare(lambda y: oracle.value(y[None])[None], given, x[0])
    return None if found is None else dataclasses.replace(found, place=found.place[1:]).message("jac", "fun")


def wrong_products(form: SmoothForm, x: Tensor) -> str | None:
    """Return what is wrong with the user's products with the Hessian at ``x``, if differences of the gradient tell."""
    if not x.numel():
        return None
    oracle = form.objective(Work(), True)
    v = torch.ones_like(x) / x.shape[1] ** 0.5
    given = oracle.hessian(x).matvec(v)[0]
    found = compare(lambda t: oracle.point(x + t * v).gradient[0], given[:, None], x.new_zeros(1))
    return None if found is None else dataclasses.replace(found, place=found.place[:1]).message("hessp", "jac")
