"""precond: the preconditioning literature as short compositions of a few parts, and a race to compare them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond.eigenvalues import eigsh as eigsh
    from precond.fixed_points import fixed_point as fixed_point
    from precond.linear import lstsq as lstsq
    from precond.linear import solve as solve
    from precond.memory import estimate_memory as estimate_memory
    from precond.reduced import ReducedBasis as ReducedBasis
    from precond.residuals import least_squares as least_squares
    from precond.sequence import SolveSequence as SolveSequence
    from precond.smooth import minimize as minimize

__version__ = "0.1.0"

_functions = {
    "eigsh": "precond.eigenvalues",
    "solve": "precond.linear",
    "lstsq": "precond.linear",
    "ReducedBasis": "precond.reduced",
    "SolveSequence": "precond.sequence",
    "minimize": "precond.smooth",
    "estimate_memory": "precond.memory",
    "least_squares": "precond.residuals",
    "fixed_point": "precond.fixed_points",
}
_packages = (
    "catalogue", "core", "filters", "fixed", "krylov", "losses", "math", "operators", "optim", "penalties",
    "preconditioners", "problems", "programs", "proximal", "race", "recipes", "scipy", "sketches", "solvers",
    "splittings", "steps", "storage",
)  # fmt: skip

__all__ = [
    "ReducedBasis", "SolveSequence", "__version__", "eigsh", "estimate_memory", "fixed_point", "least_squares", "lstsq",
    "minimize", "solve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package stays cheap."""
    if name in _functions:
        found = globals()[name] = getattr(importlib.import_module(_functions[name]), name)  # not asked for again
        return found
    if name in _packages:
        return importlib.import_module(f"precond.{name}")
    raise AttributeError(f"module 'precond' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, *_packages])
