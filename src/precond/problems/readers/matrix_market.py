"""Matrix Market files, parsed by SciPy; what SciPy refuses is found again and explained with its line.

Source: R. F. Boisvert, R. Pozo, K. A. Remington, "The Matrix Market Exchange Formats: Initial Design", NISTIR 5935
(1996).
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from precond.problems.readers.contents import fail, read_bytes

BANNER = b"%%MatrixMarket"
_FORMATS = ("coordinate", "array")
_FIELDS = {"real": 1, "double": 1, "integer": 1, "unsigned-integer": 1, "complex": 2, "pattern": 0}
_SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")
_refusals = (ValueError, OverflowError, TypeError, IndexError, MemoryError)  # of SciPy's reader
_LARGEST = 100_000_000
_HEADER = "the first line must read '%%MatrixMarket matrix coordinate real general' (or another known form)"


@dataclasses.dataclass(frozen=True)
class Header:
    """The first line of a file.

    Attributes:
        layout: ``"coordinate"`` or ``"array"``.
        field: Type of the entries.
        symmetry: Which half is stored, if not all.
    """

    layout: str
    field: str
    symmetry: str


def read_matrix_market(path: Path | str) -> tuple[scipy.sparse.csr_array, Header]:
    """Return the matrix of a file in CSR form, and what its first line says.

    Symmetric storage is expanded, the entries of pattern files are ones, repeated entries are added.

    Args:
        path: The file.

    Returns:
        The matrix, of type float64 or complex128, and the header.

    Raises:
        BadInputError: The file is damaged; the message names the line.
    """
    content = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    header = _header(path, content)
    if _suspect(content, header):
        _locate(path, content, header)
    try:
        listed = _parsed(content)
    except _refusals:
        _locate(path, content, header)
        try:
            listed = _parsed(_plain(content))
        except _refusals as error:
            fail(path, f"not a readable Matrix Market file ({str(error).rstrip('.')})", "fetch the file again")
    matrix = scipy.sparse.csr_array(listed)
    if 0 in matrix.shape:
        fail(path, f"a matrix of {matrix.shape[0]} x {matrix.shape[1]}", "give a matrix with rows and columns")
    if not np.isfinite(matrix.data).all():
        _locate(path, content, header)
        fail(path, "an entry is not finite", "give finite entries")
    if header.symmetry != "general" and header.layout == "coordinate":
        _check_half(path, content, header, matrix, repeated=matrix.nnz < listed.nnz)
    if header.field == "pattern":
        matrix.data[:] = 1.0
    matrix = matrix.astype(np.complex128 if np.iscomplexobj(matrix.data) else np.float64)
    matrix.sum_duplicates()
    matrix.sort_indices()
    return matrix, header


def _parsed(content: bytes) -> Any:
    import scipy.io

    return scipy.io.mmread(io.BytesIO(content))


def _plain(content: bytes) -> bytes:
    """Return the file without what SciPy does not read: comments between entries, and signs of positive numbers."""
    first, _, rest = content.partition(b"\n")
    kept = [line.split() for line in rest.split(b"\n") if line.strip() and not line.startswith(b"%")]
    return b"\n".join([first, *(b" ".join(word.removeprefix(b"+") for word in words) for words in kept), b""])


def _header(path: Path | str, content: bytes) -> Header:
    first = content.partition(b"\n")[0].decode("latin-1").strip()
    words = first.split()
    if not words or words[0].lower() != BANNER.decode().lower():
        shown = first[:40] if first.isprintable() else "binary data"
        fail(path, f"not a Matrix Market file ({shown!r})", _HEADER, 1)
    if len(words) != 5:
        fail(path, f"{len(words)} words in the header, not 5", _HEADER, 1)
    kind, layout, field, symmetry = (word.lower() for word in words[1:])
    if kind != "matrix":
        fail(path, f"holds a {kind}", "give a matrix", 1)
    for what, word, known in (
        ("format", layout, _FORMATS),
        ("field", field, _FIELDS),
        ("symmetry", symmetry, _SYMMETRIES),
    ):
        if word not in known:
            fail(path, f"unknown {what} {word!r}", f"write one of {', '.join(known)}", 1)
    if layout == "array" and field == "pattern":
        fail(path, "a pattern has no entries to list as an array", "write 'coordinate', or the type of the entries", 1)
    return Header(layout, field, symmetry)


def _suspect(content: bytes, header: Header) -> bool:
    """Whether a fast look finds what SciPy misreads or would try to allocate, so that every line must be read."""
    body = content.split(b"\n", 1)[-1]
    while body.lstrip().startswith(b"%"):
        body = body.lstrip().partition(b"\n")[2]
    size, _, entries = body.lstrip().partition(b"\n")
    counts = size.split()
    if not all(word.isdigit() for word in counts) or len(counts) != (3 if header.layout == "coordinate" else 2):
        return True
    rows, columns = int(counts[0]), int(counts[1])
    if max(rows, columns) > _LARGEST or (header.symmetry != "general" and rows != columns):
        return True
    # SciPy reads "2" of "2.5" where integers are announced, and of "2D3" anywhere
    odd = bool(entries.translate(None, b"0123456789+- \t\r\n" + (b"" if "integer" in header.field else b".eE")))
    if header.layout == "array":
        return odd
    words, width = entries.split(), 2 + _FIELDS[header.field]
    if len(words) != width * int(counts[2]):
        return True
    return odd or not all(b"".join(words[i::width]).isdigit() for i in (0, 1) if words)


def _locate(path: Path | str, content: bytes, header: Header) -> None:
    """Raise for the first line that breaks the format; return when there is none."""
    lines = content.decode("latin-1").split("\n")
    numbered = [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("%")]
    if not numbered:
        fail(path, "no size line", "the line after the comments must give rows, columns and entries", len(lines))
    (at, size), entries = numbered[0], numbered[1:]
    wanted = 3 if header.layout == "coordinate" else 2
    if len(size) != wanted or not all(word.isdigit() for word in size):
        remedy = "write 'rows columns entries'" if wanted == 3 else "write 'rows columns'"
        fail(path, f"the size line {' '.join(size)[:40]!r} does not hold {wanted} counts", remedy, at)
    rows, columns = int(size[0]), int(size[1])
    if max(rows, columns) > _LARGEST:
        fail(path, f"a matrix of {rows} x {columns}", f"at most {_LARGEST} rows and columns are read", at)
    if header.symmetry != "general" and rows != columns:
        fail(path, f"{header.symmetry} but {rows} x {columns}", "correct the size, or write 'general'", at)
    values = _FIELDS[header.field]
    indices = 2 if header.layout == "coordinate" else 0
    for i, words in entries:
        _check_entry(path, i, words, indices, values, (rows, columns))
        if "integer" in header.field:
            _check_whole(path, i, words[indices])
    count = int(size[2]) if wanted == 3 else _array_count(header.symmetry, rows, columns)
    if len(entries) != count:
        last = entries[count][0] if len(entries) > count else len(lines)
        fail(path, f"{len(entries)} entries where {count} were announced", "fetch the file again", last)


def _check_entry(
    path: Path | str, line: int, words: list[str], indices: int, values: int, shape: tuple[int, int]
) -> None:
    if len(words) != indices + values:
        remedy = "complete the entry" if len(words) < indices + values else "correct the entry, or the first line"
        fail(path, f"{len(words)} numbers where an entry has {indices + values}", remedy, line)
    for word, size, what in zip(words[:indices], shape, ("row", "column"), strict=False):
        if not word.isdigit():
            fail(path, f"{word[:40]!r} is not a {what} number", "write whole numbers from 1", line)
        if not 1 <= int(word) <= size:
            fail(path, f"{what} {word} is outside 1..{size}", "correct the entry or the size line", line)
    for word in words[indices : indices + values]:
        try:
            finite = math.isfinite(float(word))
        except ValueError:
            fail(path, f"{word[:40]!r} is not a number", "write a number, as in 1.5e-3", line)
        if not finite:
            fail(path, f"{word} is not finite", "write a finite number", line)


def _check_whole(path: Path | str, line: int, word: str) -> None:
    if not word.removeprefix("-").removeprefix("+").isdigit():
        fail(path, f"{word[:40]!r} is not a whole number", "write 'real' in the first line", line)
    if abs(int(word)) >= 2**63:
        fail(path, f"{word[:40]} is beyond integers of 64 bits", "write 'real' in the first line", line)


def _check_half(
    path: Path | str, content: bytes, header: Header, matrix: scipy.sparse.csr_array, *, repeated: bool
) -> None:
    """Refuse entries of a half that contradict the other: twice the same, or what the diagonal cannot hold."""
    diagonal = matrix.diagonal()
    skew, hermitian = header.symmetry == "skew-symmetric", header.symmetry == "hermitian"
    if not (repeated or (skew and diagonal.any()) or (hermitian and diagonal.imag.any())):
        return
    seen, lines = set[tuple[int, int]](), content.decode("latin-1").split("\n")
    numbered = [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("%")]
    for at, words in numbered[1:]:
        row, column = int(words[0]), int(words[1])
        if row == column and skew and any(float(word) for word in words[2:]):
            fail(path, f"the diagonal entry {row} {column} of a skew-symmetric matrix", "it must be zero", at)
        if row == column and hermitian and len(words) > 3 and float(words[3]):
            fail(path, f"the diagonal entry {row} {column} of a Hermitian matrix is not real", "correct it", at)
        if row != column and (column, row) in seen:
            remedy = f"a {header.symmetry} file lists one of them, a general one both"
            fail(path, f"entry {row} {column} follows its mirror image", remedy, at)
        seen.add((row, column))


def _array_count(symmetry: str, rows: int, columns: int) -> int:
    if symmetry == "general":
        return rows * columns
    return rows * (rows - 1) // 2 if symmetry == "skew-symmetric" else rows * (rows + 1) // 2
