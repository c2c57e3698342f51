"""One runner for each kind of problem: it gives a contestant work, watches it, and fills in the `Run`."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from precond.core import Budget, Kind
from precond.race.results.records import Run

if TYPE_CHECKING:
    from precond.race.field.contestant import Contestant

Note = Callable[[str], None]

_MODULES = {
    Kind.TRAINING: "training",
    Kind.SMOOTH: "smooth",
    Kind.COMPOSITE: "composite",
    Kind.LINEAR_SYSTEM: "linear",
    Kind.LEAST_SQUARES: "linear",
}


class Failure(Exception):
    """A run that cannot go on, with the reason in one clause; what was measured so far is kept."""


class Runner(abc.ABC):
    """Runs contestants on problems of one kind."""

    @abc.abstractmethod
    def refusal(self, problem: Any, contestant: Contestant, device: torch.device) -> str:
        """Return why a contestant cannot run on a problem; empty when it can."""

    @abc.abstractmethod
    def run(
        self, problem: Any, contestant: Contestant, run: Run, budget: Budget, device: torch.device, note: Note
    ) -> None:
        """Run one contestant and fill in ``run``: its seed and settings are read, everything measured is written.

        Args:
            problem: The problem.
            contestant: Who runs.
            run: What to fill in.
            budget: Horizon of the run.
            device: Where it runs.
            note: Takes a few words on how far the run is, now and then.

        Raises:
            Failure: The run ended early; what was measured is in ``run``.
        """


def runner_for(kind: Kind) -> Runner:
    """Return the runner for problems of a kind."""
    module = importlib.import_module(f"precond.race.runners.{_MODULES[kind]}")
    return module.RUNNER
