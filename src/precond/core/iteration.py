"""Iterations for linear systems: a method yields its progress, whoever runs it decides when to stop."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from precond.core.operator import Operator
from precond.core.result import Status
from precond.core.traits import Need

Map = Callable[[Tensor], Tensor]
M = TypeVar("M")


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where an iteration stands.

    Attributes:
        residual: The method's own estimate of the residual norm that it minimizes or tracks, shape ``[batch]``.
        solution: Returns the current iterate, shape ``[batch, n]``; may cost work, so call it when needed.
        normal: For least squares, the method's own estimate of ``||A^H r||``, shape ``[batch]``.
        failure: Why the iteration cannot go on; ``None`` while it can.
        solved: The iteration found the exact solution of its subspace (a lucky breakdown).
        skipped: Residual norms of the iterations since the last progress, of one system, at which nobody looked.
    """

    residual: Tensor
    solution: Callable[[], Tensor]
    normal: Tensor | None = None
    failure: Status | None = None
    solved: bool = False
    skipped: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One system as compiled loops take it, which can then make several iterations in one call.

    Attributes:
        matrix: Row pointers, columns (both unsigned) and values of the matrix, in CSR form; ``None`` where only its
            products are known.
        sweeps: The preconditioner as `precond.math.sparse.sweeps.two_sweeps` takes it: the arrays of two triangles and
            three diagonals; empty for the identity; ``None`` where only its application is known.
        spend: Told of products and applications, which the loops do not count.
        apply: The preconditioner for a NumPy vector ``[n]``, where that is how it was given; not told to ``spend``.
        product: The same of the matrix.
        adjoint: The same of its adjoint, for least squares.
    """

    matrix: tuple[Any, ...] | None
    sweeps: tuple[Any, ...] | None
    spend: Callable[[int, int], None]
    apply: Callable[[Any], Any] | None = None
    product: Callable[[Any], Any] | None = None
    adjoint: Callable[[Any], Any] | None = None


@dataclasses.dataclass
class Look:
    """When somebody wants to look at an iteration; whoever runs it writes this before each step.

    Attributes:
        level: As soon as the residual norm is not larger.
        steps: After as many iterations at the latest.
    """

    level: float = math.inf
    steps: int = 1


class Iteration(abc.ABC):
    """One iterative method for ``A x = b`` or ``min ||A x - b||``, as a frozen dataclass of hyperparameters.

    Class attributes say what it requires, and a driver refuses before the first product.
    """

    needs: ClassVar[Need] = Need.OPERATOR
    square: ClassVar[bool] = True
    """Solves square systems (False: least squares)."""
    symmetric_operator: ClassVar[bool] = False
    definite_operator: ClassVar[bool] = False
    symmetric_preconditioner: ClassVar[bool] = False
    """Requires a symmetric, positive definite preconditioner."""
    fixed_preconditioner: ClassVar[bool] = True
    """Requires a linear preconditioner that does not change between applications."""
    finishes: ClassVar[bool] = False
    """Ends by itself at the accuracy of the arithmetic, like a direct method: a tolerance does not stop it earlier."""
    preconditioned: ClassVar[bool] = True
    """Takes a preconditioner (False: it is one, and accepts the identity alone)."""
    block: ClassVar[bool] = False
    """Rows are right-hand sides of one system, which share what is found (False: rows never interact)."""
    row_by_row: ClassVar[bool] = False
    """Asks for products and applies the preconditioner with one row at a time, whatever the number of rows."""

    side_by_side: ClassVar[bool] = False
    """Keeps vectors side by side where they are given so: the batch ``[batch, n]`` as a transpose."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Leave compiled loops behind that belong to an ``iterate`` which the class replaces."""
        super().__init_subclass__(**options)
        if "iterate" in vars(cls) and "ahead" not in vars(cls):
            cls.ahead = Iteration.ahead  # type: ignore[method-assign]  # as if the class had written so

    @abc.abstractmethod
    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress at ``x0`` first, then after each iteration; return when nothing more can be done.

        Args:
            operator: The linear map ``A``.
            b: Right-hand sides, shape ``[batch, m]``.
            precondition: Applies ``P`` to a batch of vectors; may return its argument, so do not write to the result.
            x0: Starting points, shape ``[batch, n]``.

        Returns:
            A generator of the progress, which does work only when asked for the next item.
        """

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Do what `iterate` does, where possible by compiled loops that yield when ``look`` says so.

        Args:
            kernel: The same system with one right-hand side, on the CPU.
            look: When to yield; read before each stretch of iterations.
            operator: The linear map ``A``.
            b: Right-hand side, shape ``[1, n]``.
            precondition: Applies ``P`` to a batch of vectors.
            x0: Starting point, shape ``[1, n]``.

        Returns:
            A generator of the progress.
        """
        return self.iterate(operator, b, precondition, x0)


class Recycling(Iteration, Generic[M]):
    """An iteration that can hand what it learned of one system to the next, in a memory of its own kind ``M``."""

    @abc.abstractmethod
    def memory(self) -> M:
        """Return an empty memory."""

    @abc.abstractmethod
    def recycle(self, memory: M, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Do what `iterate` does, with what earlier systems left in ``memory``, and leave in it what this one teaches.

        Args:
            memory: What is handed on; written at any time while the iteration runs.
            operator: The linear map ``A``.
            b: Right-hand sides, shape ``[batch, m]``.
            precondition: Applies ``P`` to a batch of vectors.
            x0: Starting points, shape ``[batch, n]``.

        Returns:
            A generator of the progress, which does work only when asked for the next item.
        """

    def iterate(self, operator: Operator, b: Tensor, precondition: Map, x0: Tensor) -> Iterator[Progress]:
        """Yield the progress with a memory that is empty."""
        return self.recycle(self.memory(), operator, b, precondition, x0)

    def recycle_ahead(
        self, memory: M, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Do what `recycle` does, where possible by compiled loops that yield when ``look`` says so; see `ahead`."""
        return self.recycle(memory, operator, b, precondition, x0)

    def ahead(
        self, kernel: Kernel, look: Look, operator: Operator, b: Tensor, precondition: Map, x0: Tensor
    ) -> Iterator[Progress]:
        """Do what `recycle_ahead` does with a memory that is empty."""
        return self.recycle_ahead(self.memory(), kernel, look, operator, b, precondition, x0)
