"""The idx format of the MNIST files: two zero bytes, a type, the number of dimensions, the dimensions, the data.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (the format is described there).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from precond.problems.readers.contents import fail, read_bytes

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def looks_like_idx(head: bytes) -> bool:
    """Whether a file that starts with ``head`` is an idx file."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 4


def read_idx(path: Path | str) -> np.ndarray[Any, Any]:
    """Return the array of an idx file, gzipped or not, in native byte order.

    Args:
        path: The file.

    Returns:
        The array, of the shape in its header.

    Raises:
        BadInputError: Not an idx file, or of another length than its header says.
    """
    content = read_bytes(path)
    if not looks_like_idx(content):
        magic = content[:4].hex(" ")
        fail(path, f"not an idx file (it starts with {magic}, not 00 00 08 ..)", "give an MNIST-style idx file")
    start = 4 + 4 * content[3]
    if len(content) < start:
        fail(path, f"header cut off after {len(content)} bytes", "fetch the file again")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", content[3], 4))
    kind = np.dtype(_TYPES[content[2]])
    expected = start + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(content) != expected:
        text = "x".join(map(str, shape))
        fail(path, f"{len(content)} bytes, but its header ({text}) needs {expected}", "fetch the file again")
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
