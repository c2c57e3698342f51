"""Cases of conformance: runs that are saved and go on, elsewhere or in another order."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from conformance_case import SHAPES, Broken, Maker, Squares, case, same, take_step


def _resumed(
    make: Maker,
    through: Callable[[Any], Any],
    order: Sequence[str] | None = None,
    between: Callable[[Squares], None] | None = None,
) -> None:
    """Break unless a run that is saved after some steps goes on bit for bit in another optimizer."""
    run = Squares(make)
    for k in range(6):
        run.step(**({"wide": None} if k == 4 else {}))
    saved = through(run.optimizer.state_dict())
    weights, clock = run.snapshot(), run.clock
    run.steps(8)
    again = Squares(make, order=order)
    with torch.no_grad():
        for name, param in again.params.items():
            param.copy_(weights[name])
    if between is not None:
        between(again)
    again.optimizer.load_state_dict(saved)
    if between is not None:
        for param in again.params.values():
            param.data = param.data.float()
    again.clock = clock
    again.steps(8)
    again.finite()
    same(run.snapshot(), again.snapshot())


def _through_disk(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@case("saving", "state_dict")
def in_memory(make: Maker) -> None:
    """Saved mid-run and continued, bit for bit."""
    _resumed(make, copy.deepcopy)


@case("saving", "weights_only")
def on_disk(make: Maker) -> None:
    """Through `torch.save` and ``torch.load(weights_only=True)``."""
    _resumed(make, _through_disk)


@case("saving", "other order")
def other_order(make: Maker) -> None:
    """Into a model that lists its parameters in another order."""
    _resumed(make, copy.deepcopy, order=list(reversed(SHAPES)))


@case("saving", "moved")
def moved(make: Maker) -> None:
    """Loaded while the model is elsewhere (on the GPU if there is one, else in float64), which then comes back."""

    def away(run: Squares) -> None:
        for param in run.params.values():
            param.data = param.data.cuda() if torch.cuda.is_available() else param.data.double()

    def back_home(state: Any) -> Any:
        return copy.deepcopy(state)

    if torch.cuda.is_available():
        _moved_to_the_device(make)
    else:
        _resumed(make, back_home, between=away)


def _moved_to_the_device(make: Maker) -> None:
    run = Squares(make)
    run.steps(4)
    saved = copy.deepcopy(run.optimizer.state_dict())
    for param in run.params.values():
        param.data, param.grad = param.data.cuda(), None
    run.targets = {name: target.cuda() for name, target in run.targets.items()}
    run.optimizer.load_state_dict(saved)
    before = run.loss()
    for _ in range(8):

        def closure() -> Tensor:
            for name, param in run.params.items():
                param.grad = param.detach() - run.targets[name]
            return torch.tensor(run.loss())

        take_step(run.optimizer, closure)
    run.finite()
    if not run.loss() < before:
        raise Broken("no progress")


@case("saving", "converted mid-run")
def converted(make: Maker) -> None:
    """``model.double()`` between two steps."""
    run = Squares(make)
    run.steps(4)
    for param in run.params.values():
        param.data, param.grad = param.data.double(), None
    run.falls()


@case("saving", "deepcopy")
def copied(make: Maker) -> None:
    """A deep copy of parameters and optimizer goes on alone, and as the original does."""
    run = Squares(make)
    run.steps(5)
    other = copy.deepcopy(run)
    kept = run.snapshot()
    other.steps(7)
    same(kept, run.snapshot(), "the copy moved the original")
    run.steps(7)
    same(run.snapshot(), other.snapshot())
