"""Whether a contestant can run on a problem: asked before the first trial, answered with the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from precond.core import BadInputError, Problem

if TYPE_CHECKING:
    from precond.race.field.contestant import Contestant


def refusal(problem: Problem, contestant: Contestant, device: torch.device) -> str:
    """Return why a contestant cannot run on a problem, with what would work; empty when it can."""
    from precond.race.runners import runner_for

    return runner_for(problem.kind).refusal(problem, contestant, device)


def check_device(name: str) -> torch.device:
    """Return the device called ``name``, or say what is there instead."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInputError(f"unknown device {name!r}; write cpu, cuda or cuda:1") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise BadInputError(f"device {name!r}: PyTorch sees no CUDA device here; race with --device cpu")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise BadInputError(f"device {name!r}: there are only {torch.cuda.device_count()}; write cuda:0")
    elif device.type != "cpu":
        raise BadInputError(f"device {name!r} cannot be raced on; write cpu or cuda")
    return device
