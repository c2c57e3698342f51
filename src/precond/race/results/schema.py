"""The page that documents ``results.json``, made from the docstrings of the records so that it cannot drift."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys

from precond.race.results import records, result

_RECORDS = (result.RaceResult, records.ProblemResult, records.Standing, records.Interval, records.Run)


def schema_page() -> str:
    """Return the schema of ``results.json``, field by field, as Markdown."""
    lines = [
        "# The schema of `results.json`",
        "",
        "<!-- Made by `make docs`; do not edit by hand. -->",
        "",
        f"Version {result.SCHEMA}. {_flat(inspect.getdoc(result) or '').split('. ', 1)[1]}",
        "",
        "The file is JSON in UTF-8 and holds one [RaceResult](#raceresult). JSON has no NaN: a number that is not "
        "finite is written as `null`. It is replaced atomically, so a reader never sees half a file. In Python, "
        "`RaceResult.read(path)` returns the records below.",
    ]
    for record in _RECORDS:
        lines += ["", *_section(record)]
    return "\n".join(lines) + "\n"


def field_docs(record: type) -> dict[str, str]:
    """Return what the ``Attributes:`` section of a dataclass says about each field.

    Args:
        record: The dataclass.

    Returns:
        The descriptions by the name of the field.

    Raises:
        ValueError: A field has no description, or a description no field.
    """
    doc = inspect.getdoc(record) or ""
    _, _, section = doc.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    fields = [field.name for field in dataclasses.fields(record)]
    if sorted(fields) != sorted(found):
        raise ValueError(f"{record.__name__}: fields {fields} but documented {list(found)}")
    return {field: found[field] for field in fields}


def _section(record: type) -> list[str]:
    summary = _flat((inspect.getdoc(record) or "").partition("\nAttributes:")[0])
    lines = [f"## {record.__name__}", "", summary, "", "| field | type | meaning |", "|---|---|---|"]
    docs = field_docs(record)
    return lines + [
        f"| `{field.name}` | {_type(str(field.type))} | {_cell(docs[field.name])} |"
        for field in dataclasses.fields(record)
    ]


def _type(annotation: str) -> str:
    text = annotation.replace("None", "null").replace("|", r"\|")
    for record in _RECORDS:
        text = re.sub(rf"\b{record.__name__}\b", f"[{record.__name__}](#{record.__name__.lower()})", text)
    return text


def _cell(text: str) -> str:
    return _flat(text).replace("|", r"\|")


def _flat(text: str) -> str:
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(text.split())).replace("`None`", "`null`")


if __name__ == "__main__":
    sys.stdout.write(schema_page())
