"""Files that the command writes: checked before the work, Matrix Market arrays after it."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from precond.core import BadInputError


def check_writable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, a file that cannot be written.

    Args:
        path: The file.
        inputs: Files that were read, none of which may be replaced.

    Raises:
        BadInputError: Its folder is missing or closed, it is a folder itself, or a file that was read.
    """
    folder = path.parent
    if not folder.is_dir():
        raise BadInputError(f"{path}: there is no folder {folder}; create it first")
    if path.is_dir():
        raise BadInputError(f"{path}: is a folder; name a file in it")
    if path.is_file() and any(path.samefile(other) for other in inputs):
        raise BadInputError(f"{path}: holds what is to be solved; name another file for the solution")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise BadInputError(f"{path}: cannot be written; check the permissions")


def write_vectors(path: Path, x: np.ndarray[Any, Any]) -> None:
    """Write vectors, shape ``[n]`` or ``[n, k]``, as a Matrix Market array that reads back bit for bit.

    The file gets exactly this name (SciPy would append a suffix), and replaces an older one only when it is complete;
    what is no file, such as ``/dev/stdout``, is written to. A name that ends in ``.gz`` is compressed.
    """
    import scipy.io

    text = io.BytesIO()
    scipy.io.mmwrite(text, x.reshape(len(x), -1), precision=17, symmetry="general")
    content = gzip.compress(text.getvalue(), mtime=0) if path.suffix == ".gz" else text.getvalue()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()  # a link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
