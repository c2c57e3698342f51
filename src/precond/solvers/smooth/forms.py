"""The forms in which users have a smooth problem: torch functions, dicts, modules, functions with derivatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from precond.core import BadInputError, Objective, Work
from precond.losses.base import Loss
from precond.solvers.follows import follows_torch
from precond.solvers.layout import Layout
from precond.solvers.modules import ModuleVariables
from precond.solvers.smooth.given_objective import GivenObjective
from precond.solvers.smooth.objectives import TorchObjective


@dataclasses.dataclass(frozen=True)
class SmoothForm:
    """One of the forms that a problem may have.

    Attributes:
        start: The starting point, ``[1, n]``.
        give: Turns a flat vector ``[n]`` into what a user sees.
        finish: Turns the flat solution into what the result holds.
        objective: Makes the objective from an account and whether Hessians will be asked for.
        curvature: Hessian products cost no differences of gradients.
        call: Calls a user's function of the variables at a flat vector.
        layout: Names and shapes of the variables.
    """

    start: Tensor
    give: Callable[[Tensor], Any]
    finish: Callable[[Tensor], Any]
    objective: Callable[[Work, bool], Objective]
    curvature: bool
    call: Callable[[Callable[..., Any], Tensor], Any]
    layout: Layout

    @classmethod
    def of(cls, fun: Any, x0: Any, jac: Any, hessp: Any) -> SmoothForm:
        """Read an objective, a starting point and perhaps derivatives, in any form."""
        if not callable(fun):
            raise BadInputError(f"fun must be callable, not {type(fun).__name__}")
        if hessp is not None and not jac:
            raise BadInputError("hessp needs jac, too: give both, or neither with a torch function")
        if isinstance(fun, Loss):
            return cls._structured(fun, x0, jac)
        if isinstance(x0, nn.Module):
            return cls._module(fun, x0, jac)
        if isinstance(x0, Mapping):
            if jac:
                raise BadInputError("jac works on one vector: pass x0 as a vector, or leave jac out with a dict")
            return cls._torch(fun, dict(x0))
        if jac is None or jac is False:
            if isinstance(x0, np.ndarray):
                return cls._seen_as_array(fun, x0)
            return cls._torch(fun, x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0)))
        return cls._given(fun, x0, jac, hessp)

    @classmethod
    def _torch(cls, fun: Any, x0: Any) -> SmoothForm:
        layout = Layout.of(x0)

        def objective(work: Work, curvature: bool) -> Objective:
            return TorchObjective(lambda flat: fun(layout.restore(flat)), curvature=curvature, work=work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(layout.restore(flat))

        return cls(layout.flatten(x0)[None], layout.restore, layout.restore, objective, True, call, layout)

    @classmethod
    def _seen_as_array(cls, fun: Any, x0: np.ndarray[Any, Any]) -> SmoothForm:
        """Read a torch function whose start, and solution, are arrays."""
        tensor = torch.from_numpy(_array(x0))
        form = cls._torch(fun, tensor)
        if not follows_torch(lambda flat: form.call(fun, flat), form.start[0]):
            raise BadInputError(
                "x0 is a NumPy array and jac is missing, and fun is no function of torch operations that autograd "
                "could differentiate: give jac, or write fun with torch operations (x0 may stay an array)"
            )

        def give(flat: Tensor) -> Any:
            return form.layout.named(flat)[""].numpy().copy()

        return dataclasses.replace(form, give=give, finish=give)

    @classmethod
    def _structured(cls, loss: Loss, x0: Any, jac: Any) -> SmoothForm:
        if jac:
            raise BadInputError("this loss knows its own derivatives: leave jac out")
        if isinstance(x0, (Mapping, nn.Module)):
            raise BadInputError(f"this loss is of one vector of {loss.variables} variables: pass x0 as a vector")
        tensor = x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0))
        layout = Layout.of(tensor)  # refuses what cannot be optimized
        if tensor.numel() != loss.variables:
            raise BadInputError(f"x0 has {tensor.numel()} entries and the loss has {loss.variables} variables")
        if tensor.dtype is not loss.dtype:
            tensor = tensor.to(loss.dtype)
            Layout.of(tensor)

        def give(flat: Tensor) -> Any:
            shaped = layout.alone(flat)
            return shaped.numpy() if isinstance(x0, np.ndarray) else shaped

        def objective(work: Work, curvature: bool) -> Objective:
            return loss.objective(work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(layout.restore(flat))

        start = layout.flatten(tensor)[None]
        return cls(start, give, give, objective, True, call, layout)

    @classmethod
    def _module(cls, loss: Any, model: nn.Module, jac: Any) -> SmoothForm:
        if jac:
            raise BadInputError("a module's loss is differentiated by autograd: leave jac out")
        variables = ModuleVariables.of(model)

        def objective(work: Work, curvature: bool) -> Objective:
            return TorchObjective(lambda flat: variables.call(loss, flat), curvature=curvature, work=work)

        return cls(
            variables.start[None], variables.layout.restore, variables.finish, objective, True, variables.call,
            variables.layout,
        )  # fmt: skip

    @classmethod
    def _given(cls, fun: Any, x0: Any, jac: Any, hessp: Any) -> SmoothForm:
        if jac is not True and not callable(jac):
            raise BadInputError(f"jac must be callable, True or None, not {jac!r}")
        tensor = x0 if isinstance(x0, Tensor) else torch.from_numpy(_array(x0))
        layout = Layout.of(tensor)

        def give(flat: Tensor) -> Any:
            shaped = layout.alone(flat)
            return shaped if isinstance(x0, Tensor) else shaped.numpy()

        def objective(work: Work, curvature: bool) -> Objective:
            return GivenObjective(fun, jac, hessp, give=give, work=work)

        def call(function: Callable[..., Any], flat: Tensor) -> Any:
            return function(give(flat.clone()))

        return cls(layout.flatten(tensor)[None], give, give, objective, hessp is not None, call, layout)


def _array(x0: Any) -> np.ndarray:
    """Return an array, numbers and lists as float64; arrays keep their dtype."""
    try:
        array = np.array(x0) if isinstance(x0, (np.ndarray, np.generic)) else np.array(x0, dtype=np.float64)
        torch.from_numpy(np.empty(0, array.dtype))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"x0 cannot be read as a vector of numbers ({error}): pass a tensor or an array") from error
    return array
