"""From what a user writes to a `Problem`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from precond.core import BadInputError, Problem, UnknownNameError
from precond.problems.readers.contents import read_bytes
from precond.problems.registry import Entry, all_problems

_USER = re.compile(r"(?P<path>.+\.py)(?::(?P<function>\w*))?")
_OPTION = re.compile(r"\s*([A-Za-z_]\w*)=(.*)")


def load(spec: str) -> Problem:
    """Return the problem that ``spec`` names.

    Grammar::

        digits                          a known name
        digits:FOLDER                   a known problem on data of your own
        poisson2d:n=128                 a generated problem with options, separated by commas
        stdlib-lm:book.txt,width=128    both
        matrix.mtx.gz                   a bare path, recognised by what the file holds
        file.py:function                your own function that returns a problem

    Args:
        spec: The text.

    Returns:
        The problem.

    Raises:
        UnknownNameError: Neither a known name nor a path; the message lists the nearest names.
        BadInputError: The file or an option cannot be used; the message says where and what would do.
    """
    known = all_problems()
    spec = spec.strip()
    if not spec:
        raise BadInputError(f"no problem is named; known: {', '.join(known)}, or a path, or file.py:function")
    name, colon, argument = spec.partition(":")
    if name in known:
        return _make(known[name], argument if colon else "")
    if user := _USER.fullmatch(spec):
        from precond.problems.user import from_file

        return from_file(user["path"], user["function"] or "")
    path = Path(spec).expanduser()
    if path.exists():
        return _recognise(path, known).make(path=path)
    if colon and not Path(name).suffix and "/" not in name:
        raise UnknownNameError("problem", name, known)
    if "/" in spec or Path(spec).suffix:
        read_bytes(path)  # says that there is no such file, and which is near
    raise UnknownNameError("problem", spec, known)


def _make(entry: Entry, argument: str) -> Problem:
    """Call a factory with the path and the options of ``name:PATH,key=value``."""
    path, options = _split(argument) if not (entry.takes_path and Path(argument).exists()) else (argument, {})
    values = {key: _convert(entry, key, text) for key, text in options.items()}
    if path:
        if not entry.takes_path:
            known = ", ".join(f"{key}={value}" for key, value in entry.options.items())
            raise BadInputError(f"{entry.name} takes no path ({path!r}); write {entry.name}:key=value with {known}")
        values["path"] = Path(path).expanduser()
    elif entry.needs_path:
        raise BadInputError(f"{entry.name} needs a path, write for example {entry.example}. {entry.purpose}")
    return entry.make(**values)


def _split(argument: str) -> tuple[str, dict[str, str]]:
    """Split ``PATH,key=value,...``: the options are the last pieces that read ``key=value``."""
    pieces = argument.split(",")
    options: dict[str, str] = {}
    while pieces and (match := _OPTION.fullmatch(pieces[-1])):
        options[match[1]] = match[2].strip()
        pieces.pop()
    return ",".join(pieces), dict(reversed(options.items()))


def _convert(entry: Entry, key: str, text: str) -> Any:
    """Read an option as the type of its default."""
    if key not in entry.options:
        raise UnknownNameError(f"option of {entry.name}", key, entry.options)
    kind = type(entry.options[key])
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise BadInputError(
            f"{entry.name}: {key}={text} is not a number of type {kind.__name__}; "
            f"write for example {key}={entry.options[key]}"
        ) from None


def _recognise(path: Path, known: dict[str, Entry]) -> Entry:
    """Return the problem that a bare path belongs to, from its name and the bytes it starts with."""
    head = b"" if path.is_dir() else read_bytes(path, 1 << 14)
    for entry in sorted(known.values(), key=lambda entry: entry.general):
        if entry.recognises is not None and entry.recognises(path, head):
            return entry
    if path.is_dir():
        read_bytes(path)  # says that it is a folder, and which files there are
    examples = ", ".join(entry.example.split(", ")[-1] for entry in known.values() if entry.takes_path)
    raise BadInputError(f"{path}: not recognised; name the problem before the path ({examples})")


__all__ = ["load"]
