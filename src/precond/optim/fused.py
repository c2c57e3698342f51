"""Whole steps in as few passes over memory as may be, as a table keyed by the types of the parts of a method.

An entry computes what the parts compute, on the same state, to rounding; tests hold it to that.
A method without an entry takes the ordinary path, and so does one with something in a slot that the entry does not
know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from precond.core import Constant, Method
from precond.filters.adan import DifferenceMomentum
from precond.filters.ema import EMA
from precond.filters.heavy_ball import HeavyBall
from precond.filters.lion import Interpolation
from precond.optim.fused_estimates import behind, estimate
from precond.optim.fused_joint import adamw, sgd
from precond.optim.fused_portions import adan, lion
from precond.optim.whole_step import Fused
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.identity import Identity
from precond.preconditioners.observing import Observing
from precond.preconditioners.rotate import Rotate
from precond.preconditioners.sign import Sign
from precond.steps.decay import Coupled, Decoupled, DecoupledAfter, Proximal
from precond.steps.scaled import Scaled


def fused_step(method: Method, dims: Sequence[int]) -> Fused | None:
    """Return the fused step of a method for tensors with axes of these lengths, if there is one.

    Where a basis turns none of them, as that of SOAP does not turn vectors, what runs in it takes the step.
    """
    rotate = method.preconditioner
    if isinstance(rotate, Rotate) and not rotate.basis.turns(dims):
        inner = fused_step(dataclasses.replace(method, preconditioner=rotate.inner), dims)
        return None if inner is None else inner.within(lambda state: state.inner)
    if method.estimator is not None:
        estimated = estimate(method.estimator)
        bare = dataclasses.replace(method, estimator=None)
        counted = isinstance(method.preconditioner, Diagonal)
        step = fused_step(bare, dims) if estimated is not None and counted else None
        return None if step is None or estimated is None else behind(step, estimated)
    if method.smoothing is not None:
        return None
    if method.clip is not None or method.clip_estimates is not None:
        return None
    if method.storage.encodes:
        return None
    if type(method.step) not in (Constant, Scaled):
        return None
    entry = _TABLE.get((type(method.momentum), type(method.preconditioner), type(method.decay)))
    step = None if entry is None else entry(method)
    if step is None or not isinstance(method.step, Scaled):
        return step
    return step.scaled(method.step.by)


_TABLE: dict[tuple[type, type, type], Callable[[Method], Fused | None]] = {
    (EMA, Diagonal, Decoupled): adamw,
    (EMA, Diagonal, DecoupledAfter): adamw,
    (Interpolation, Sign, Decoupled): lion,
    (DifferenceMomentum, Observing, Proximal): adan,
    (HeavyBall, Identity, Coupled): sgd,
    (type(None), Identity, Coupled): sgd,
}
