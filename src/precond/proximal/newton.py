"""The proximal Newton method on working sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from precond.core import Composite, CompositeIteration, Need, Operator, Penalty, Spot, Standing, Status, rows_of
from precond.proximal.model import minimize_model

MEMORY = 2**28
"""Bytes that rows of the Hessian may take between iterations."""
REJECTIONS = 60


@final
@dataclasses.dataclass(frozen=True)
class ProximalNewton(CompositeIteration):
    """Newton steps on the variables that matter: the support, and those that violate optimality most.

    The quadratic model of the working set plus its penalty is minimized, and the step is accepted if the objective
    falls by a share of what the model promised; otherwise the model's Hessian is shifted. The Hessian is evaluated
    anew only where it has predicted the gradient badly, so never for a quadratic function.

    Attributes:
        least: Smallest number of units that may join a working set.
        limit: Largest number of variables of a working set.
        decrease: Share of the promised decrease that is asked for.
        accuracy: Length of the subproblem's slack, relative to that of the working set.
        stale: Error of the predicted gradient, relative to the slack, beyond which the Hessian is evaluated anew.
    """

    needs: ClassVar[Need] = Need.GRADIENT | Need.OPERATOR
    least: int = 10
    limit: int = 1000
    decrease: float = 1e-4
    accuracy: float = 1e-3
    stale: float = 0.1

    def iterate(self, problem: Composite, x0: Tensor, tolerance: float) -> Iterator[Standing]:
        """Yield a point with its gradient after each step."""
        spot = problem.spot(x0)
        yield Standing.at(spot)
        penalty, curvature, shift = problem.penalty, Curvature(problem), 0.0
        eps = torch.finfo(x0.dtype).eps
        while spot.measure > 0:
            places = working_set(penalty, spot, self.least, self.limit)
            hessian = curvature.block(spot, places)
            if not bool(torch.isfinite(hessian).all()):
                yield Standing.at(spot, failure=Status.FAILED_NON_FINITE)
                return
            inner, x, gradient = penalty.at(places), spot.x[places], spot.gradient[places]
            length = float(spot.slack[places].norm())
            target = max(self.accuracy * length, 0.1 * min(tolerance, length))
            base = inner.value(x)
            for _ in range(REJECTIONS):
                safe, shift = shifted(hessian, shift)
                d = minimize_model(safe, gradient, x, inner, target)
                predicted = hessian @ d
                promised = gradient.dot(d) + d.dot(predicted) / 2 + inner.value(x + d).to(x) - base.to(x)
                moved = spot.x.index_copy(0, places, x + d)
                new = problem.spot(moved)
                noise = 10 * eps * float(spot.total.abs())
                fell = bool(new.total <= spot.total + self.decrease * promised.clamp(max=0) + noise)
                near = bool(promised.abs() <= 1e3 * noise) and new.measure < spot.measure
                if (fell and bool(promised <= noise)) or near:
                    break
                shift = max(4 * shift, 0.1 * float(hessian.diagonal().mean().abs()), 1e-8)
            else:
                yield Standing.at(spot, failure=Status.FAILED_LINE_SEARCH)
                return
            error = float((new.gradient[places] - gradient - predicted).norm())
            if error > self.stale * length:
                curvature.forget()
            shift = shift / 8 if shift > 1e-6 * float(hessian.diagonal().mean().abs()) else 0.0
            still = torch.equal(new.x, spot.x)
            spot = new
            yield Standing.at(spot, {"working set": float(len(places)), "shift": shift})
            if still:
                return


def working_set(penalty: Penalty, spot: Spot, least: int, limit: int) -> Tensor:
    """Return the places of a working set, ascending, made of whole units.

    Args:
        penalty: The penalty.
        spot: Where to look.
        least: Smallest number of units that may join those of the support.
        limit: Largest number of variables.

    Returns:
        The places, ``[k]``.
    """
    n = spot.x.numel()
    units = penalty.units(n).to(spot.x.device)
    count = int(units.max()) + 1
    violation = spot.slack.new_zeros(count).index_add(0, units, spot.slack.square())
    held = torch.zeros(count, dtype=torch.bool, device=units.device).index_fill(0, units[penalty.support(spot.x)], True)
    kept = int(held.sum())
    joining = torch.where(held, -1.0, violation)
    join = min(max(least, kept), int((joining > 0).sum()))
    sizes = torch.bincount(units, minlength=count)
    chosen = held.clone()
    chosen[joining.topk(join).indices] = True
    if int(sizes[chosen].sum()) > limit:  # the worst units of all, as many as fit
        order = violation.argsort(descending=True)
        fits = sizes[order].cumsum(0) <= limit
        fits[0] = True
        chosen = torch.zeros_like(held).index_fill(0, order[fits & (violation[order] > 0)], True)
    return chosen[units].nonzero()[:, 0]


class Curvature:
    """The Hessian of a working set; rows that were computed are kept until they are forgotten.

    Args:
        problem: The problem.
    """

    def __init__(self, problem: Composite) -> None:
        self._problem = problem
        self.forget()

    def forget(self) -> None:
        """Drop what is known."""
        self._known: Tensor | None = None  # places of rows
        self._rows: Tensor | None = None
        self._block: tuple[Tensor, Tensor] | None = None

    def block(self, spot: Spot, places: Tensor) -> Tensor:
        """Return the entries of the working set, ``[k, k]``, as known or as they are at ``spot``."""
        if self._block is not None and torch.equal(self._block[0], places):
            return self._block[1]
        if self._block is not None and self._within(places):
            at = torch.searchsorted(self._block[0], places)
            return self._block[1][at][:, at]
        operator: Any = self._problem.hessian(spot.x)
        matrix: Tensor | None = operator.block(places) if hasattr(operator, "block") else None
        if matrix is None:
            matrix = self._from_rows(operator, places)
        matrix = (matrix + matrix.mT) / 2
        self._block = (places, matrix)
        return matrix

    def _within(self, places: Tensor) -> bool:
        assert self._block is not None
        return bool(torch.isin(places, self._block[0]).all())

    def _from_rows(self, operator: Operator, places: Tensor) -> Tensor:
        known = 0 if self._known is None else len(self._known)
        if (len(places) + known) * operator.shape[0] * operator.dtype.itemsize > MEMORY:
            self._known = self._rows = None
        if self._known is None or self._rows is None:
            self._known, self._rows = places, rows_of(operator, places)
        else:
            missing = places[~torch.isin(places, self._known)]
            self._known = torch.cat([self._known, missing])
            self._rows = torch.cat([self._rows, rows_of(operator, missing)])
        order = self._known.argsort()
        at = order[torch.searchsorted(self._known[order], places)]
        return self._rows[at][:, places]


def shifted(hessian: Tensor, shift: float) -> tuple[Tensor, float]:
    """Return ``H + shift I``, with a larger shift if that is not positive semidefinite, and the shift."""
    largest = float(hessian.diagonal().abs().max())
    eye = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    tried = hessian + (shift + 1e-10 * largest) * eye
    if int(torch.linalg.cholesky_ex(tried)[1]) == 0:
        return hessian + shift * eye if shift else hessian, shift
    least = float(torch.linalg.eigvalsh(hessian)[0])
    grown = max(shift, -1.5 * least if least < -1e-8 * largest else 1e-9 * largest)
    return hessian + grown * eye, grown
