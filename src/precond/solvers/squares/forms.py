"""The forms in which users have a vector of residuals: torch or NumPy functions, of vectors, dicts or modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor, nn

from precond.core import BadInputError, Work
from precond.solvers.follows import follows_torch
from precond.solvers.layout import Layout
from precond.solvers.modules import ModuleVariables
from precond.solvers.smooth.minimize import Event
from precond.solvers.squares.box import Box, BoxedSquares
from precond.solvers.squares.difference_jacobians import DifferenceJacobian
from precond.solvers.squares.jacobians import AutogradJacobian, GivenJacobian, Jacobian
from precond.solvers.squares.residuals import SquaresObjective


@dataclasses.dataclass(frozen=True)
class ResidualForm:
    """One of the forms that a problem may have.

    Attributes:
        start: The starting point, ``[1, n]``.
        function: The residuals as a function of a flat vector, ``[n] -> [m]``.
        jacobian: Makes the derivatives.
        give: Turns a flat vector ``[n]`` into what a user sees.
        finish: Turns the flat solution into what the result holds.
        torch: The function is one of torch operations, to be differentiated by autograd.
        given: The user's Jacobian as a function of a flat vector, which may return a sparse matrix; ``None`` without.
        tried: Calls that it took to tell torch functions from others.
        box: Bounds on the flat vector; ``None`` without.
    """

    start: Tensor
    function: Callable[[Tensor], Tensor]
    jacobian: Callable[[], Jacobian]
    give: Callable[[Tensor], Any]
    finish: Callable[[Tensor], Any]
    torch: bool
    given: Callable[[Tensor], Any] | None
    tried: int = 0
    box: Box | None = None

    @classmethod
    def of(cls, residual: Any, x0: Any, jac: Any) -> ResidualForm:
        """Read residuals, a starting point and perhaps a Jacobian, in any form."""
        if not callable(residual):
            raise BadInputError(f"residual must be callable, not {type(residual).__name__}")
        if jac is not None and not callable(jac):
            raise BadInputError(f"jac must be callable or None, not {jac!r}")
        if isinstance(x0, nn.Module):
            return cls._module(residual, x0, jac)
        if isinstance(x0, (Tensor, Mapping)):
            if jac is not None and not isinstance(x0, Tensor):
                raise BadInputError("jac works on one vector: pass x0 as a vector, or leave jac out with a dict")
            variables = x0 if isinstance(x0, Tensor) else dict(x0)
            layout = Layout.of(variables)

            def by_torch(flat: Tensor) -> Tensor:
                return _vector(residual(layout.restore(flat)))

            def derivatives() -> Jacobian:
                return AutogradJacobian(by_torch) if jac is None else GivenJacobian(lambda x: jac(layout.restore(x)))

            return cls(
                layout.flatten(variables)[None], by_torch, derivatives, layout.restore, layout.restore, jac is None,
                None if jac is None else lambda x: jac(layout.restore(x)),
            )  # fmt: skip
        try:
            array = np.array(x0, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise BadInputError(f"x0 cannot be read as a vector of numbers ({error})") from error
        tensor = torch.from_numpy(array)
        layout = Layout.of(tensor)

        def give(flat: Tensor) -> Any:
            return layout.named(flat)[""].numpy().copy()

        tried: list[None] = []

        def trial(flat: Tensor) -> Any:
            tried.append(None)
            return residual(layout.restore(flat))

        if jac is None and follows_torch(trial, tensor.reshape(-1)):

            def followed(flat: Tensor) -> Tensor:
                return _vector(residual(layout.restore(flat)))

            start = layout.flatten(tensor)[None]
            return cls(start, followed, lambda: AutogradJacobian(followed), give, give, True, None, len(tried))

        def by_numpy(flat: Tensor) -> Tensor:
            value = residual(give(flat))
            return _vector(value if isinstance(value, Tensor) else torch.from_numpy(_numbers(value, "residual")))

        def given() -> Jacobian:
            if jac is None:
                return DifferenceJacobian()
            return GivenJacobian(lambda x: torch.from_numpy(_numbers(jac(give(x)), "jac")))

        return cls(
            layout.flatten(tensor)[None], by_numpy, given, give, give, False,
            None if jac is None else lambda x: jac(give(x)), len(tried),
        )  # fmt: skip

    @classmethod
    def _module(cls, residual: Any, model: nn.Module, jac: Any) -> ResidualForm:
        if jac is not None:
            raise BadInputError("a module's residuals are differentiated by autograd: leave jac out")
        variables = ModuleVariables.of(model)

        def function(flat: Tensor) -> Tensor:
            return _vector(variables.call(residual, flat))

        return cls(
            variables.start[None], function, lambda: AutogradJacobian(function), variables.layout.restore,
            variables.finish, True, None,
        )  # fmt: skip

    def bounded(self, bounds: Any) -> ResidualForm:
        """Return the problem within bounds, a ``scipy.optimize.Bounds`` or a pair (lower, upper)."""
        box = Box.of(bounds, self.start)
        if box is None:
            return self

        def jacobian() -> Jacobian:
            made = self.jacobian()
            return DifferenceJacobian(bounds=(box.lower, box.upper)) if isinstance(made, DifferenceJacobian) else made

        return dataclasses.replace(self, box=box, jacobian=jacobian)

    def squares(self, work: Work, *, finest: bool = False) -> SquaresObjective:
        """Return the oracle that forms Jacobians, by differences of the highest order if ``finest``."""
        made = self.jacobian()
        if finest and isinstance(made, DifferenceJacobian):
            made.insist()
        more: dict[str, Any] = {"work": work, "twice": self.torch}
        if self.box is None:
            return SquaresObjective(self.function, made, **more)
        return BoxedSquares(self.box, self.function, made, **more)

    def shown(self, callback: Callable[[Event], object]) -> Callable[[Event], object]:
        """Return a callback that shows users points in their own form."""

        def show(event: Event) -> object:
            x, gradient = self.give(event.x[0].clone()), self.give(event.gradient[0].clone())
            return callback(dataclasses.replace(event, x=x, gradient=gradient))

        return show


def _numbers(value: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(value, scipy.sparse.linalg.LinearOperator):
        value = value @ np.eye(value.shape[1])
    array = np.asarray(value.toarray() if scipy.sparse.issparse(value) else value)
    if array.dtype.kind not in "fiu":
        raise BadInputError(f"{name} returned {array.dtype}: return real numbers")
    return np.array(array, dtype=np.float64)


def _vector(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise BadInputError(
            f"residual returned {type(value).__name__}: return a torch tensor, or pass x0 as a NumPy array"
        )
    if not value.is_floating_point():
        raise BadInputError(f"residual returned {value.dtype}: return real numbers")
    return value.reshape(-1)
