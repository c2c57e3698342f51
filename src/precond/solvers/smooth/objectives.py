"""Objectives in the forms that users have them: torch functions, and functions with their own derivatives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Objective, Operator, Point, Work
from precond.operators.hessian import (
    Hessian,
    autograd_hessian,
    check_twice_differentiable,
    difference_hessian,
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


class GivenObjective(Objective):
    """A function with derivatives of its own, in NumPy or torch.

    Args:
        fun: Maps a point to a number; to a pair of number and gradient when ``jac`` is ``True``.
        jac: Maps a point to its gradient.
        hessp: Maps a point and a vector to the Hessian's product with it; ``None`` takes differences of gradients.
        give: Turns a flat tensor ``[n]`` into what the functions take.
        work: The account to charge.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Callable[..., Any] | bool,
        hessp: Callable[..., Any] | None = None,
        *,
        give: Callable[[Tensor], Any],
        work: Work | None = None,
    ) -> None:
        super().__init__(work)
        self._fun, self._jac, self._hessp, self._give = fun, jac, hessp, give
        self._last: tuple[Tensor, Tensor] | None = None  # x as it was given, gradient

    @property
    def exact(self) -> bool:
        """Whether Hessian products are the user's own rather than differences."""
        return self._hessp is not None

    def hessian(self, x: Tensor) -> Operator:
        """Return the Hessian at ``x`` from ``hessp``, or by differences that are counted as gradients, too.

        Those cost one gradient more unless ``x`` was evaluated last.
        """
        hessp = self._hessp
        if hessp is None:
            return self._differences(x)
        given = self._give(x[0].clone())
        return Hessian(lambda v: self._vector(hessp(given, self._give(v)), "hessp", v), x[0], self.work)

    def slope(self, x: Tensor) -> Tensor:
        """Return the gradient at ``x``, ``[n]``, alone where a function of the user's has it alone; uncounted."""
        if callable(self._jac):
            return self._vector(self._jac(self._give(x.clone())), "jac", x)
        return self._value_and_gradient(x[None])[1][0]

    def _differences(self, x: Tensor) -> Operator:
        last = self._last
        base = last if last is not None and last[0] is x else (x, self.point(x).gradient)

        def gradient_at(y: Tensor) -> Tensor:
            gradient = self.point(y[None]).gradient[0]
            self._last = base  # for another Hessian at this point
            return gradient

        return difference_hessian(gradient_at, x[0], base[1][0], self.work)

    def _value(self, x: Tensor) -> Tensor:
        loss = self._fun(self._give(x[0].clone()))
        return self._number(_pair(loss)[0] if self._jac is True else loss, x)

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given = self._give(x[0].clone())  # a copy: users' functions may write to their argument
        if callable(self._jac):
            loss, gradient = self._fun(given), self._jac(self._give(x[0].clone()))
        else:
            loss, gradient = _pair(self._fun(given))
        self._last = x, self._vector(gradient, "jac", x[0])[None]
        return self._number(loss, x), self._last[1]

    @staticmethod
    def _number(loss: Any, x: Tensor) -> Tensor:
        if isinstance(loss, float):
            return torch.scalar_tensor(loss, dtype=torch.float64, device=x.device)
        exact = torch.float64 if isinstance(loss, int) else None  # torch reads Python's numbers in single
        try:
            loss = torch.as_tensor(loss, dtype=exact, device=x.device).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInputError(f"fun returned {type(loss).__name__}: return one real number") from error
        if loss.numel() != 1 or loss.is_complex():
            raise BadInputError(f"fun returned shape {tuple(loss.shape)} of {loss.dtype}: return one real number")
        return loss.reshape(()).to(torch.promote_types(loss.dtype, x.dtype))

    @staticmethod
    def _vector(value: Any, name: str, like: Tensor) -> Tensor:
        exact = torch.float64 if isinstance(value, (list, tuple, int, float)) else None  # see `_number`
        try:
            value = torch.as_tensor(value, dtype=exact).detach().to(like)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInputError(
                f"{name} returned {type(value).__name__}: it must return {like.numel()} numbers like x"
            ) from error
        if value.numel() != like.numel():
            raise BadInputError(
                f"{name} returned shape {tuple(value.shape)}: it must have {like.numel()} entries like x"
            )
        return value.reshape(-1).clone()


def _pair(returned: Any) -> Any:
    """Return value and gradient from a function that returns both."""
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise BadInputError(
            f"fun returned {type(returned).__name__}: with jac=True it returns the value and the gradient"
        )
    return returned
