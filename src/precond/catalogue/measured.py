"""What we measured of the papers' claims, as written by ``benchmarks/headlines.py``."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
from typing import Any

FILE = "measured.json"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measurement of one recipe's claim.

    Attributes:
        finding: The result in one sentence, with its numbers.
        values: The numbers by name.
        command: How to measure it again.
        date: When it was measured, ISO 8601.
        versions: Versions of python, torch and precond.
    """

    finding: str
    values: dict[str, float]
    command: str
    date: str
    versions: dict[str, str]


def measurements() -> dict[str, Measured]:
    """Return the committed measurements by the name of the recipe."""
    text = importlib.resources.files("precond.catalogue").joinpath(FILE).read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = json.loads(text)
    return {name: Measured(**entry) for name, entry in data.items()}
