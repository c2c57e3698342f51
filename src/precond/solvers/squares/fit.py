"""Attempts at one problem of least squares, by one method after another, until a certificate holds."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from precond.core import Certificate, IncompatibleError, Method, Objective, Point, Status, Work
from precond.math.sparse.graphs import width
from precond.operators.compressed import Compressor
from precond.preconditioners.inverse_of import InverseOf
from precond.solvers.progress_line import ProgressLine
from precond.solvers.smooth.curvature import FEWEST, escape, smallest_curvature
from precond.solvers.smooth.minimize import Event, Outcome, run
from precond.solvers.smooth.objectives import TorchObjective
from precond.solvers.squares.certify import certify_dense, certify_products, measure_dense, measure_products
from precond.solvers.squares.forms import ResidualForm
from precond.solvers.squares.products import ProductSquares, column_norms
from precond.solvers.squares.residuals import SquaresObjective

logger = logging.getLogger(__name__)

PATIENCE = 300
"""Iterations that ``method="auto"`` allows every attempt but the last."""
AHEAD = 1e-2
"""The iteration aims at this share of the tolerance, so that the answer has digits to spare."""
DENSE = 2**28
"""Bytes up to which Jacobians are formed."""
SIDE = 300
"""Variables from which on products with Jacobians are tried first."""
FEW = 32
"""Variables up to which Jacobians are formed however many residuals there are."""
WIDE = 3000
"""Variables from which on Jacobians are not decomposed at all."""
ESCAPES = 5
"""Saddle points that an attempt may leave."""
FEW_PRODUCTS = 4
"""How many times more products all unit vectors must take than the recovery of one sparse Jacobian."""
FILL = 2**29
"""Bytes that sparse factors may take, as foretold by the width of the graph of the variables."""
WIDEST = 500
"""Largest width of that graph; factors hold a dense block of a few times this side."""


def too_large(shape: tuple[int, int], size: int = 8) -> bool:
    """Whether a Jacobian ``[m, n]`` with entries of so many bytes is not to be formed."""
    return shape[1] > WIDE or math.prod(shape) * size > DENSE


class Fit:
    """Attempts at one problem.

    Args:
        form: The problem.
        tol: Bound on what is certified.
        limit: Largest number of iterations of an attempt.
        callback: The user's.

    Attributes:
        best: The attempt with the lowest objective, or the first with a certificate: what it claims, its status, and
            its certificate.
        tried: Names of the methods tried.
        work: The account.
        large: The Jacobian is used by its products alone.
        wide: Its products are tried first.
    """

    best: tuple[Outcome, Status, Certificate]

    def __init__(self, form: ResidualForm, tol: float, limit: int, callback: Callable[[Event], object] | None) -> None:
        self.form, self.tol, self.limit, self.callback = form, tol, limit, callback
        self.work, self.tried = Work(losses=form.tried), list[str]()
        self.large = self._is_large()
        self.wide = form.torch and form.start.numel() > SIDE
        self._seen: SquaresObjective | None = None
        self._first: Tensor | None = None
        self._compressor: Compressor | None = None

    def _is_large(self) -> bool:
        n = self.form.start.numel()
        if n <= (FEW if self.form.torch else SIDE) or not (self.form.torch or self.form.given):
            return False
        if self.form.given is not None:
            self.work.jacobians += 1
            kind = self.form.given(self.form.start[0].clone())
            if isinstance(kind, scipy.sparse.linalg.LinearOperator):
                return True
            return scipy.sparse.issparse(kind) and too_large(kind.shape)
        self.work.losses += 1
        with torch.no_grad():
            m = self.form.function(self.form.start[0]).numel()
        return too_large((m, n), self.form.start.element_size())

    @functools.cached_property
    def sparse(self) -> bool:
        """Whether there are many variables, and the Jacobian has entries that are cheap to factorize with."""
        form, x = self.form, self.form.start
        n = x.numel()
        if n <= SIDE:
            return False
        if form.given is not None:
            self.work.jacobians += 1
            matrix = form.given(x[0].clone())
            return scipy.sparse.issparse(matrix) and _factorizable(scipy.sparse.csr_array(matrix))
        if not form.torch:
            return False
        found = Compressor(symmetric=False)
        draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x) - 0.5
        y = x + 1e-4 * (1 + x.abs()) * draw  # entries that vanish at the start by chance are seen
        try:
            known = found.learn(ProductSquares(form.function, None, work=self.work).products_at(y)[1])
        except RuntimeError as error:  # some operations cannot be differentiated twice
            logger.info("the Jacobian's entries are not known: %s", error)
            return False
        pattern = found.pattern
        if not known or pattern is None or FEW_PRODUCTS * (pattern.count + len(pattern.full)) > n:
            return False
        self._compressor = found
        return _factorizable(pattern.rows)

    def attempt(self, method: Method, label: str, *, products: bool, patient: bool) -> bool:
        """Run a method from the start.

        Args:
            method: What to iterate.
            label: Its name.
            products: Show it products with the Jacobian, rather than the matrix.
            patient: It may take all iterations there are: no other method is left, or none that would do better.

        Returns:
            Whether there is nothing more to try.
        """
        self.tried.append(label)
        limit = self.limit if patient else min(self.limit, PATIENCE)
        start, done, history = self.form.start, 0, list[float]()
        for _ in range(1 + ESCAPES):
            outcome = self._run(method, start, limit - done, self.large or products)
            done += outcome.iterations
            history += outcome.history
            outcome = dataclasses.replace(outcome, iterations=done, history=history)
            claims = outcome.status is Status.CONVERGED_GRADIENT
            outcome, status, certificate = self._certify(outcome)
            below, flat = None, status is Status.CONVERGED_GRADIENT or (claims and not certificate.holds)
            if flat and self.form.torch and start.numel() and self.form.box is None:
                found, below = self._curvature(outcome, certificate)
                status = found if certificate.holds else status
            if below is None or done >= limit:
                break
            start = below
        converged = status.group == "converged"
        if not hasattr(self, "best") or converged or outcome.point.loss < self.best[0].point.loss:
            self.best = (outcome, status, certificate)
        if converged or outcome.status in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
            self.best = (outcome, status, certificate)
            return True
        logger.info("%s ended without a certificate: %s", label, status.reason)
        return False

    def _run(self, method: Method, start: Tensor, limit: int, products: bool) -> Outcome:
        line = ProgressLine(AHEAD * self.tol, limit)
        entries = not isinstance(method.preconditioner, InverseOf)  # which asks for products alone
        objective, scale = self._objective(products, entries)
        callback = None if self.callback is None else _unscaled(self.form.shown(self.callback), scale)
        descend = functools.partial(
            run, objective, method=method, tol=AHEAD * self.tol, enough=self.tol, callback=callback,
            measure=lambda point: _measure(objective, point), progress=line.see,
        )  # fmt: skip
        try:
            outcome = descend(start if scale is None else start * scale, max_iterations=limit)
            if outcome.status.group == "failed" and isinstance(objective, SquaresObjective) and objective.refine():
                after = descend(outcome.point.x, max_iterations=limit - outcome.iterations)
                outcome = dataclasses.replace(
                    after, iterations=outcome.iterations + after.iterations, history=outcome.history + after.history
                )
        finally:
            line.end()
        if isinstance(objective, SquaresObjective):
            self._seen, self._first = objective, objective.first if self._first is None else self._first
        if scale is None:
            return outcome
        return dataclasses.replace(outcome, point=dataclasses.replace(outcome.point, x=outcome.point.x / scale))

    def _curvature(self, outcome: Outcome, certificate: Certificate) -> tuple[Status, Tensor | None]:
        """Return the status of a point whose gradient vanishes, and a lower point where it is no minimum."""
        x, form = outcome.point.x, self.form
        objective = TorchObjective(lambda y: form.function(y).square().sum() / 2, curvature=True, work=Work())
        try:
            point = objective.point(x)
            found = smallest_curvature(objective.hessian(x), x, torch.finfo(x.dtype).eps ** 0.5, FEWEST)
        except (RuntimeError, IncompatibleError) as error:  # no second derivatives, in torch's words or in ours
            logger.info("the curvature at the solution is not known: %s", error)
            return Status.CONVERGED_GRADIENT, None
        self.work.hvps += objective.work.hvps
        certificate.extra["smallest curvature"] = found.smallest
        if not found.negative:
            return Status.CONVERGED_GRADIENT, None
        below = escape(objective, point, found)
        self.work.losses += objective.work.losses
        return Status.CONVERGED_SADDLE, None if below is None else below.x

    def _objective(self, products: bool, entries: bool) -> tuple[Objective, Tensor | None]:
        """Return the oracle, and what variables are multiplied by."""
        form, work = self.form, self.work
        if not products:
            return form.squares(work), None
        recovered = self._compressor if entries and form.given is None and self.sparse else None
        return ProductSquares(
            form.function, form.given, work=work, scale=self._scaling, compressor=recovered
        ), self._scaling  # fmt: skip

    @functools.cached_property
    def _scaling(self) -> Tensor:
        """What makes columns of the Jacobian at the start of similar length, ``[n]``."""
        form = self.form
        norms = column_norms(ProductSquares(form.function, form.given, work=self.work).products_at(form.start)[1])
        top = float(norms.max()) if norms.numel() else 1.0
        return torch.where(norms > 1e-8 * top, norms, top if top > 0 else 1.0)

    def _certify(self, outcome: Outcome) -> tuple[Outcome, Status, Certificate]:
        """Judge an outcome; where only a Newton step is missing, the one after it."""
        form, x = self.form, outcome.point.x
        if self.large:
            again, y = ProductSquares(form.function, form.given, work=Work(), scale=self._scaling), x * self._scaling
            status, certificate = certify_products(*again.products_at(y), y[0], self.tol)
        else:
            spent = Work()
            status, certificate, nearer = certify_dense(form, x, self.tol, spent, self._seen, self._first)
            if nearer is not None and outcome.status not in (Status.STOPPED_USER, Status.STOPPED_INTERRUPT):
                self.work.losses += spent.losses
                self.work.differences += spent.differences
                self.work.jacobians += spent.jacobians
                self.work.hvps += spent.hvps
                status, after, _ = certify_dense(form, nearer, self.tol, Work(), None, self._first)
                if after.holds:
                    point = dataclasses.replace(outcome.point, x=nearer, loss=x.new_tensor(after.extra["loss"]))
                    return dataclasses.replace(outcome, point=point), status, after
        if certificate.holds:
            return outcome, status, certificate
        return (
            outcome,
            (Status.FAILED_STAGNATION if outcome.status.group == "converged" else outcome.status),
            certificate,
        )


def _factorizable(jacobian: scipy.sparse.csr_array) -> bool:
    """Whether ``J'J`` is sparse, and so are its factors, as far as the width of its graph tells."""
    n = jacobian.shape[1]
    each = np.diff(jacobian.indptr).astype(np.int64)
    if float((each**2).sum()) * 12 > FILL:
        return False
    ones = scipy.sparse.csr_array((np.ones(jacobian.nnz), jacobian.indices, jacobian.indptr), shape=jacobian.shape)
    gram = scipy.sparse.csr_array(ones.T @ ones)
    wide = width(gram)
    return wide <= WIDEST and 8.0 * n * wide <= FILL


def _unscaled(callback: Callable[[Event], object], scale: Tensor | None) -> Callable[[Event], object]:
    if scale is None:
        return callback
    return lambda event: callback(dataclasses.replace(event, x=event.x / scale, gradient=event.gradient * scale))


def _measure(objective: Objective, point: Point) -> float:
    if isinstance(objective, ProductSquares):
        return measure_products(*objective.products_at(point.x), point.x[0])
    assert isinstance(objective, SquaresObjective)
    return measure_dense(*objective.linearization(point.x), point.x[0])
