"""Newton systems of programs by conjugate gradients on the null space of the Jacobian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator
from precond.core.materialize import materialize, sparse_entries
from precond.programs.newton import Newton, Solver, SparseNewton

PROBES = 10
ACCURACY = 1e-5
"""Bound on the residual on the null space, relative to the right-hand side."""
FLAT = 1e-12
"""Curvature below this share of the largest seen counts as none."""


class Constraints:
    """The constraint preconditioner ``[[G, J'], [J, -delta I]]`` with a positive diagonal ``G``, factorized.

    Source: N. I. M. Gould, M. E. Hribar, J. Nocedal, *On the solution of equality constrained quadratic programming
    problems arising in optimization*, 2001.

    Args:
        jacobian: Its entries, sparse (CSR) or dense, ``[m, n]``.
        diagonal: ``G``, ``[n]``.
        delta: Shift of the second block; at least a little, relative to ``J G^-1 J'``.
    """

    def __init__(self, jacobian: scipy.sparse.csr_array | Tensor, diagonal: Tensor, delta: float) -> None:
        self.diagonal, self._sparse, self._factor = diagonal, None, None
        self.n, self.m = diagonal.numel(), jacobian.shape[0]
        self.rows = jacobian
        if isinstance(jacobian, Tensor):
            gram = (jacobian / diagonal) @ jacobian.mT
            level = float(gram.diagonal().max()) if self.m else 1.0
            for shift in (delta, max(delta, 1e-12 * level), max(delta, 1e-8 * level)):
                shifted = gram.clone()
                shifted.diagonal().add_(shift)
                self._factor, info = torch.linalg.cholesky_ex(shifted)
                if int(info) == 0:
                    break
        else:
            empty = scipy.sparse.csr_array((self.n, self.n))
            self._sparse = SparseNewton(empty, jacobian, diagonal).attempt(0.0, delta)

    @property
    def usable(self) -> bool:
        """Whether the factorization succeeded."""
        return self._factor is not None or self._sparse is not None

    def solve(self, a: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x`` and ``y`` with ``G x + J' y = a``, ``J x = b`` (zero unless given)."""
        if self._sparse is not None:
            right = a.new_zeros(self.m) if b is None else b
            x, y = self._sparse.solve(torch.cat([a, right])).split([self.n, self.m])
            return x, y
        assert isinstance(self.rows, Tensor)
        assert self._factor is not None
        x = a / self.diagonal
        y = self._multipliers(self.rows @ x if b is None else self.rows @ x - b)
        x = x - (y @ self.rows) / self.diagonal
        off = self.rows @ x if b is None else self.rows @ x - b  # once more, for the rounding of the Gram matrix
        more = self._multipliers(off)
        return x - (more @ self.rows) / self.diagonal, y + more

    def _multipliers(self, v: Tensor) -> Tensor:
        if not self.m:
            return v
        assert self._factor is not None
        return torch.cholesky_solve(v[:, None], self._factor)[:, 0]


class ProjectedNewton(Newton):
    """A Hessian by products and a Jacobian with entries.

    Directions are conjugate on the null space of ``J``, so that no step leaves the linearized constraints; curvature
    that is not positive on the way says that the Hessian must be shifted. The diagonal of the Hessian, which the
    preconditioner needs, is estimated from products with random signs.

    Args:
        hessian: ``[n, n]``.
        jacobian: ``[m, n]``, scaled.
        diagonal: Added to the scaled Hessian, ``[n]``.
        loss: Factor of the Hessian.
        right: The right-hand side that will be asked for, ``[n + m]``: curvature is tested along its solution.
    """

    deltas: ClassVar[tuple[float, ...]] = (0.0,)

    def __init__(
        self, hessian: Operator, jacobian: scipy.sparse.csr_array | Tensor, diagonal: Tensor, loss: float, right: Tensor
    ) -> None:
        self.hessian, self.jacobian, self.diagonal, self.loss, self.right = hessian, jacobian, diagonal, loss, right
        self.inner = 0
        n = diagonal.numel()
        generator = torch.Generator().manual_seed(0)
        signs = (torch.randint(0, 2, (PROBES, n), generator=generator) * 2 - 1).to(diagonal)
        self._curvature = (signs * hessian.matvec(signs)).mean(0) * loss

    @property
    def finite(self) -> bool:
        """Whether everything looked at is finite."""
        entries = self.jacobian if isinstance(self.jacobian, Tensor) else torch.from_numpy(self.jacobian.data)
        return all(bool(torch.isfinite(v).all()) for v in (entries, self._curvature, self.right))

    def product(self, v: Tensor, shift: float) -> Tensor:
        """Return the product of the shifted Hessian with ``[n]``."""
        return self.hessian.matvec(v[None])[0] * self.loss + (self.diagonal + shift) * v

    def attempt(self, shift: float, delta: float) -> Solver | None:
        """Solve for the given right-hand side; ``None`` where the curvature on the way is not positive."""
        level = float(self._curvature.abs().mean())
        g = self._curvature.abs().clamp(min=1e-3 * level) + self.diagonal + shift
        g = torch.where(g > 0, g, torch.ones_like(g))
        preconditioner = Constraints(self.jacobian, g, delta)
        if not preconditioner.usable:
            return None
        solver = ProjectedSolver(self, preconditioner, shift, delta)
        solver.known = solver.run(self.right)
        return solver if solver.known is not None else None


@dataclasses.dataclass
class ProjectedSolver(Solver):
    """A system whose curvature was positive along the solution for one right-hand side.

    Attributes:
        system: The blocks.
        preconditioner: Projects onto the null space of ``J``.
        shift: Shift of the Hessian.
        delta: Shift of the second block.
        known: The solution for the right-hand side of the system.
    """

    system: ProjectedNewton
    preconditioner: Constraints
    shift: float
    delta: float
    known: Tensor | None = None

    def solve(self, b: Tensor) -> Tensor:
        """Return the solution for ``[n + m]``, as far as the curvature stays positive."""
        if self.known is not None and torch.equal(b, self.system.right):
            return self.known
        found = self.run(b, stop=True)
        assert found is not None
        return found

    def run(self, b: Tensor, *, stop: bool = False) -> Tensor | None:
        """Return the solution; where a curvature is not positive ``None``, or if ``stop`` what was found before it."""
        n, m = self.preconditioner.n, self.preconditioner.m
        a, c = b.split([n, m])
        x, _ = self.preconditioner.solve(torch.zeros_like(a), c)
        r = self.system.product(x, self.shift) - a
        g, y = self.preconditioner.solve(r)
        r = self._without(r, y)  # rounding stays small beside what is left (Gould, Hribar, Nocedal, section 5)
        p, rho = -g, float(r @ g)
        first, largest = rho, 0.0
        for _ in range(max(20, 2 * (n - m))):
            if not rho > ACCURACY**2 * first:
                break
            hp = self.system.product(p, self.shift)
            self.system.inner += 1
            curvature, size = float(p @ hp), float(p @ (self.preconditioner.diagonal * p))
            largest = max(largest, curvature / size)
            if not curvature > FLAT * largest * size:
                if stop:
                    break
                return None
            alpha = rho / curvature
            x, r = x + alpha * p, r + alpha * hp
            g, y = self.preconditioner.solve(r)
            r = self._without(r, y)
            now = float(r @ g)
            p, rho = -g + max(now, 0.0) / rho * p, now
        _, multipliers = self.preconditioner.solve(a - self.system.product(x, self.shift))
        return torch.cat([x, multipliers])

    def _without(self, r: Tensor, y: Tensor) -> Tensor:
        rows = self.preconditioner.rows
        if isinstance(rows, Tensor):
            return r - y @ rows
        return r - torch.from_numpy(rows.T @ y.cpu().numpy()).to(r)


def entries_or_dense(jacobian: Operator, rows: Tensor, limit: int) -> scipy.sparse.csr_array | Tensor:
    """Return ``diag(rows) J`` with its entries, sparse where they are at hand.

    Args:
        jacobian: ``[m, n]``.
        rows: ``[m]``.
        limit: Bytes that a dense one may take.

    Returns:
        The matrix.
    """
    matrix = sparse_entries(jacobian)
    if matrix is not None:
        return scaled_rows(matrix, rows)
    return materialize(jacobian, limit) * rows[:, None]


def scaled_rows(matrix: scipy.sparse.csr_array, rows: Tensor) -> scipy.sparse.csr_array:
    """Return ``diag(rows) A`` with the pattern of ``A``."""
    factors = np.repeat(rows.cpu().numpy(), np.diff(matrix.indptr))
    return scipy.sparse.csr_array((matrix.data * factors, matrix.indices, matrix.indptr), shape=matrix.shape)
