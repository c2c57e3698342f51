"""Products given as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from precond.core import BadInputError, Operator, OperatorTraits
from precond.operators.checks import check_shape, working_dtype


class FunctionOperator(Operator):
    """A linear map known by its products only.

    Args:
        matvec: Maps rows ``[batch, n]`` to ``A x`` in rows ``[batch, m]``.
        shape: ``(m, n)``.
        rmatvec: Maps rows ``[batch, m]`` to ``A^H y`` in rows ``[batch, n]``.
        dtype: Type of the vectors.
        device: Where the vectors live.
        symmetric: Whether the map equals its adjoint; then ``rmatvec`` is not needed.
        definite: Whether it is positive definite.
        diagonal: The diagonal, shape ``[n]``, if it is known.
    """

    def __init__(
        self,
        matvec: Callable[[Tensor], Tensor],
        shape: tuple[int, int],
        *,
        rmatvec: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        symmetric: bool | None = None,
        definite: bool | None = None,
        diagonal: Tensor | None = None,
    ) -> None:
        check_shape(shape)
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = working_dtype(dtype)
        self.device = torch.device(device)
        self.traits = OperatorTraits(symmetric, definite)
        self._matvec, self._rmatvec, self._diagonal = matvec, rmatvec, diagonal

    @property
    def has_adjoint(self) -> bool:
        """Whether ``rmatvec`` was given or follows from symmetry."""
        return self._rmatvec is not None or bool(self.traits.symmetric)

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``A x`` for each row of ``x``."""
        return self._checked(self._matvec(x), (len(x), self.shape[0]), "matvec")

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``A^H y`` for each row of ``y``."""
        if self._rmatvec is None:
            return super().rmatvec(y)
        return self._checked(self._rmatvec(y), (len(y), self.shape[1]), "rmatvec")

    def diagonal(self) -> Tensor | None:
        """Return the diagonal if it was given."""
        return self._diagonal

    def _checked(self, product: Tensor, shape: tuple[int, int], name: str) -> Tensor:
        """Return a product, or refuse one that is no tensor of the right shape."""
        if isinstance(product, Tensor) and product.shape == shape:
            return product
        found = f"shape {tuple(product.shape)}" if isinstance(product, Tensor) else f"a {type(product).__name__}"
        raise BadInputError(f"`{name}` returned {found}: it maps tensors of rows, here to shape {shape}")
