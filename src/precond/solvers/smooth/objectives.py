"""Torch functions as objectives, differentiated by autograd."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import BadInputError, Objective, Operator, Point, Work
from precond.operators.hessian import (
    Hessian,
    autograd_hessian,
    check_twice_differentiable,
    footprint,
)
from precond.solvers.smooth.affine import agrees, split
from precond.solvers.smooth.affine_evaluation import Split

logger = logging.getLogger(__name__)

PRODUCTS_OF_MATRICES = 56
"""Operations of ``A' D A`` in the time of one of ``A' (D (A v))``, eight for the symmetry and the passes: measured."""


class TorchObjective(Objective):
    """A torch function, differentiated by autograd.

    Args:
        fun: Maps a vector ``[n]`` to a tensor of one element, by torch operations.
        curvature: Keep the graph of the last gradient, so that the Hessian there costs no further evaluation.
        work: The account to charge.

    Attributes:
        affine: The function is known to see its variables through one matrix, so that Hessians can be assembled.
    """

    def __init__(self, fun: Callable[[Tensor], Tensor], *, curvature: bool = False, work: Work | None = None) -> None:
        super().__init__(work)
        self._fun = fun
        self._curvature = curvature
        self._graph: tuple[Tensor, Tensor, Tensor] | None = None  # x as it was given, leaf, gradient
        self._split: tuple[Tensor, Split] | None = None  # x as it was given, the evaluation there
        self.affine = False
        self._checked = False
        self._bytes: int | None = None
        self._kept: Point | None = None

    @property
    def assembles(self) -> bool:
        """Whether the function is known to be one of a matrix times its variables."""
        return self.affine

    @property
    def rows(self) -> int:
        """How many rows the matrix has; 0 where there is none."""
        return 0 if self._split is None else self._split[1].z.numel()

    @property
    def assembly(self) -> int:
        """The quotient of operations where there are many blocks to assemble; one is assembled as often as it helps."""
        if self._split is None or self._split[1].places.index.ndim == 1:
            return 0
        places = self._split[1].places.index
        return (places.numel() + len(places)) // PRODUCTS_OF_MATRICES

    def learn(self, x: Tensor) -> bool:
        """Find out, once, whether the function sees its variables through one matrix; counts two gradients.

        Where it does, Hessians can be assembled without products, and evaluations take less from here on. The point
        is kept, so that evaluating there next costs nothing.

        Args:
            x: The point, ``[1, n]``.

        Returns:
            Whether Hessians can be assembled.

        Raises:
            IncompatibleError: The function is not differentiable twice.
        """
        self.work.gradients += 2
        found = None
        try:
            found = split(self.evaluate, x[0], None)
        except Exception as error:  # whatever users' functions do when they are watched, they work unwatched
            logger.debug("no affine structure: %s", error)
        loss, gradient = self._differentiate(x, keep=found is None)
        try:
            self.affine = found is not None and agrees(found, loss, gradient[0])
        except Exception as error:
            logger.debug("no affine structure: %s", error)
        if self.affine and found is not None:
            self._graph, self._split = None, (x, found)
            found.features.prepare()
        else:
            self.hessian(x).matvec(torch.zeros_like(x))
        self._kept = Point(x, loss, gradient)
        return self.affine

    def point(self, x: Tensor) -> Point:
        """Return value and gradient at ``x``; counts one gradient, unless the point was kept."""
        kept, self._kept = self._kept, None
        return kept if kept is not None and kept.x is x else super().point(x)

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` by double backward; counts a gradient unless ``x`` was evaluated last."""
        if self._split is not None and self._split[0] is x:
            return SplitHessian(self._split[1], self.work)
        if self._graph is None or self._graph[0] is not x:
            self.work.gradients += 1
            self._differentiate(x, keep=True)
        _, leaf, gradient = self._graph or (x, x[0], torch.zeros_like(x[0]))  # no graph: there are no variables
        if not self._checked:
            check_twice_differentiable(gradient)
            self._checked = True
        return autograd_hessian(leaf, gradient, self.work, self._memory)

    def _memory(self) -> int:
        """Return roughly the bytes that a product with a Hessian writes, found out where the first one is asked."""
        if self._bytes is None:
            self._bytes = footprint(self._graph[2]) if self._graph is not None else 0
        return self._bytes

    def _value(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.evaluate(x[0])

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._differentiate(x, keep=self._curvature)

    def _differentiate(self, x: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
        known = None if self._split is None else self._split[1].seen
        self._graph = self._split = None  # frees the memory before the next graph is built
        if keep and self.affine:
            try:
                found = split(self.evaluate, x[0], known)
            except Exception as error:  # what is the function's own fault will be raised again below
                logger.debug("the affine structure was lost: %s", error)
                found = None
            self.affine = found is not None
            if found is not None:
                self._split = (x, found)
                return found.loss, found.gradient()[None]
        leaf = x[0].detach().requires_grad_()
        with torch.enable_grad():
            loss = self.evaluate(leaf)
            if not loss.requires_grad:
                if torch.is_inference_mode_enabled():
                    raise BadInputError("autograd is off inside of torch.inference_mode: leave it, or give jac")
                if leaf.numel() == 0:
                    return loss.detach(), torch.zeros_like(x)
                raise BadInputError(
                    "fun returned a value that does not depend on x through torch operations: "
                    "compute it with torch, without .item(), .detach() or NumPy, or give jac"
                )
            seeded = loss * torch.ones_like(loss, requires_grad=True) if keep else loss  # unmasks once-only functions
            (gradient,) = torch.autograd.grad(seeded, leaf, create_graph=keep, allow_unused=True)
        if gradient is None:
            if leaf.numel():
                raise BadInputError("fun's value does not depend on x: it must be computed from its argument")
            gradient = torch.zeros_like(leaf)
        if keep:
            self._graph = (x, leaf, gradient)
        return loss.detach(), gradient.detach()[None]

    def evaluate(self, x: Tensor) -> Tensor:
        """Return the function at ``x`` ``[n]``, 0-d, with its graph, checked and uncounted."""
        try:
            loss = self._fun(x)
        except RuntimeError as error:
            if "leaf Variable that requires grad" in str(error):
                raise BadInputError(f"fun writes to its argument ({error}): begin with x = x.clone()") from error
            raise
        if not isinstance(loss, Tensor):
            raise BadInputError(f"fun returned {type(loss).__name__}: return a torch tensor, or give jac (NumPy form)")
        if loss.numel() != 1 or not loss.is_floating_point():
            raise BadInputError(f"fun returned shape {tuple(loss.shape)} of {loss.dtype}: return one real number")
        return loss.reshape(())


class SplitHessian(Hessian):
    """The Hessian of a function that sees its variables through one matrix.

    Args:
        found: The evaluation at the point.
        work: The account to charge.
    """

    def __init__(self, found: Split, work: Work) -> None:
        super().__init__(found.product, found.leaf.detach(), work, None, lambda coarse: found.assemble(coarse=coarse))
        self._found = found

    def block(self, index: Tensor) -> Tensor | None:
        """Return the entries of some rows and columns, ``[k, k]``, counted as ``k`` products, if there is a way."""
        block = self._found.block(index)
        if block is not None:
            self._work.hvps += len(index)
        return block
