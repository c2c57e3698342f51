"""What a race records: one run, one row of the standings, one problem. ``results.json`` holds these and nothing else.

Times are seconds on the harness's clock, evaluation, compilation and warm-up excluded.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Run:
    """One run of one contestant with one setting and one seed: a tuning trial or a final run.

    Attributes:
        contestant: Name of the contestant.
        stage: ``"tuning"`` or ``"final"``.
        slot: Index of the trial, or of the seed.
        seed: Seed of the run.
        settings: Hyperparameters by name.
        state: ``"complete"``, ``"failed"`` (diverged, crashed) or ``"running"``/``"waiting"`` in a partial report.
        reason: Why it failed; empty otherwise.
        score: What tuning minimizes; ``None`` when failed.
        final: The metric at the end of the horizon.
        best: The best metric seen.
        steps_to_target: Steps until the target was first met; ``None`` when it was not.
        seconds_to_target: Seconds until then.
        steps: Steps taken.
        seconds: Seconds of the run.
        warmup_seconds: Seconds of compilation and warm-up, timed apart.
        optimizer_share: Share of the step time spent in the method itself, in ``[0, 1]``; ``None`` when not measured.
        state_bytes_per_parameter: Bytes of optimizer state per parameter; ``None`` for solvers.
        work: Counted work at the end (see `precond.core.Work`).
        curve: Columns of equal length: ``step``, ``seconds``, ``gradients`` (gradient evaluations; products with the
            matrix for linear problems) and ``metric``.
    """

    contestant: str
    stage: str
    slot: int
    seed: int
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    state: str = "waiting"
    reason: str = ""
    score: float | None = None
    final: float | None = None
    best: float | None = None
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    steps: int = 0
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    optimizer_share: float | None = None
    state_bytes_per_parameter: float | None = None
    work: dict[str, int] = dataclasses.field(default_factory=dict)
    curve: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("complete", "failed")


@dataclasses.dataclass
class Interval:
    """A mean over seeds with a 95 % confidence interval (Student's t).

    Attributes:
        mean: The mean.
        low: Lower bound of the interval; ``None`` below two values.
        high: Upper bound of the interval; ``None`` below two values.
        count: How many values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclasses.dataclass
class Standing:
    """One contestant's row of the table.

    Attributes:
        contestant: Its name.
        title: What the method is, in a few words.
        settings: The tuned hyperparameters.
        space: The search space, in words by name.
        trials: Tuning trials finished.
        failed_trials: How many of them failed.
        seeds: Final runs finished.
        failed_seeds: How many of them failed.
        solved: How many final runs met the target.
        final: The metric at the end of the horizon.
        steps_to_target: Over the final runs that met the target.
        seconds_to_target: Over the final runs that met the target.
        optimizer_share: Mean over the final runs.
        state_bytes_per_parameter: As measured.
        work: Mean counted work of a final run.
    """

    contestant: str
    title: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    space: dict[str, str] = dataclasses.field(default_factory=dict)
    trials: int = 0
    failed_trials: int = 0
    seeds: int = 0
    failed_seeds: int = 0
    solved: int = 0
    final: Interval | None = None
    steps_to_target: Interval | None = None
    seconds_to_target: Interval | None = None
    optimizer_share: float | None = None
    state_bytes_per_parameter: float | None = None
    work: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class ProblemResult:
    """Everything raced on one problem.

    Attributes:
        name: Its name on the command line.
        kind: Its kind (``"training"``, ``"smooth"``, ``"linear-system"``, ``"least-squares"``).
        description: One sentence on the data and the task.
        metric: Name of the metric; lower is better.
        unit: Its unit.
        log: Whether the metric is read on a logarithmic axis.
        target: Value that counts as solved.
        budget: Horizon of one run, as text.
        standings: One row per contestant, best first.
        runs: Every run, tuning and final.
        skipped: Contestants refused before the first trial, with the reason.
    """

    name: str
    kind: str
    description: str
    metric: str
    unit: str
    log: bool
    target: float
    budget: str
    standings: list[Standing] = dataclasses.field(default_factory=list)
    runs: list[Run] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
