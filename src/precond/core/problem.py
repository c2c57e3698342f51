"""Problems that can be raced: data, a metric, a target and a horizon."""

from __future__ import annotations

import abc
import dataclasses
import re
from typing import ClassVar

from precond.core.errors import BadInputError
from precond.core.recipe import Kind


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long one run may take: a number of steps, or of seconds on the harness's clock.

    Attributes:
        steps: Limit on steps (iterations of a solver).
        seconds: Limit on seconds, evaluation excluded.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check that there is a limit, and that it is positive."""
        if self.steps is None and self.seconds is None:
            raise BadInputError("a budget needs a limit: write 500steps or 120s")
        if (self.steps is not None and self.steps < 1) or (self.seconds is not None and not self.seconds > 0):
            raise BadInputError("a budget must be positive: write 500steps or 120s")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``"500steps"`` or ``"120s"`` (also ``2min``, ``1h``)."""
        if not isinstance(text, str):
            raise BadInputError(f"a budget is a text such as '500steps' or '120s', not {text!r}")
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*(steps?|s|sec|min|m|h)\s*", text)
        if not match:
            raise BadInputError(f"cannot read the budget {text!r}: write 500steps, 120s, 2min or 1h")
        number, unit = float(match[1]), match[2]
        if unit.startswith("step"):
            return cls(steps=int(number))
        return cls(seconds=number * {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}[unit])

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.steps}steps" if self.steps is not None else f"{self.seconds:g}s"


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is measured on the way; lower is better.

    Attributes:
        name: What it is ("validation loss", "relative residual").
        unit: Its unit; empty for a pure number ("nats per byte").
        log: Whether it is best read on a logarithmic axis.
    """

    name: str
    unit: str = ""
    log: bool = False


class Problem(abc.ABC):
    """Something to race on. Subclasses, one per kind, add how to make an instance from a seed.

    Attributes:
        name: Short name, as on the command line.
        description: One sentence: what the data are and what is asked.
        metric: What is measured; lower is better.
        target: Value of the metric that counts as solved.
        horizon: How long a run lasts unless the user says otherwise.
    """

    kind: ClassVar[Kind]
    name: str
    description: str
    metric: Metric
    target: float
    horizon: Budget
