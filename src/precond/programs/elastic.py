"""The least violation of constraints within bounds, as a program of its own."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator, Program, Site
from precond.core.materialize import fits, materialize, sparse_entries
from precond.operators.compressed import Recovered
from precond.operators.dense import DenseOperator
from precond.operators.function import FunctionOperator

DENSE = 2**27
"""Bytes up to which a Jacobian without entries is made dense here."""


class Elastic(Program):
    """Minimize ``||p||^2 / 2 + w'(x - centre)^2 / 2`` subject to ``R c(x) - p = 0`` and bounds on ``x``.

    Its Jacobian ``[R J, -I]`` has full rank everywhere, and every ``x`` has a ``p`` that meets its equations.

    Args:
        program: The program whose violation is to fall.
        rows: Factors ``R`` of its constraints, ``[m]``.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        centre: Where the second term draws to, ``[n]``.
        weight: ``w``, ``[n]``.
    """

    def __init__(
        self, program: Program, rows: Tensor, lower: Tensor, upper: Tensor, centre: Tensor, weight: Tensor
    ) -> None:
        free = torch.full_like(rows, torch.inf)
        super().__init__(torch.cat([lower, -free]), torch.cat([upper, free]), program.equations, program.work)
        self.program, self.rows, self.centre, self.weight = program, rows, centre, weight
        self._known: Site | None = None

    def start(self, site: Site) -> Tensor:
        """Return the point that meets the equations, ``[n + m]``."""
        self._known = site
        return torch.cat([site.x, self.rows * site.constraints])

    def inner(self, site: Site) -> Site:
        """Return what the program is like at the ``x`` of a point of this one."""
        x = site.x[: self.program.variables]
        if self._known is None or not torch.equal(self._known.x, x):
            self._known = self.program.site(x)
        return self._known

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, p = y.split([self.program.variables, self.equations])
        return x, p

    def _loss(self, x: Tensor, p: Tensor) -> Tensor:
        return (p @ p + self.weight @ (x - self.centre).square()) / 2

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, p = self._split(x)
        _, c = self.program._values(x)
        return self._loss(x, p), self.rows * c - p

    def _site(self, x: Tensor) -> Site:
        y, (x, p) = x, self._split(x)
        if self._known is None or not torch.equal(self._known.x, x):
            self._known = self.program._site(x)
        site = self._known
        gradient = torch.cat([self.weight * (x - self.centre), p])
        return Site(y, self._loss(x, p), gradient, self.rows * site.constraints - p, self._beside(site.jacobian))

    def _beside(self, jacobian: Operator) -> Operator:
        """Return ``[R J, -I]``."""
        m, n = jacobian.shape
        entries = sparse_entries(jacobian)
        if entries is not None:
            scaled = scipy.sparse.diags_array(self.rows.cpu().numpy()) @ entries
            whole = scipy.sparse.csr_array(scipy.sparse.hstack([scaled, -scipy.sparse.eye_array(m)]))
            return Recovered(whole, self._like((m, n + m)))
        if fits(jacobian, DENSE):
            dense = materialize(jacobian) * self.rows[:, None]
            return DenseOperator(torch.cat([dense, -torch.eye(m).to(dense)], dim=1), symmetric=False)

        def product(v: Tensor) -> Tensor:
            return jacobian.matvec(v[:, :n]) * self.rows - v[:, n:]

        def transposed(v: Tensor) -> Tensor:
            return torch.cat([jacobian.rmatvec(v * self.rows), -v], dim=1)

        return FunctionOperator(product, (m, n + m), rmatvec=transposed, dtype=self.rows.dtype, device=self.rows.device)

    def hessian(self, site: Site, multipliers: Tensor) -> Operator:
        """Return ``diag(sum_i l_i r_i hess c_i + diag(w), I)``."""
        inner, n, m = self.inner(site), self.program.variables, self.equations
        bent = self.program.hessian(inner, multipliers * self.rows)
        own = self.program.hessian(inner, torch.zeros_like(multipliers))
        beside = torch.cat([self.weight, torch.ones_like(multipliers)])
        entries = sparse_entries(bent), sparse_entries(own)
        if entries[0] is not None and entries[1] is not None:
            padded = scipy.sparse.block_diag([entries[0] - entries[1], scipy.sparse.csr_array((m, m))])
            whole = scipy.sparse.csr_array(padded + scipy.sparse.diags_array(np.asarray(beside.cpu())))
            return Recovered(whole, self._like((n + m, n + m)))

        def product(v: Tensor) -> Tensor:
            x = v[:, :n].contiguous()
            return beside * v + torch.cat([bent.matvec(x) - own.matvec(x), torch.zeros_like(v[:, n:])], dim=1)

        return FunctionOperator(product, (n + m, n + m), dtype=self.rows.dtype, device=self.rows.device, symmetric=True)

    def _like(self, shape: tuple[int, int]) -> Operator:
        return FunctionOperator(torch.clone, shape, dtype=self.rows.dtype, device=self.rows.device)
