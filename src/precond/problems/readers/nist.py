"""The nonlinear regression files of NIST's Statistical Reference Datasets (StRD).

Source: J. Rogers, J. Filliben, L. Gill, W. Guthrie, E. Lagergren, M. Vangel, "StRD: Statistical Reference Datasets for
Assessing the Numerical Accuracy of Statistical Software", NIST TN 1396, 1998.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from precond.core import BadInputError
from precond.problems.formula import Expression, parse_formula
from precond.problems.readers.contents import fail, read_text, stem

_FORM = "give a NIST StRD nonlinear regression file (itl.nist.gov/div898/strd/nls) as it was published"
_LEFT = re.compile(r"\s*(y|\w+\s*[\[(]\s*y\s*[\])])\s*=(.*)")
_PARAMETER = re.compile(r"\s*(b\d+)\s*=(.*)")
_TABLE = re.compile(r"Data:\s+(y(?:\s+x\d*)+)\s*")


@dataclasses.dataclass(frozen=True)
class Regression:
    """What a file holds.

    Attributes:
        name: Name of the data set.
        formula: The model as printed, ``y = ...``, without the error term.
        left: The left-hand side of the model, a function of the data (``y``, or ``log[y]``).
        right: The right-hand side, a function of parameters and data.
        parameters: Names of the parameters, ``b1, b2, ...``.
        starts: The two starting points, shape ``[2, n]``.
        certified: Certified parameters, shape ``[n]``.
        sum_of_squares: Certified residual sum of squares.
        data: Columns by name, ``y`` and ``x`` (or ``x1``, ``x2``), each of shape ``[m]``.
    """

    name: str
    formula: str
    left: Expression
    right: Expression
    parameters: tuple[str, ...]
    starts: np.ndarray[Any, Any]
    certified: np.ndarray[Any, Any]
    sum_of_squares: float
    data: dict[str, np.ndarray[Any, Any]]


def looks_like_nist(head: bytes) -> bool:
    """Whether a file starts as these do."""
    return b"NIST/ITL StRD" in head[:200] or (b"Starting" in head and b"Certified Values" in head)


def read_nist(path: Path | str) -> Regression:
    """Return the model, the starting points, the certified values and the data of a file.

    Args:
        path: The file.

    Returns:
        What the file holds.

    Raises:
        BadInputError: A part is missing or damaged; the message names the line.
    """
    lines = read_text(path).splitlines()
    if not looks_like_nist("\n".join(lines).encode()):
        fail(path, "not a NIST StRD regression file", _FORM, 1)
    parameters, table = _parameters(path, lines)
    names, data = _data(path, lines)
    formula, left, right = _model(path, lines, parameters, names)
    return Regression(
        name=_field(lines, r"Dataset Name:\s*(\S+)", stem(path)),
        formula=formula,
        left=left,
        right=right,
        parameters=parameters,
        starts=table[:, :2].T.copy(),
        certified=table[:, 2].copy(),
        sum_of_squares=_sum_of_squares(path, lines),
        data=data,
    )


def _model(path: Path | str, lines: list[str], parameters: tuple[str, ...], names: list[str]) -> tuple[str, Any, Any]:
    at = next((i for i, line in enumerate(lines) if line.startswith("Model:")), None)
    if at is None:
        fail(path, "no 'Model:' line", _FORM)
    first = next((i for i in range(at, len(lines)) if _LEFT.match(lines[i].removeprefix("Model:"))), None)
    if first is None:
        fail(path, "the model has no formula 'y = ...'", _FORM, at + 1)
    last = first + 1
    while last < len(lines) and lines[last].strip() and "Starting" not in lines[last]:
        last += 1
    joined = " ".join(line.removeprefix("Model:").strip() for line in lines[first:last])
    left, _, right = joined.partition("=")
    right = re.sub(r"\+\s*e\s*$", "", right).strip()
    try:
        expressions = parse_formula(left, names), parse_formula(right, (*parameters, *names))
    except BadInputError as error:
        what, _, remedy = str(error).rpartition("; ")
        fail(path, what, remedy, first + 1)
    return f"{left.strip()} = {' '.join(right.split())}", *expressions


def _parameters(path: Path | str, lines: list[str]) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
    names: list[str] = []
    rows: list[list[float]] = []
    for i, line in enumerate(lines, 1):
        if match := _PARAMETER.match(line):
            words = match[2].split()
            if len(words) < 3:
                fail(path, f"{match[1]} has {len(words)} numbers", "give two starts and the certified value", i)
            rows.append([_number(path, i, word) for word in words[:3]])
            names.append(match[1])
            if names[-1] != f"b{len(names)}":
                fail(path, f"parameter {names[-1]} where b{len(names)} was expected", "number them b1, b2, ...", i)
    if not names:
        fail(path, "no table of starting and certified values ('b1 = start start certified deviation')", _FORM)
    return tuple(names), np.array(rows)


def _data(path: Path | str, lines: list[str]) -> tuple[list[str], dict[str, np.ndarray[Any, Any]]]:
    at = next((i for i, line in enumerate(lines) if _TABLE.fullmatch(line)), None)
    if at is None:
        fail(path, "no data table ('Data:  y  x')", _FORM)
    names = lines[at].removeprefix("Data:").split()
    rows: list[list[float]] = []
    for i, line in enumerate(lines[at + 1 :], at + 2):
        if not (words := line.split()):
            continue
        if len(words) != len(names):
            fail(path, f"{len(words)} numbers where {' '.join(names)} needs {len(names)}", "complete the row", i)
        rows.append([_number(path, i, word) for word in words])
    announced = _field(lines, r"Number of Observations:\s*(\d+)", str(len(rows)))
    if not rows or len(rows) != int(announced):
        fail(path, f"{len(rows)} observations where {announced} were announced", "fetch the file again", len(lines))
    return names, dict(zip(names, np.array(rows).T.copy(), strict=True))


def _sum_of_squares(path: Path | str, lines: list[str]) -> float:
    for i, line in enumerate(lines, 1):
        if match := re.match(r"Residual Sum of Squares:\s*(\S+)", line):
            return _number(path, i, match[1])
    fail(path, "no 'Residual Sum of Squares:' line", _FORM)


def _field(lines: list[str], pattern: str, otherwise: str) -> str:
    return next((match[1] for line in lines if (match := re.match(pattern, line))), otherwise)


def _number(path: Path | str, line: int, word: str) -> float:
    try:
        number = float(word.replace("D", "E"))
    except ValueError:
        fail(path, f"{word[:40]!r} is not a number", "write a number", line)
    if not math.isfinite(number):
        fail(path, f"{word} is not finite", "write a finite number", line)
    return number
