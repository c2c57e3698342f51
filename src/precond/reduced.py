"""Systems that depend on parameters, from solutions at a few of them: ``precond.ReducedBasis``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precond.core import BadInputError, Certificate, Operator, PrecondError, Result, Status, Work
from precond.math.dense.growing_qr import GrowingQR
from precond.math.empirical_interpolation import Interpolation, interpolate
from precond.operators import as_operator
from precond.operators.unit_scale import exponent_of, exponent_of_entries, scaled, times_power
from precond.sequence import SolveSequence
from precond.solvers.systems.certify import certify_system
from precond.solvers.systems.forms import read_vectors

_usable = 1e-6  # residual of a solution that may enter the basis although less was asked: the estimate counts
_exact = 1e-13  # error of an interpolation that is exact but for rounding
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

    That estimate is of the interpolated system. By how much its residuals differ from those of ``A(mu)`` and ``b(mu)``
    is measured wherever the training assembles these, and where the interpolation is worst. Per unit of the error of
    the interpolation the largest such difference is added to the estimate, and the interpolation is refined until
    the tolerance holds with it. Where no training parameter has an error of interpolation, as in affine families, only
    parameters without one are vouched for.

    Deviations:
        1. ``a`` minimizes the residual (a Petrov-Galerkin method with test space ``A V``), so that matrices which are
           not definite need no care; the papers use Galerkin's.
        2. The residual is measured in the Euclidean norm, not in one dual to an energy.
        3. Numbers ``lambda`` are shared by the matrix and the right-hand side, with a constant among the coefficients.
        4. The estimate is by QR, which is their stabilized form's purpose by other means.
        5. Each coefficient is measured by its own largest value over the training parameters.

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
        tolerance: Relative residual to reach over the training parameters.
        size: Solutions in the basis at most.
        terms: Matrices at most.
        method: As for ``precond.solve``, for the solutions.
        preconditioner: As for ``precond.solve``.

    Attributes:
        interpolation: Of the coefficients; its ``members`` are numbers of training parameters.
        chosen: Numbers of the training parameters whose solutions make up the basis.
        errors: Largest estimate over the training parameters with so many solutions, by the interpolation of then.
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
        self._scales: tuple[int, int] | None = None
        values = [self._values(mu) for mu in parameters]
        if len({len(each) for each in values}) > 1:
            raise BadInputError("coefficients gives different numbers of values: give the same for every parameter")
        family = torch.stack(values)
        if not bool(torch.isfinite(torch.view_as_real(family) if family.is_complex() else family).all()):
            raise BadInputError("coefficients has values that are not finite: correct it, or leave such parameters out")
        self._parameters, self._size, self._terms = parameters, size, terms
        self._units = _units(family)
        self._family = family / self._units
        self._operators = list[Operator]()
        self._amplification, self._rounding = math.inf, 0.0
        self.chosen, self.errors = list[int](), list[float]()
        self._sequence = SolveSequence(rtol=max(0.01 * tolerance, 1e-14), method=method, preconditioner=preconditioner)
        self.work: Work = self._sequence.work
        self._train()

    def _train(self) -> None:
        """Refine the interpolation and enlarge the basis until both are accurate enough, or as large as is allowed."""
        accuracy, terms = 0.1 * self.tolerance, 0
        while True:
            self.interpolation: Interpolation = interpolate(self._family, tolerance=accuracy, limit=self._terms)
            if terms == len(self.interpolation.members):
                return
            self._take_terms(terms)
            terms = len(self._operators)
            self._enlarge()
            worst = max(range(len(self._family)), key=lambda i: self.interpolation.error(self._family[i]))
            self._compare(*self._assembled(self._parameters[worst]), worst)
            if self._deviation(self._family[worst]) <= 0.5 * self.tolerance:
                return
            accuracy *= 0.1

    def _take_terms(self, known: int) -> None:
        """Assemble the members of the interpolation that are not known, and factorize ``[b_m, A_m v_i]`` anew."""
        for member in self.interpolation.members[known:]:
            operator, right = self._assembled(self._parameters[member])
            if not self._operators:
                self._rights = right.new_empty(0, len(right))
                self.basis = right.new_empty(0, operator.shape[1])
            self._rights = torch.cat([self._rights, right[None]])
            self._operators.append(operator)
        self._lambdas = self.interpolation.coefficients(self._family).to(self._rights.dtype)
        self._factors = GrowingQR(self._rights.shape[1], self._rights.dtype)
        self._factors.append(self._rights)
        for v in self.basis:
            self._factors.append(self._of_terms(v))

    def _of_terms(self, v: Tensor) -> Tensor:
        """Return ``A_m v`` for every member, shape ``[terms, n]``."""
        images = [operator.matvec(v[None].to(operator.dtype)) for operator in self._operators]
        return torch.cat(images).to(self._rights.dtype)

    def _enlarge(self) -> None:
        """Add solutions where the estimate is largest."""
        while len(self.chosen) < min(self._size, len(self._parameters)):
            estimates = [self._reduced(weights)[1] for weights in self._lambdas]
            worst = max(range(len(estimates)), key=estimates.__getitem__)
            if self.chosen:
                self.errors.append(estimates[worst])
            if estimates[worst] <= 0.5 * self.tolerance or worst in self.chosen:
                return
            self._learn(worst)
            self.chosen.append(worst)

    def _compare(self, operator: Operator, right: Tensor, i: int, x: Tensor | None = None) -> None:
        """Measure what the interpolated system of a training parameter lacks, at its solution or at ``x``."""
        weights = self._lambdas[i]
        if x is None:
            x = self._reduced(weights)[0] @ self.basis
        rounded = x.to(self._dtype).to(operator.dtype)
        true = right - operator.matvec(rounded[None])[0]
        lack = torch.linalg.vector_norm(true - weights @ (self._rights - self._of_terms(x)))
        scale = float(torch.linalg.vector_norm(right))
        share, error = float(lack) / scale if scale > 0 else 0.0, self.interpolation.error(self._family[i])
        if error <= _exact:
            self._rounding = max(self._rounding, share)
        elif scale > 0:
            known = self._amplification if math.isfinite(self._amplification) else 0.0
            self._amplification = max(known, share / error)

    def _deviation(self, g: Tensor) -> float:
        """Return by how much the residual may differ from the estimate: infinity beyond all that was measured."""
        error = self.interpolation.error(g)
        return self._rounding + (0.0 if error <= _exact else self._amplification * error)

    def solve(self, mu: Any, *, certify: bool = False) -> Result:
        """Solve for one parameter.

        Args:
            mu: The parameter.
            certify: Assemble ``A(mu)`` and recompute the residual, which costs what the reduction saves.

        Returns:
            The result: converged if the estimate, with what the interpolation may add to it, is within the tolerance;
            with ``certify``, if the recomputed residual is. The certificate holds what was computed.
        """
        g = self._values(mu)
        if len(g) != len(self._units) or not bool(g.isfinite().all()):
            raise BadInputError(f"coefficients of {mu!r}: give {len(self._units) - 1} values, all finite")
        g = g / self._units
        weights = self.interpolation.coefficients(g).to(self._rights.dtype)
        a, estimate = self._reduced(weights)
        x = (a @ self.basis).to(self._dtype)
        extra = {"interpolation error": self.interpolation.error(g), "residual of the interpolated system": estimate}
        quantity = "estimate of the relative residual ||b - Ax|| / ||b||"
        certificate = Certificate(quantity, estimate + self._deviation(g), self.tolerance, extra)
        status = Status.CONVERGED_RESIDUAL if certificate.holds else Status.FAILED_STAGNATION
        if certify:
            operator, right = self._assembled(mu)
            rows = x.to(operator.dtype)[None]
            certificate, status = certify_system(operator, right[None], rows, rtol=self.tolerance, atol=0.0)
            status = status if certificate.holds else Status.FAILED_STAGNATION
        assert self._scales is not None
        x = times_power(x, self._scales[1] - self._scales[0])
        value = x.numpy() if self._numpy else x
        text = f"reduced basis of {len(self.basis)} solutions and {len(self._operators)} matrices"
        return Result(value, status, certificate, Work(), 0, text)

    def _values(self, mu: Any) -> Tensor:
        """Return the coefficients after a constant, in double precision."""
        value = self._coefficients(mu)
        g = (value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))).reshape(-1)
        g = g.to(torch.promote_types(g.dtype, torch.float64))
        return torch.cat([g.new_ones(1), g])

    def _assembled(self, mu: Any) -> tuple[Operator, Tensor]:
        """Return the system of a parameter in units of its own, with products in double precision where possible."""
        A, b = self._assemble(mu)
        row, form = read_vectors(b, "b")
        if len(row) != 1:
            raise BadInputError(f"assemble gave {len(row)} right-hand sides: give one, of shape [n]")
        operator = as_operator(A, dtype=row.dtype)
        self._numpy, self._dtype = form.numpy, torch.promote_types(operator.dtype, row.dtype)
        right = row[0].to(torch.promote_types(self._dtype, torch.float64))
        if self._scales is None:  # the first system sets them
            self._scales = exponent_of_entries(operator), exponent_of(float(right.abs().max()), right.real.dtype)
            self._shape = operator.shape
        elif operator.shape != self._shape:
            raise BadInputError(f"assemble gave matrices {self._shape} and {operator.shape}: all have the same shape")
        return scaled(operator.double(), self._scales[0]), times_power(right, -self._scales[1])

    def _learn(self, i: int) -> None:
        """Solve for a training parameter and append what is new of its solution to the basis."""
        operator, right = self._assembled(self._parameters[i])
        result = self._sequence.solve(operator, right)
        if not (result.converged or result.certificate.value <= max(self.tolerance, _usable)):
            mu = self._parameters[i]
            raise PrecondError(f"no reduced basis: the system for parameter {mu} was not solved ({result.message})")
        v = torch.as_tensor(result.x).reshape(-1).to(self._rights.dtype)
        self._compare(operator, right, i, v)
        size = float(torch.linalg.vector_norm(v))
        for _ in range(2):
            v = v - (self.basis.conj() @ v) @ self.basis
        left = float(torch.linalg.vector_norm(v))
        if left > 1e-14 * size:
            self.basis = torch.cat([self.basis, v[None] / left])
            self._factors.append(self._of_terms(self.basis[-1]))

    def _reduced(self, weights: Tensor) -> tuple[Tensor, float]:
        """Return the combination of least residual, and that residual relative to the right-hand side."""
        terms, size = len(self._operators), len(self.basis)
        factor = self._factors.factor
        right = factor[:, :terms] @ weights
        scale = float(torch.linalg.vector_norm(right))
        rounding = _exact * float(weights.abs() @ torch.linalg.vector_norm(self._rights, dim=1).to(weights.abs()))
        if size == 0 or scale <= rounding:
            return weights.new_zeros(size), 1.0 if scale > rounding else 0.0
        blocks = factor[:, terms:].reshape(-1, size, terms)
        matrix = blocks @ weights
        a = torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:, 0]
        estimate = float(torch.linalg.vector_norm(right - matrix @ a)) / scale
        return a, estimate if math.isfinite(estimate) else math.inf


def _units(family: Tensor) -> Tensor:
    """Return the largest value of each coefficient, or what is rounding beside the largest of all after the first."""
    units = family.abs().amax(0)
    largest = float(units[1:].max()) if len(units) > 1 else 0.0
    return units.clamp(min=2e-15 * largest) if largest > 0 else torch.ones_like(units)


__all__ = ["ReducedBasis"]
