"""Convex quadratic programs, and the two ways to prove that one has no solution."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import BadInputError, Certificate, Proof, Status

TOLERANCE = 1e-9
"""Largest defect of a proof, relative to what it proves."""

SHARES = (1e-6, 1e-3, 1e-2, 1e-1)
"""Entries below these shares of the largest are tried as zeros of a proof."""

NEAR = 0.1
"""A candidate whose relative defect is larger is not worth a correction."""
DENSE = 250_000
"""Entries of a matrix up to which a projection is made from its singular vectors."""


class ConvexProgram:
    """Minimize ``x' P x / 2 + q' x`` subject to ``lower <= A x <= upper``.

    Args:
        P: Symmetric, positive semidefinite, ``[n, n]``; ``None`` for linear programs.
        q: The linear term, ``[n]``.
        A: The constraints, ``[m, n]``, dense or SciPy sparse.
        lower: Lower bounds, ``[m]``, ``-inf`` where there are none.
        upper: Upper bounds, ``[m]``, ``inf`` where there are none.
    """

    def __init__(self, P: Any, q: Any, A: Any, lower: Any, upper: Any) -> None:
        self.q, self.lower, self.upper = (
            _vector(v, name) for v, name in ((q, "q"), (lower, "lower"), (upper, "upper"))
        )
        n = self.q.numel()
        self.A = _matrix(A, "A")
        m = self.A.shape[0]
        self.P = scipy.sparse.csr_array((n, n)) if P is None else _matrix(P, "P")
        if self.A.shape[1] != n or self.P.shape != (n, n):
            raise BadInputError(f"q has {n} entries, A is {self.A.shape} and P is {self.P.shape}: they must fit")
        if self.lower.numel() != m or self.upper.numel() != m:
            raise BadInputError(f"A has {m} rows, and there are {self.lower.numel()} and {self.upper.numel()} bounds")
        crossed = (self.lower > self.upper).nonzero()[:, 0]
        if len(crossed):
            i = int(crossed[0])
            raise BadInputError(
                f"row {i} has the lower bound {float(self.lower[i]):g} above the upper one {float(self.upper[i]):g}: "
                "no point meets both"
            )
        if not bool(torch.isfinite(self.q).all()):
            raise BadInputError("q has an entry that is not finite")
        if bool((self.lower.isnan() | self.upper.isnan()).any()):
            raise BadInputError("a bound is not a number: write -inf or inf where there is none")
        if bool(((self.lower == torch.inf) | (self.upper == -torch.inf)).any()):
            raise BadInputError("a lower bound is inf or an upper one -inf: no number lies there")
        asymmetric = abs(self.P - self.P.T)
        if asymmetric.nnz and asymmetric.max() > 1e-8 * abs(self.P).max():
            raise BadInputError("P is not symmetric: give (P + P') / 2, which is the same function")

    def clip(self, z: Tensor) -> Tensor:
        """Return the point nearest to ``z`` ``[m]`` that is within the bounds."""
        return torch.minimum(torch.maximum(z, self.lower), self.upper)

    def recession(self, z: Tensor) -> Tensor:
        """Return the point nearest to ``z`` ``[m]`` among the directions that the bounds allow for ever."""
        z = torch.where(torch.isfinite(self.lower), z.clamp(min=0), z)
        return torch.where(torch.isfinite(self.upper), z.clamp(max=0), z)

    def times(self, x: Tensor) -> Tensor:
        """Return ``A x``, ``[m]``."""
        return torch.from_numpy(self.A @ x.numpy())

    def adjoint(self, y: Tensor) -> Tensor:
        """Return ``A' y``, ``[n]``."""
        return torch.from_numpy(self.A.T @ y.numpy())

    def residuals(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Return what is left of the optimality conditions, in Euclidean norms.

        Args:
            x: A point, ``[n]``.
            y: Multipliers, ``[m]``: positive where an upper bound holds, negative where a lower one does.

        Returns:
            ``"feasibility"``, ``"stationarity"``, ``"complementarity"``, and the ``"objective"``.
        """
        product = self.times(x)
        wrong = torch.where(y > 0, torch.isinf(self.upper), torch.isinf(self.lower)) & (y != 0)
        side = torch.where(y > 0, self.upper, self.lower)
        gap = torch.where(torch.isfinite(side), side - product, 0.0).abs()
        stationarity = torch.from_numpy(self.P @ x.numpy()) + self.q + self.adjoint(y)
        return {
            "feasibility": float((product - self.clip(product)).norm()),
            "stationarity": float(stationarity.norm()),
            "complementarity": float(torch.minimum(gap, y.abs())[~wrong].norm() + y[wrong].norm()),
            "objective": float(x.numpy() @ (self.P @ x.numpy()) / 2 + self.q.dot(x)),
        }

    def shortfall(self, x: Tensor, y: Tensor) -> float:
        """Return the largest of the residuals, each over one and the sizes of what it is made of."""
        left, product = self.residuals(x, y), float(self.times(x).norm())
        terms = (self.q, self.adjoint(y), torch.from_numpy(self.P @ x.numpy()))
        forces = sum(float(term.norm()) for term in terms)
        within = max(left["feasibility"], left["complementarity"]) / (1.0 + product)
        return max(within, left["stationarity"] / (1.0 + forces))

    def infeasible(self, y: Tensor) -> Proof | None:
        """Return a proof that no point is feasible, if ``y`` ``[m]`` is one after a correction.

        For every feasible ``x``, ``y' A x <= u' max(y, 0) + l' min(y, 0)``. If that is negative and ``A' y = 0``, there
        is none; with a defect ``A' y`` there is none of a norm below the ratio of both.
        """
        if not bool(torch.isfinite(y).all()) or not bool(y.abs().max() > 0):
            return None
        weight = float(scipy.sparse.linalg.norm(self.A)) / max(1, min(self.A.shape)) ** 0.5
        near = float(self.adjoint(y).norm()) <= NEAR * weight * float(y.norm())
        for corrected in (y, *(self._corrected(y, share) for share in SHARES if near)):
            y = torch.where((corrected > 0) & torch.isinf(self.upper), 0.0, corrected)
            y = torch.where((y < 0) & torch.isinf(self.lower), 0.0, y)
            size = y.abs().max()
            if not bool(size > 0):
                continue
            y = y / size
            up = torch.where(y > 0, self.upper * y, 0.0).sum()
            support = float(up + torch.where(y < 0, self.lower * y, 0.0).sum())
            scale = float((torch.where(y > 0, self.upper, torch.where(y < 0, self.lower, 0.0)) * y).abs().sum())
            defect = float(self.adjoint(y).norm())
            if support < -1e-9 * scale and support < 0 and defect <= TOLERANCE * -support:
                certificate = Certificate(
                    "||A'y|| / -(u'max(y,0) + l'min(y,0))", defect / -support, TOLERANCE,
                    {"support": support, "defect": defect, "radius": -support / defect if defect else float("inf")},
                )  # fmt: skip
                return Proof(Status.PROVEN_INFEASIBLE, certificate, y.numpy())
        return None

    def unbounded(self, x: Tensor) -> Proof | None:
        """Return a proof that the dual problem has no solution, if ``x`` ``[n]`` is one.

        Along ``x`` the objective falls for ever, ``P x = 0`` and ``q' x < 0``, and bounds allow it.
        """
        if not bool(torch.isfinite(x).all()) or not (x.numel() and bool(x.abs().max() > 0)):
            return None
        product, slope = self.times(x), float(self.q.dot(x))
        near = slope < 0 and float((product - self.recession(product)).norm()) <= NEAR * float(product.norm())
        for corrected in (x, *(self._directed(x, share) for share in SHARES if near)):
            size = float(corrected.abs().max())
            if not size > 0:
                continue
            x = corrected / size
            slope, product = float(self.q.dot(x)), self.times(x)
            curved = float(np.linalg.norm(self.P @ x.numpy()))
            outside = float((product - self.recession(product)).norm())
            bound = TOLERANCE * -slope / max(1.0, float(self.q.norm()))
            if slope < 0 and max(curved, outside) <= bound:
                certificate = Certificate(
                    "largest defect of the direction", max(curved, outside), bound,
                    {"slope": slope, "curvature": curved, "outside": outside},
                )  # fmt: skip
                return Proof(Status.PROVEN_UNBOUNDED, certificate, x.numpy())
        return None

    def _corrected(self, y: Tensor, share: float) -> Tensor:
        """Return the entries of ``y`` above a share of the largest, without their part in the range of ``A``."""
        kept = (y.abs() > share * y.abs().max()).numpy()
        corrected = np.zeros(len(kept))
        corrected[kept] = _without_range(self.A[kept], y.numpy()[kept])
        return torch.from_numpy(corrected)

    def _directed(self, x: Tensor, share: float) -> Tensor:
        """Return ``x`` without its part in the range of ``P`` and of the rows along which it hardly moves."""
        product = self.times(x)
        still = (product - self.recession(product)).abs() > 0
        still |= product.abs() <= share * product.abs().max() if product.numel() else still
        still &= torch.isfinite(self.lower) | torch.isfinite(self.upper)
        rows = scipy.sparse.vstack([self.P, self.A[still.numpy()]], format="csr")
        return torch.from_numpy(_without_range(scipy.sparse.csr_array(rows.T), x.numpy()))


def _without_range(rows: scipy.sparse.csr_array, v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``v`` less its projection on the range of a matrix."""
    if not rows.nnz:
        return v
    if rows.shape[0] * rows.shape[1] <= DENSE:
        basis, sizes, _ = np.linalg.svd(rows.toarray(), full_matrices=False)
        basis = basis[:, sizes > 1e-11 * sizes[0]]
        for _ in range(2):
            v = v - basis @ (basis.T @ v)
        return v
    for _ in range(2):  # once more, as the first projection is as accurate as the iteration
        v = v - rows @ scipy.sparse.linalg.lsqr(rows, v, atol=1e-15, btol=1e-15, iter_lim=10 * sum(rows.shape))[0]
    return v


def _vector(value: Any, name: str) -> Tensor:
    try:
        array = np.array(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"cannot read {name} as a vector of numbers: {error}") from error
    if array.ndim != 1:
        raise BadInputError(f"{name} has shape {array.shape}: give a vector")
    return torch.from_numpy(array)


def _matrix(value: Any, name: str) -> scipy.sparse.csr_array:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if not scipy.sparse.issparse(array):
        array = np.asarray(array, dtype=np.float64)
        if array.ndim != 2:
            raise BadInputError(f"{name} has shape {array.shape}: give a matrix")
    matrix = scipy.sparse.csr_array(array).astype(np.float64)
    if not np.isfinite(matrix.data).all():
        raise BadInputError(f"{name} has an entry that is not finite")
    return matrix
