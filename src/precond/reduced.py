"""Systems that depend on parameters, from solutions at a few of them: ``precond.ReducedBasis``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Certificate, Operator, PrecondError, Result, Status, Work
from precond.math.empirical_interpolation import Interpolation, interpolate
from precond.operators import as_operator
from precond.sequence import SolveSequence
from precond.solvers.certify import certify_system
from precond.solvers.forms import read_vectors

_usable = 1e-6  # residual of a solution that may enter the basis although less was asked: the estimate counts
Assemble = Callable[[Any], tuple[Any, Any]]


class ReducedBasis:
    """Solves ``A(mu) x = b(mu)`` for any ``mu`` of a family, by combining solutions for a few, with an error estimate.

    The matrix and the right-hand side are known by a black box that assembles them, and depend linearly, up to
    constants, on coefficients ``g(mu)`` that are known: values of a conductivity at quadrature points, for example.
    Empirical interpolation of ``g`` gives parameters ``mu_m`` and numbers ``lambda_m(mu)`` with::

        A(mu) ~ sum_m lambda_m(mu) A(mu_m),        b(mu) ~ sum_m lambda_m(mu) b(mu_m)

    so that nothing but assembled matrices is needed (F. Casenave, A. Ern, T. Lelievre, G. Sylvand, *Nonintrusive EIM*,
    arXiv 1307.4330; F. Casenave, A. Ern, T. Lelievre, arXiv 1401.3684). A greedy choice over the training parameters
    solves where the estimate is largest, and adds that solution to a basis ``V``.

    The estimate is ``||b - A V a|| / ||b||`` without a loss of digits: all ``b_m`` and ``A_m v_i`` are orthonormalized
    once, ``[b_m, A_m v_i] = Q R``, and the residual is ``||R c||`` with ``c = (lambda_m, -lambda_m a_i)``. The usual
    form, ``c^T (R^T R) c``, subtracts numbers near one and cannot fall below the square root of the rounding unit (F.
    Casenave, arXiv 1212.0970). The same ``R`` gives the combination ``a`` of least residual.

    Deviations:
        1. ``a`` minimizes the residual (a Petrov-Galerkin method with test space ``A V``), so that matrices which are
           not definite need no care; the papers use Galerkin's.
        2. The residual is measured in the Euclidean norm, not in one dual to an energy.
        3. Numbers ``lambda`` are shared by the matrix and the right-hand side, with a constant among the coefficients.
        4. The estimate is by QR, which is their stabilized form's purpose by other means.

    >>> import numpy as np
    >>> family = ReducedBasis(
    ...     lambda t: (np.diag([1.0, 2.0, 3.0]) + t * np.eye(3), np.ones(3)), lambda t: [t], np.linspace(0, 1, 11)
    ... )
    >>> family.solve(0.35).x.round(4)
    array([0.7407, 0.4255, 0.2985])

    Args:
        assemble: Maps a parameter to ``(A, b)``, in forms that ``precond.solve`` takes; ``b`` of shape ``[n]``.
        coefficients: Maps a parameter to the numbers ``g(mu)`` on which ``A`` and ``b`` depend linearly.
        parameters: Of training.
        tolerance: Relative residual to reach over the training parameters; interpolation is a tenth as coarse.
        size: Solutions in the basis at most.
        terms: Matrices at most.
        method: As for ``precond.solve``, for the solutions.
        preconditioner: As for ``precond.solve``.

    Attributes:
        interpolation: Of the coefficients; its ``members`` are numbers of training parameters.
        chosen: Numbers of the training parameters whose solutions make up the basis.
        errors: Largest estimate over the training parameters with so many solutions.
        basis: Orthonormal rows, shape ``[size, n]``.
        work: Work of the solutions.

    Raises:
        BadInputError: Parameters or coefficients that cannot be used.
        PrecondError: A system of the training could not be solved.
    """

    def __init__(
        self, assemble: Assemble, coefficients: Callable[[Any], Any], parameters: Sequence[Any], *,
        tolerance: float = 1e-8, size: int = 50, terms: int = 50,
        method: Any = "auto", preconditioner: Any = "auto",
    ) -> None:  # fmt: skip
        if not len(parameters) or not 0 < tolerance < 1 or size < 1 or terms < 1:
            raise BadInputError("a reduced basis needs parameters, 0 < tolerance < 1, size and terms of at least 1")
        self._assemble, self._coefficients, self.tolerance = assemble, coefficients, tolerance
        family = torch.stack([self._family(mu) for mu in parameters])
        if not bool(torch.isfinite(torch.view_as_real(family) if family.is_complex() else family).all()):
            raise BadInputError("coefficients has values that are not finite: correct it, or leave such parameters out")
        self.interpolation: Interpolation = interpolate(family, tolerance=0.1 * tolerance, limit=terms)
        self._operators, self._rights = self._assembled([parameters[m] for m in self.interpolation.members])
        self._lambdas = self.interpolation.coefficients(family).to(self._rights.dtype)
        self.chosen: list[int] = []
        self.errors: list[float] = []
        self.basis = self._rights.new_empty(0, self._rights.shape[1])
        self._columns, self._factor = self._rights.new_empty(0, self._rights.shape[1]), self._rights[:0, :0]
        self._images: list[Tensor] = []
        self._append(self._rights)
        sequence = SolveSequence(rtol=max(0.01 * tolerance, 1e-14), method=method, preconditioner=preconditioner)
        self.work: Work = sequence.work
        while len(self.chosen) < min(size, len(parameters)):
            estimates = [self._reduced(weights)[1] for weights in self._lambdas]
            worst = max(range(len(estimates)), key=estimates.__getitem__)
            if self.chosen:
                self.errors.append(estimates[worst])
            if estimates[worst] <= tolerance or worst in self.chosen:
                break
            self._learn(parameters[worst], sequence)
            self.chosen.append(worst)

    def solve(self, mu: Any, *, certify: bool = False) -> Result:
        """Solve for one parameter.

        Args:
            mu: The parameter.
            certify: Assemble ``A(mu)`` and recompute the residual, which costs what the reduction saves.

        Returns:
            The result: converged if the estimate is within the tolerance, and the error of the interpolation within a
            tenth of it; with ``certify``, if the recomputed residual is. The certificate holds what was computed.
        """
        g = self._family(mu)
        weights = self.interpolation.coefficients(g).to(self._rights.dtype)
        a, estimate = self._reduced(weights)
        x = a @ self.basis
        error = self.interpolation.error(g)
        extra = {"interpolation error": error}
        quantity = "estimate of the relative residual ||b - Ax|| / ||b||"
        certificate = Certificate(quantity, estimate, self.tolerance, extra)
        good = certificate.holds and error <= 0.1 * self.tolerance * 1.01
        status = Status.CONVERGED_RESIDUAL if good else Status.FAILED_STAGNATION
        if certify:
            (operator,), right = self._assembled([mu])
            certificate, status = certify_system(operator, right, x[None], rtol=self.tolerance, atol=0.0)
            status = status if certificate.holds else Status.FAILED_STAGNATION
        value = x.numpy() if self._numpy else x
        text = f"reduced basis of {len(self.basis)} solutions and {len(self._operators)} matrices"
        return Result(value, status, certificate, Work(), 0, text)

    def _family(self, mu: Any) -> Tensor:
        """Return the coefficients with a constant, in double precision."""
        value = self._coefficients(mu)
        g = (value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))).reshape(-1)
        g = g.to(torch.promote_types(g.dtype, torch.float64))
        return torch.cat([g.new_ones(1), g])

    def _assembled(self, parameters: list[Any]) -> tuple[list[Operator], Tensor]:
        operators, rights = [], []
        for mu in parameters:
            A, b = self._assemble(mu)
            row, form = read_vectors(b, "b")
            if len(row) != 1:
                raise BadInputError(f"assemble gave {len(row)} right-hand sides: give one, of shape [n]")
            self._numpy = form.numpy
            operators.append(as_operator(A, dtype=row.dtype))
            rights.append(row.to(operators[-1].dtype))
        dtype = max((r.dtype for r in rights), key=lambda d: (d.is_complex, d.itemsize))
        return operators, torch.cat([r.to(dtype) for r in rights])

    def _learn(self, mu: Any, sequence: SolveSequence) -> None:
        """Solve for a parameter and append what is new of its solution to the basis."""
        A, b = self._assemble(mu)
        result = sequence.solve(A, b)
        if not (result.converged or result.certificate.value <= max(self.tolerance, _usable)):
            raise PrecondError(f"no reduced basis: the system for parameter {mu} was not solved ({result.message})")
        v = torch.as_tensor(result.x).reshape(-1).to(self._rights.dtype)
        size = float(torch.linalg.vector_norm(v))
        for _ in range(2):
            v = v - (self.basis.conj() @ v) @ self.basis
        left = float(torch.linalg.vector_norm(v))
        if not left > 1e-14 * size:
            return
        v = v / left
        self.basis = torch.cat([self.basis, v[None]])
        images = torch.cat([operator.matvec(v[None].to(operator.dtype)) for operator in self._operators])
        self._images.append(images)
        self._append(images.to(self._rights.dtype))

    def _append(self, vectors: Tensor) -> None:
        """Extend ``[b_m, A_m v_i] = Q R`` by columns, each projected twice; dependent ones add no direction."""
        for vector in vectors:
            coefficients = torch.zeros(len(self._columns), dtype=vector.dtype)
            size = float(torch.linalg.vector_norm(vector))
            for _ in range(2):
                along = self._columns.conj() @ vector
                vector = vector - along @ self._columns
                coefficients = coefficients + along
            left = float(torch.linalg.vector_norm(vector))
            fresh = left > 1e-15 * size
            if fresh:
                self._columns = torch.cat([self._columns, vector[None] / left])
            rows, columns = len(self._columns), self._factor.shape[1]
            grown = self._factor.new_zeros(rows, columns + 1)
            grown[: self._factor.shape[0], :columns] = self._factor
            grown[: len(coefficients), columns] = coefficients
            if fresh:
                grown[-1, columns] = left
            self._factor = grown

    def _reduced(self, weights: Tensor) -> tuple[Tensor, float]:
        """Return the combination of least residual, and that residual relative to the right-hand side."""
        terms, size = len(self._operators), len(self.basis)
        right = self._factor[:, :terms] @ weights
        scale = float(torch.linalg.vector_norm(right))
        if size == 0 or scale == 0:
            return weights.new_zeros(size), 1.0 if scale > 0 else 0.0
        blocks = self._factor[:, terms:].reshape(-1, size, terms)
        matrix = blocks @ weights
        a = torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:, 0]
        estimate = float(torch.linalg.vector_norm(right - matrix @ a)) / scale
        return a, estimate if math.isfinite(estimate) else math.inf


__all__ = ["ReducedBasis"]
