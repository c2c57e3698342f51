"""Nonlinear programs of torch functions, differentiated by autograd."""

from __future__ import annotations

import logging
from collections.abc import Callable

import scipy.sparse
import torch
from torch import Tensor

from precond.core import Operator, Site, Work
from precond.core.materialize import materialize
from precond.math.machine.backward import pull, pull_many
from precond.operators.compressed import Compressor
from precond.operators.function import FunctionOperator
from precond.operators.hessian import Hessian, autograd_hessian, or_zero
from precond.solvers.programs.oracle import MatrixJacobian, OracleProgram, SparseJacobian
from precond.solvers.smooth.affine import agrees, split
from precond.solvers.smooth.affine_evaluation import Seen, Split
from precond.solvers.squares.jacobians import AutogradJacobian

logger = logging.getLogger(__name__)

REGRESSION = 2**16
"""Numbers from which on a matrix that the objective sees its variables through is worth being known."""
DENSE = 2**26
"""Bytes up to which a Jacobian by autograd is computed as a matrix; beyond, its products are."""

Scalar = Callable[[Tensor], Tensor]


class TorchProgram(OracleProgram):
    """Objective and constraints as torch functions of a flat vector.

    Args:
        loss: Maps ``[n]`` to 0-d.
        constraints: Maps ``[n]`` to ``[m]``.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        equations: ``m``.
        work: The account to charge.
    """

    def __init__(
        self, loss: Scalar, constraints: Scalar, lower: Tensor, upper: Tensor, equations: int, work: Work | None = None
    ) -> None:
        super().__init__(lower, upper, equations, work)
        self._loss, self._constraints = loss, constraints
        self._jacobian = AutogradJacobian(constraints)
        self._sparse: tuple[Compressor | None, Compressor | None] = None, None
        self._seen: Seen | None = None
        self._watch = self.variables**2 >= REGRESSION // 64
        self._split: Split | None = None

    def compress(self, x: Tensor) -> bool:
        """Look for sparsity of the Jacobian and the Hessian near ``x``; return whether both will have their entries.

        The point is moved a little, so that entries that vanish at it by chance are seen; others are found when a
        check of each matrix by a product fails.
        """
        first, second = Compressor(symmetric=False), Compressor(symmetric=True)
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x) - 0.5
        for size in (0.1, 1e-4, 0.0):
            y = (x + size * (1 + x.abs()) * draw).clamp(self.lower, self.upper)
            site = self._site(y)
            if bool(torch.isfinite(site.loss) and torch.isfinite(site.constraints).all()):
                break
        weights = torch.randn(self.equations, generator=generator, dtype=torch.float64).to(x)
        found = second.learn(self.hessian(site, weights))
        known = self.equations > 0 and first.learn(self._products(y, site.constraints))
        self._sparse = (first if known else None, second if found else None)
        return found and (known or self.equations == 0)

    def share(self, other: TorchProgram) -> None:
        """Use the patterns and the matrix of data that another program of the same functions has found."""
        self._sparse = other._sparse
        self._seen, self._watch = other._seen, False

    def _values_at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._loss(x), self._constraints(x)

    def _site_at(self, x: Tensor) -> Site:
        loss, gradient = self._differentiate(x)
        with torch.no_grad():
            c = self._constraints(x)
        return Site(x, loss, gradient, c, self._linearize(x, c))

    def _differentiate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient of the objective; those of a regression leave its Hessian at hand."""
        found = self._evaluate_split(x) if self._seen is not None else None
        if found is not None:
            return found.loss, found.gradient()
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(leaf)
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True) if loss.requires_grad else (None,)
        loss, gradient = loss.detach(), torch.zeros_like(x) if gradient is None else gradient
        if self._watch:
            self._watch = False
            found = self._evaluate_split(x)
            large = found is not None and found.features.matrix.numel() >= REGRESSION
            if found is not None and large and agrees(found, loss, gradient):
                found.features.prepare()
                self._seen = found.seen
            else:
                self._split = None
        return loss, gradient

    def _evaluate_split(self, x: Tensor) -> Split | None:
        """Return the objective at ``x`` as a function of a matrix times its variables, kept for the Hessian there."""
        self._split = None
        try:
            self._split = split(self._loss, x, self._seen)
        except Exception as error:  # whatever users' functions do when they are watched, they work unwatched
            logger.debug("no affine structure: %s", error)
        if self._split is None:
            self._seen = None
        return self._split

    def _linearize(self, x: Tensor, c: Tensor) -> Operator:
        if not self.equations:
            empty = x.new_zeros(0, len(x))
            return (
                MatrixJacobian(empty)
                if self._sparse[1] is None
                else SparseJacobian(scipy.sparse.csr_array(empty.shape), x)
            )
        if self._sparse[0] is not None:
            return self._sparse[0].recover(self._products(x, c))
        if c.numel() * x.numel() * x.element_size() <= DENSE:
            rows = self._jacobian.at(self._constraints, x, c) if c.numel() else x.new_zeros(0, x.numel())
            return MatrixJacobian(rows)
        return self._products(x, c)

    def _products(self, x: Tensor, c: Tensor) -> Operator:
        """Return the Jacobian by its products, from one graph; each is counted."""
        shape = (c.numel(), x.numel())
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            graph = self._constraints(leaf)
            if not graph.requires_grad:
                return FunctionOperator(
                    lambda v: v.new_zeros(len(v), shape[0]), shape, rmatvec=lambda v: v.new_zeros(len(v), shape[1]),
                    dtype=x.dtype, device=x.device,
                )  # fmt: skip
            seed = torch.zeros_like(graph, requires_grad=True)
            (pulled,) = torch.autograd.grad(graph, leaf, seed, create_graph=True)

        def transposed(v: Tensor) -> Tensor:
            self.work.matvecs += len(v)
            return _batched(graph, leaf, v)

        def product(v: Tensor) -> Tensor:  # the derivative of J'u in u
            self.work.matvecs += len(v)
            return _batched(pulled, seed, v)

        return FunctionOperator(product, shape, rmatvec=transposed, dtype=x.dtype, device=x.device)

    def _hessian_at(self, x: Tensor, multipliers: Tensor) -> Operator:
        """Return the Hessian of the Lagrangian by double backward; one backward pass, then one for each product.

        That of a regression is known by its data: it can be assembled, or sketched, in one pass over them.
        """
        if self._split is not None and self._sparse[1] is None and torch.equal(self._split.leaf.detach(), x):
            return self._of_regression(self._split, x, multipliers)
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            lagrangian = self._loss(leaf) + multipliers @ self._constraints(leaf)
            gradient = torch.zeros_like(x)
            if lagrangian.requires_grad:
                found = torch.autograd.grad(lagrangian, leaf, create_graph=True, allow_unused=True)[0]
                gradient = gradient if found is None else found
        products = autograd_hessian(leaf, gradient, self.work)
        return products if self._sparse[1] is None else self._sparse[1].recover(products)

    def _of_regression(self, found: Split, x: Tensor, multipliers: Tensor) -> Operator:
        bending = self._bending(x, multipliers)

        def product(v: Tensor) -> Tensor:
            return found.product(v) if bending is None else found.product(v) + bending.matvec(v[None])[0]

        def products(v: Tensor) -> Tensor:
            return found.products(v) if bending is None else found.products(v) + bending.matvec(v)

        def completed(matrix: Tensor | None) -> Tensor | None:
            return matrix if matrix is None or bending is None else matrix + materialize(bending)

        return Hessian(
            product, x, self.work, products, lambda coarse: completed(found.assemble(coarse=coarse)),
            approximate=lambda size, seed: completed(found.approximate(size, seed)),
        )  # fmt: skip

    def _bending(self, x: Tensor, multipliers: Tensor) -> Hessian | None:
        """Return the Hessian of ``lambda' c``, whose products are not counted; ``None`` where it is zero."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            pull = multipliers @ self._constraints(leaf)
            if not pull.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(pull, leaf, create_graph=True, allow_unused=True)
        return None if gradient is None or not gradient.requires_grad else autograd_hessian(leaf, gradient, Work())


def _batched(outputs: Tensor, inputs: Tensor, v: Tensor) -> Tensor:
    """Return the products of a Jacobian's transpose with each row of ``v``, one by one where they cannot be batched."""
    if len(v) > 1:
        try:
            return or_zero(pull_many(outputs, inputs, v), inputs.expand(len(v), -1))
        except RuntimeError as error:  # some operations have no batching rule
            logger.info("products with the Jacobian are taken one by one: %s", error)
    rows = [or_zero(pull(outputs, inputs, row), inputs) for row in v]
    return torch.stack(rows) if rows else v.new_zeros(0, inputs.numel())
