"""Newton's method with a cubic term, its subproblem solved in a growing Krylov space."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor

from precond.core import Advance, BadInputError, Direction, Need, Objective, Operator, Point, Search, Status


@dataclasses.dataclass
class CubicState:
    """The running weight.

    Attributes:
        sigma: Weight of the cubic term, ``[batch]``, float64.
    """

    sigma: Tensor


@final
@dataclasses.dataclass(frozen=True)
class Cubic(Search[CubicState]):
    """The step that minimizes ``g'd + d'Bd / 2 + (sigma / 3) ||d||^3`` in a Krylov space of ``B`` and ``g``.

    The space grows by Lanczos steps until ``||g + B d + sigma ||d|| d|| <= kappa min(1, ||d||) ||g||``. With ``rho``
    the decrease over the model's: above 0.9 ``sigma`` falls to ``max(min(sigma, ||g||), eps)``, below 0.1 it doubles
    and the trial fails; the Krylov space stays and costs no further products (C. Cartis, N. Gould, Ph. Toint, *Adaptive
    cubic regularisation methods for unconstrained optimization*, part I, 2011). Where values differ by rounding alone,
    a step that shortens the gradient is accepted.

    Attributes:
        sigma: The first weight.
        kappa: Accuracy of the subproblem.
        max_trials: Largest number of trials in one iteration.
    """

    sigma: float = 1.0
    kappa: float = 0.1
    max_trials: int = 60

    needs: ClassVar[Need] = Need.REPLAY | Need.OPERATOR
    preconditioned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.sigma > 0 and math.isfinite(self.sigma)) or not 0 < self.kappa < 1:
            raise BadInputError(f"sigma > 0 and 0 < kappa < 1 are needed, not {self.sigma} and {self.kappa}")

    def init(self, like: Tensor) -> CubicState:
        """Start with the first weight."""
        return CubicState(torch.full((like.shape[0],), self.sigma, dtype=torch.float64, device=like.device))

    def advance(self, state: CubicState, point: Point, direction: Direction, objective: Objective) -> Advance:
        """Raise the weight until a trial is good enough."""
        loss, size = float(point.loss), float(point.gradient.norm())
        eps = torch.finfo(point.loss.dtype).eps
        noise = 10 * eps * abs(loss)
        space = _Space(objective.hessian(point.x), point.gradient, size)
        sigma, broken, level = float(state.sigma), False, False
        for _ in range(self.max_trials):
            step, decrease = space.minimize(sigma, self.kappa)
            x = point.x + step
            if torch.equal(x, point.x):
                break
            trial = objective.point(x)
            new = float(trial.loss)
            finite = math.isfinite(new) and bool(torch.isfinite(trial.gradient).all())
            broken |= not finite
            level = finite and abs(loss - new) <= noise and decrease <= noise
            rho = (loss - new) / decrease if finite and decrease > 0 else -math.inf
            if level:
                rho = 1.0 if trial.gradient.norm() < point.gradient.norm() else -math.inf
            if rho > 0.9:
                sigma = max(min(sigma, size), eps)
            elif rho < 0.1:
                sigma *= 2
            if rho >= 0.1:
                state.sigma.fill_(sigma)
                return Advance(trial)
        if broken:
            return Advance(point, Status.FAILED_NON_FINITE)
        return Advance(point, Status.FAILED_STAGNATION if level else Status.FAILED_LINE_SEARCH)


class _Space:
    """A Krylov space of ``B`` and ``g``, with its tridiagonal matrix.

    Args:
        hessian: ``B``.
        gradient: ``g``, ``[1, n]``.
        size: ``||g||``.
    """

    def __init__(self, hessian: Operator, gradient: Tensor, size: float) -> None:
        self._hessian, self._size = hessian, size
        self._basis = gradient / size
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._scale = 0.0

    @property
    def _complete(self) -> bool:
        return len(self._diagonal) == self._basis.shape[1] or self._beside[-1] == 0

    def minimize(self, sigma: float, kappa: float) -> tuple[Tensor, float]:
        """Return the minimizer of the cubic model, accurate enough, and the decrease of the model."""
        if not self._diagonal:
            self._grow()
        while True:
            u = self._reduced(sigma)
            length = float(u.norm())
            left = self._beside[-1] * abs(float(u[-1]))
            if self._complete or left <= kappa * min(1.0, length) * self._size:
                break
            self._grow()
        matrix = self._tridiagonal()
        decrease = -self._size * float(u[0]) - float(u @ (matrix @ u)) / 2 - sigma / 3 * length**3
        step = u.to(self._basis) @ self._basis[: len(self._diagonal)]
        return step[None], decrease

    def _grow(self) -> None:
        k = len(self._diagonal)
        q = self._basis[k]
        w = self._hessian.matvec(q[None])[0]
        alpha = float(q @ w)
        for _ in range(2):
            w = w - (self._basis @ w) @ self._basis
        beta = float(w.norm())
        self._scale = max(self._scale, abs(alpha) + beta)
        if not beta > 10 * torch.finfo(w.dtype).eps * self._scale or not math.isfinite(beta):
            beta = 0.0
        self._diagonal.append(alpha)
        self._beside.append(beta)
        if beta > 0 and k + 1 < q.numel():
            self._basis = torch.cat([self._basis, w[None] / beta])

    def _tridiagonal(self) -> Tensor:
        beside = torch.tensor(self._beside[:-1], dtype=torch.float64)
        middle = torch.diag(torch.tensor(self._diagonal, dtype=torch.float64))
        return middle + torch.diag(beside, 1) + torch.diag(beside, -1)

    def _reduced(self, sigma: float) -> Tensor:
        """Return ``u`` with ``(T + m I) u = -||g|| e_1`` and ``m = sigma ||u||``, ``T + m I`` positive semidefinite."""
        values, vectors = torch.linalg.eigh(torch.nan_to_num(self._tridiagonal()))
        c = -self._size * vectors[0]
        least = float(values[0])
        low = max(0.0, -least)
        high = max(2 * low, low + math.sqrt(sigma * self._size), math.sqrt(sigma * self._size)) + 1e-300
        while float((c / (values + high)).norm()) * sigma > high:
            high *= 2
        for _ in range(200):
            middle = (low + high) / 2 if low > 0 else high / 2 if high < 1e-8 else (low + high) / 2
            if middle in (low, high):
                break
            if float((c / (values + middle)).norm()) * sigma > middle:
                low = middle
            else:
                high = middle
        u = vectors @ (c / (values + high))
        length, target = float(u.norm()), high / sigma
        if least < 0 and length < target * (1 - 1e-6):  # the hard case: along the lowest eigenvector to full length
            e = vectors[:, 0]
            dot = float(u @ e)
            u = u + (-dot + math.copysign(math.sqrt(dot * dot + target * target - length * length), dot or 1.0)) * e
        return u
