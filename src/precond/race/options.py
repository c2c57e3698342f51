"""The options of a race: what its ledger remembers, and how a resumed race may grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from precond.core import BadInputError, Budget

DEFAULT_PROBLEM = "digits"
DEFAULT_TRIALS = 8
DEFAULT_SEEDS = 5


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the result of a race.

    Attributes:
        problems: The problems as they were named.
        defaults: Whether the default contestants of each problem race.
        methods: Contestants by name, besides those.
        trials: Tuning trials of each contestant that has something to tune.
        seeds: Fresh seeds on which the tuned setting is rerun.
        budget: Horizon of one run as text; empty for each problem's own.
        device: Where it is raced.
        created: When the race was created, ISO 8601, UTC.
        command: The command line, when there was one.
    """

    problems: tuple[str, ...]
    defaults: bool
    methods: tuple[str, ...]
    trials: int
    seeds: int
    budget: str
    device: str
    created: str
    command: str = ""

    def names(self) -> list[str] | None:
        """Return the named contestants, or ``None`` when there are only the defaults."""
        return None if self.defaults and not self.methods else list(self.methods)

    def public(self) -> dict[str, Any]:
        """Return the options as the report shows them."""
        shown = dataclasses.asdict(self)
        for name in ("created", "command", "defaults"):
            shown.pop(name)
        shown["methods"] = self.names() if not self.defaults else ["defaults", *self.methods]
        return shown


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for on the command line or by a call; ``None`` is "as before, or the default"."""

    problems: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    trials: int | None = None
    seeds: int | None = None
    budget: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Check numbers and texts."""
        if self.trials is not None and self.trials < 0:
            raise BadInputError(f"trials must not be negative, not {self.trials}; 0 races untuned defaults")
        if self.seeds is not None and self.seeds < 1:
            raise BadInputError(f"seeds must be at least 1, not {self.seeds}; 3 or more give an interval")
        if self.budget:
            Budget.parse(self.budget)

    def create(self, created: str, command: str) -> Options:
        """Return the options of a new race."""
        return Options(
            problems=self.problems or (DEFAULT_PROBLEM,),
            defaults=self.methods is None,
            methods=self.methods or (),
            trials=DEFAULT_TRIALS if self.trials is None else self.trials,
            seeds=DEFAULT_SEEDS if self.seeds is None else self.seeds,
            budget=str(Budget.parse(self.budget)) if self.budget else "",
            device=self.device or "cpu",
            created=created,
            command=command,
        )

    def grow(self, old: Options, place: str) -> Options:
        """Return the options of a resumed race: more methods, trials and seeds are welcome, other changes are not."""
        fixed: dict[str, tuple[Any, Any, Callable[[Any], str]]] = {
            "problem": (self.problems, old.problems, ",".join),
            "budget": (str(Budget.parse(self.budget)) if self.budget else None, old.budget, str),
            "device": (self.device, old.device, str),
        }
        for name, (asked, had, show) in fixed.items():
            if asked is not None and asked != had:
                raise BadInputError(
                    f"the race in {place} has {name} {show(had) or 'of the problem itself'}, not {show(asked)}: resume "
                    f"it without naming a {name}, or race into another --out"
                )
        for name, asked_number, had_number in (("trials", self.trials, old.trials), ("seeds", self.seeds, old.seeds)):
            if asked_number is not None and asked_number < had_number:
                raise BadInputError(
                    f"the race in {place} has {had_number} {name}: a resumed race may have more, not {asked_number}; "
                    "race into another --out"
                )
        more = tuple(name for name in self.methods or () if name not in old.methods)
        return dataclasses.replace(
            old,
            methods=old.methods + more,
            trials=old.trials if self.trials is None else self.trials,
            seeds=old.seeds if self.seeds is None else self.seeds,
        )


def stored(data: Mapping[str, Any]) -> Options:
    """Read options from a ledger."""
    return Options(**{**data, "problems": tuple(data["problems"]), "methods": tuple(data["methods"])})


def listed(text: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Split ``"a,b"`` or a sequence of such texts into names; ``None`` stays ``None``."""
    if text is None:
        return None
    parts = [text] if isinstance(text, str) else list(text)
    if not all(isinstance(part, str) for part in parts):
        raise BadInputError(f"problems and methods are given by name, not as {parts}")
    names = tuple(dict.fromkeys(name.strip() for part in parts for name in part.split(",") if name.strip()))
    if not names:
        raise BadInputError("an empty list of names: write a,b,c or leave the option out")
    return names
