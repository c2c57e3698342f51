"""What a ledger holds: jobs on tracks, and the claims that processes have on them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import optuna


@dataclasses.dataclass(frozen=True)
class Track:
    """Where a run belongs: one study.

    Attributes:
        problem: The problem as it was named.
        contestant: Name of the contestant.
        stage: ``"tuning"`` or ``"final"``.
    """

    problem: str
    contestant: str
    stage: str

    @property
    def study(self) -> str:
        """Name of the study."""
        return f"{self.problem} | {self.contestant} | {self.stage}"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be done.

    Attributes:
        slot: Index of the trial, or of the seed.
        seed: Seed of the run.
        settings: Hyperparameters by name.
    """

    slot: int
    seed: int
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What makes two jobs of a track the same."""
        return json.dumps([self.slot, self.seed, dict(self.settings)], sort_keys=True)

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Job:
        """Read a job from the attributes of a trial."""
        return cls(**attributes["job"])


@dataclasses.dataclass
class Claim:
    """A job that this process has taken."""

    track: Track
    job: Job
    trial: optuna.Trial
    lease: dict[str, Any]
