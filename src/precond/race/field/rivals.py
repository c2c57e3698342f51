"""Other libraries' methods, raced side by side under the same rules: same trials, a stated space, the same clock."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from precond.core import Choice, Kind, LogUniform, Range

OptimizerMaker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclasses.dataclass(frozen=True)
class Rival:
    """One method of another library.

    Attributes:
        name: As on the command line.
        title: What it is, in a few words.
        runs_on: Kinds of problem.
        build: From settings to what the runner of that kind calls.
        space: What a tuner may vary.
        defaults: The default of every dimension.
        symmetric: Requires a symmetric matrix.
        definite: Requires a positive definite matrix.
    """

    name: str
    title: str
    runs_on: frozenset[Kind]
    build: Callable[[Mapping[str, Any]], Any]
    space: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    symmetric: bool = False
    definite: bool = False


def _torch(cls: str, title: str, low: float, high: float, lr: float, *, decay: bool = False, **fixed: Any) -> Rival:
    space: dict[str, Range] = {"lr": LogUniform(low, high)}
    defaults: dict[str, Any] = {"lr": lr}
    if decay:
        space["weight_decay"] = Choice((0.0, 1e-3, 1e-2, 1e-1))
        defaults["weight_decay"] = 1e-2

    def build(settings: Mapping[str, Any]) -> OptimizerMaker:
        return lambda parameters: getattr(torch.optim, cls)(list(parameters), **fixed, **settings)

    return Rival(f"torch.optim.{cls}", title, frozenset({Kind.TRAINING}), build, space, defaults)


_TRAINING = (
    _torch("SGD", "PyTorch's SGD with momentum 0.9 and Nesterov", 1e-3, 1.0, 1e-2, momentum=0.9, nesterov=True),
    _torch("Adam", "PyTorch's Adam", 1e-4, 1e-1, 1e-3),
    _torch("AdamW", "PyTorch's AdamW", 1e-4, 1e-1, 1e-3, decay=True),
    _torch("NAdam", "PyTorch's NAdam", 1e-4, 1e-1, 2e-3),
    _torch("RAdam", "PyTorch's RAdam", 1e-4, 1e-1, 1e-3),
    _torch("RMSprop", "PyTorch's RMSprop", 1e-4, 1e-1, 1e-3),
    _torch("Adagrad", "PyTorch's Adagrad", 1e-3, 1.0, 1e-2),
    _torch("Adafactor", "PyTorch's Adafactor", 1e-3, 1.0, 1e-2),
)


def _krylov(name: str, title: str, *, symmetric: bool = False, definite: bool = False) -> Rival:
    def build(_: Mapping[str, Any]) -> Callable[[Any], None]:
        def solve(race: Any) -> None:
            import scipy.sparse.linalg

            race.start()
            keyword = "tol" if name == "minres" and "tol" in _parameters(scipy.sparse.linalg.minres) else "rtol"
            x, _ = getattr(scipy.sparse.linalg, name)(
                race.matrix, race.b, maxiter=race.limit, callback=race.callback, **{keyword: race.target / 2}
            )
            race.end(x)

        return solve

    return Rival(f"scipy.{name}", title, frozenset({Kind.LINEAR_SYSTEM}), build, symmetric=symmetric, definite=definite)


def _gmres(settings: Mapping[str, Any]) -> Callable[[Any], None]:
    restart = int(settings.get("restart", 20))

    def solve(race: Any) -> None:
        import scipy.sparse.linalg

        race.start()
        x, _ = scipy.sparse.linalg.gmres(
            race.matrix, race.b, rtol=race.target / 2, restart=restart, maxiter=-(-race.limit // restart),
            callback=lambda x: race.callback(x, restart), callback_type="x",
        )  # fmt: skip
        race.end(x)

    return solve


def _lsqr(_: Mapping[str, Any]) -> Callable[[Any], None]:
    def solve(race: Any) -> None:
        import scipy.sparse.linalg

        race.start()
        x, _, iterations, *_ = scipy.sparse.linalg.lsqr(
            race.matrix, race.b, atol=race.target / 10, btol=race.target / 10, conlim=0, iter_lim=race.limit
        )
        race.end(x, iterations)

    return solve


def _minimizer(name: str, title: str, *, hessian: bool = False, **options: Any) -> Rival:
    def build(settings: Mapping[str, Any]) -> Callable[[Any], None]:
        def solve(race: Any) -> None:
            import scipy.optimize

            race.start()
            derivatives = {"jac": True, "hessp": race.hessp} if hessian else {"jac": True}
            result = scipy.optimize.minimize(
                race.fun, race.x0, method=name, callback=race.callback, **derivatives,
                options={**options, **settings, "maxiter": min(race.limit, 10**6)},
            )  # fmt: skip
            race.end(result.x, str(result.message))

        return solve

    return Rival(f"scipy.{name}", title, frozenset({Kind.SMOOTH}), build)


_LINEAR = (
    _krylov("cg", "SciPy's conjugate gradients, without preconditioner", symmetric=True, definite=True),
    _krylov("minres", "SciPy's MINRES, without preconditioner", symmetric=True),
    _krylov("bicgstab", "SciPy's BiCGSTAB, without preconditioner"),
    Rival(
        "scipy.gmres", "SciPy's restarted GMRES, without preconditioner", frozenset({Kind.LINEAR_SYSTEM}), _gmres,
        {"restart": Choice((10, 20, 50, 100))}, {"restart": 20},
    ),
    Rival("scipy.lsqr", "SciPy's LSQR (seen only at its end)", frozenset({Kind.LEAST_SQUARES}), _lsqr),
)  # fmt: skip

_SMOOTH = (
    _minimizer("L-BFGS-B", "SciPy's L-BFGS-B", ftol=0.0, gtol=0.0, maxfun=10**9),
    _minimizer("BFGS", "SciPy's BFGS", gtol=0.0),
    _minimizer("CG", "SciPy's nonlinear conjugate gradients", gtol=0.0),
    _minimizer("Newton-CG", "SciPy's Newton-CG", hessian=True, xtol=0.0),
    _minimizer("trust-ncg", "SciPy's trust-region Newton-CG", hessian=True, gtol=0.0),
)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in (*_TRAINING, *_LINEAR, *_SMOOTH)}
"""Every rival by name."""


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters
