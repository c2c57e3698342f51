"""LIBSVM files (``label index:value ...``), parsed by scikit-learn; what it refuses is explained with its line.

Source: C.-C. Chang, C.-J. Lin, "LIBSVM: a library for support vector machines", 2011 (the format is described there).
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from precond.core import require
from precond.problems.readers.contents import fail, read_bytes

_NUMBER = rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_LINE = re.compile(rb"\s*" + _NUMBER + rb"(\s+(qid|\d+):\S+)+\s*(#.*)?")
_FORM = "write lines 'label index:value index:value ...'"
_LARGEST = 100_000_000


def looks_like_libsvm(head: bytes) -> bool:
    """Whether the first whole lines of a file are in this format."""
    lines = [line for line in head.split(b"\n")[:6] if line.strip() and not line.startswith(b"#")]
    lines = lines[:-1] if len(lines) > 1 else lines
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def read_libsvm(path: Path | str) -> tuple[scipy.sparse.csr_array, np.ndarray[Any, Any]]:
    """Return the features ``[samples, features]`` of a file and its labels ``[samples]``, in float64.

    Indices are from 1, or from 0 when an index 0 occurs.

    Args:
        path: The file.

    Returns:
        Features and labels.

    Raises:
        BadInputError: The file is damaged; the message names the line.
    """
    load_svmlight_file = require("sklearn.datasets").load_svmlight_file
    content = read_bytes(path)
    if b"\0" in content:
        fail(path, "binary data (a zero byte)", _FORM, content.count(b"\n", 0, content.index(b"\0")) + 1)
    try:
        features, labels = load_svmlight_file(io.BytesIO(content), dtype=np.float64)
    except (ValueError, OverflowError, IndexError, MemoryError) as error:
        _locate(path, content)
        fail(path, f"not a readable LIBSVM file ({' '.join(str(error).split())[:80]})", _FORM)
    if features.shape[0] == 0:
        fail(path, "no samples", _FORM)
    if features.nnz == 0 or features.shape[1] > _LARGEST or not np.isfinite(features.data).all():
        _locate(path, content)
        fail(path, "no features", _FORM)
    if not np.isfinite(labels).all():
        _locate(path, content)
    return scipy.sparse.csr_array(features), labels


def line_of_sample(path: Path | str, sample: int) -> int:
    """Return the line (from 1) on which sample number ``sample`` (from 0) stands."""
    lines = read_bytes(path).split(b"\n")
    numbers = [i for i, line in enumerate(lines, 1) if line.partition(b"#")[0].strip()]
    return numbers[sample]


def _locate(path: Path | str, content: bytes) -> None:
    """Raise for the first line that breaks the format; return when there is none."""
    for i, line in enumerate(content.decode("latin-1").split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        _check_number(path, i, words[0], "label")
        last = -1
        for word in words[1:]:
            index, colon, value = word.partition(":")
            if index == "qid":
                continue
            if not colon or not index.isdigit():
                fail(path, f"{word[:40]!r} is not index:value", _FORM, i)
            if int(index) > _LARGEST:
                fail(path, f"index {index} is out of range", f"at most {_LARGEST} features are read", i)
            if int(index) <= last:
                fail(path, f"index {index} after {last}", "sort the indices of a line, each once", i)
            _check_number(path, i, value, f"value of feature {index}")
            last = int(index)


def _check_number(path: Path | str, line: int, word: str, what: str) -> None:
    try:
        number = float(word)
    except ValueError:
        fail(path, f"{word[:40]!r} is not a number (the {what})", _FORM, line)
    if not math.isfinite(number):
        fail(path, f"{word} is not finite (the {what})", "write a finite number", line)
