"""Whether the derivatives that come with a smooth problem are those of its function, compared at a point."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from precond.core import BadInputError, Work
from precond.solvers.check_derivatives import compare, wrong_slope
from precond.solvers.smooth_forms import SmoothForm


def refuse_wrong_derivatives(form: SmoothForm, products: bool) -> None:
    """Raise `BadInputError` where the user's derivatives at the start disagree with differences."""
    complaint = suspicion(form, form.start)
    if complaint is None and products and form.start.numel():
        oracle = form.objective(Work(), True)
        x = form.start
        v = torch.ones_like(x) / x.shape[1] ** 0.5
        given = oracle.hessian(x).matvec(v)[0]
        found = compare(lambda t: oracle.point(x + t * v).gradient[0], given[:, None], x.new_zeros(1))
        if found is not None:
            complaint = found.message("hessp", "jac").replace(f", {found.place[1]}]", "]")
    if complaint is not None:
        raise BadInputError(complaint)


def misleading(form: SmoothForm) -> bool:
    """Whether the user's gradient at the start is not that of the function, as one slope tells."""
    oracle, x = form.objective(Work(), False), form.start
    return wrong_slope(lambda y: oracle.value(y[None])[None], oracle.point(x).gradient[0], x[0])


def suspicion(form: SmoothForm, x: Tensor) -> str | None:
    """Return what is wrong with the user's gradient at ``x``, if differences tell."""
    oracle = form.objective(Work(), False)
    given = oracle.point(x).gradient
    found = compare(lambda y: oracle.value(y[None])[None], given, x[0])
    return None if found is None else dataclasses.replace(found, place=found.place[1:]).message("jac", "fun")
