"""The bytes of a file, decompressed when it is gzipped, or one clear line."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NoReturn

from precond.core import BadInputError

GZIP = b"\x1f\x8b"
_SHOWN = 24


def fail(path: Path | str, what: str, remedy: str, line: int | None = None) -> NoReturn:
    """Raise the one line ``path:line: what is wrong; remedy``."""
    place = f"{path}:{line}" if line is not None else f"{path}"
    raise BadInputError(f"{place}: {what}; {remedy}")


def read_bytes(path: Path | str, limit: int = -1) -> bytes:
    """Return what a file holds, decompressed when it starts with the gzip magic whatever its suffix.

    Args:
        path: The file.
        limit: Read at most that many (decompressed) bytes; all when negative.

    Returns:
        At least one byte.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] != GZIP:
                content = file.read(limit)
            else:
                with gzip.open(file) as unpacked:
                    content = unpacked.read(limit)
    except FileNotFoundError:
        remedy = f"did you mean {near}?" if (near := _nearest(path)) else "check the path"
        fail(path, "no such file", remedy)
    except IsADirectoryError:
        fail(path, "is a folder, not a file", f"name a file in it: {_listing(path)}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        fail(path, f"damaged gzip file ({str(error).rstrip('.').lower()})", "fetch or compress it again")
    except OSError as error:
        fail(path, f"cannot be read ({error.strerror or error})", "check the permissions")
    if not content:
        fail(path, "empty file", "give a file with data")
    return content


def read_text(path: Path | str) -> str:
    """Return a file as text (UTF-8), decompressed when gzipped; binary content is refused with its line."""
    content = read_bytes(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fail(path, f"binary data (byte {error.start} is not text)", "give a text file", line)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        fail(path, "binary data (a zero byte)", "give a text file", line)
    return text


def stem(path: Path | str) -> str:
    """Return the name of a file without ``.gz`` and without its own suffix."""
    name = Path(path).name.removesuffix(".gz")
    return Path(name).stem or name


def _listing(folder: Path) -> str:
    """Return the names of the files in a folder, or of as many as a line can hold."""
    try:
        names = sorted(child.name for child in folder.iterdir() if child.is_file())
    except OSError:
        return "it cannot be listed"
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "there is none"


def _nearest(path: Path) -> str:
    """Return the name of a file beside ``path`` that is spelled nearly alike, or an empty string."""
    import difflib

    try:
        names = [child.name for child in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return str(path.parent / near[0]) if near else ""
