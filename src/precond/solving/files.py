"""Files that the command writes: checked before the work, Matrix Market arrays after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from precond.core import BadInputError


def check_writable(path: Path) -> None:
    """Refuse, before any work, a file that cannot be written.

    Args:
        path: The file.

    Raises:
        BadInputError: Its folder is missing or closed, or it is a folder itself.
    """
    folder = path.parent
    if not folder.is_dir():
        raise BadInputError(f"{path}: there is no folder {folder}; create it first")
    if path.is_dir():
        raise BadInputError(f"{path}: is a folder; name a file in it")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise BadInputError(f"{path}: cannot be written; check the permissions")


def write_vectors(path: Path, x: np.ndarray[Any, Any]) -> None:
    """Write vectors, shape ``[n]`` or ``[n, k]``, as a Matrix Market array that reads back bit for bit.

    The file gets exactly this name (SciPy would append a suffix), and replaces an older one only when it is complete.
    """
    import scipy.io

    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            scipy.io.mmwrite(file, x.reshape(len(x), -1), precision=17, symmetry="general")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
