"""The results of a race as one record, written to ``results.json`` and read from it.

The schema is versioned. A reader refuses a newer version with one clear line and leaves the file alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precond.core import BadInputError
from precond.race.results.frame import table
from precond.race.results.records import Interval, ProblemResult, Run, Standing

if TYPE_CHECKING:
    import pandas

SCHEMA = 1


@dataclasses.dataclass
class RaceResult:
    """A whole race, as written to ``results.json``.

    Attributes:
        problems: One entry per problem.
        options: The options of the race (methods, trials, seeds, budget, device, jobs).
        complete: Whether every run that was asked for has ended.
        created: When the race was created, ISO 8601, UTC.
        command: The command line, when there was one.
        machine: Processor, cores, memory, operating system, device.
        versions: Versions of python, torch and the other packages that matter.
        schema: Version of this schema.
    """

    problems: list[ProblemResult]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    complete: bool = False
    created: str = ""
    command: str = ""
    machine: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA

    def table(self) -> pandas.DataFrame:
        """Return one row for each problem and contestant; see `precond.race.results.frame.table`."""
        return table(self.problems)

    def write(self, path: Path) -> None:
        """Write as JSON, atomically: an old file stays whole until the new one is."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        text = json.dumps(finite(dataclasses.asdict(self)), indent=1, allow_nan=False)
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> RaceResult:
        """Read what `write` wrote, or say in one line why it cannot be read."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise BadInputError(
                f"{path}:{error.lineno}: not JSON ({error.msg}); race again into another --out"
            ) from error
        except UnicodeDecodeError as error:
            raise BadInputError(f"{path}: not JSON (not text in UTF-8); race again into another --out") from error
        schema = data.get("schema") if isinstance(data, dict) else None
        if not isinstance(schema, int):
            raise BadInputError(f"{path}: not the results of a race (no schema number)")
        if schema > SCHEMA:
            raise BadInputError(
                f"{path}: written with schema {schema}, this version reads up to {SCHEMA}; upgrade precond, or race "
                "into another --out (the old data are untouched)"
            )
        try:
            problems = [_problem(entry) for entry in data.pop("problems")]
            return cls(problems=problems, **data)
        except (AttributeError, KeyError, TypeError) as error:
            raise BadInputError(f"{path}: damaged results ({error}); race again into another --out") from error


def _problem(data: dict[str, Any]) -> ProblemResult:
    standings = [_standing(entry) for entry in data.pop("standings")]
    runs = [Run(**entry) for entry in data.pop("runs")]
    return ProblemResult(standings=standings, runs=runs, **data)


def _standing(data: dict[str, Any]) -> Standing:
    for name in ("final", "steps_to_target", "seconds_to_target"):
        data[name] = None if data[name] is None else Interval(**data[name])
    return Standing(**data)


def finite(value: Any) -> Any:
    """JSON has no NaN: what is not finite becomes ``null``."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: finite(child) for key, child in value.items()}
    if isinstance(value, list):
        return [finite(child) for child in value]
    return value
