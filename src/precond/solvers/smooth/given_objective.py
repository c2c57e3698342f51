"""Functions with derivatives of their own as objectives, in NumPy or torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Objective, Operator, Work
from precond.operators.hessian import Hessian, difference_hessian


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
