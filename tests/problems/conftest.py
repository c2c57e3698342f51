"""What the tests of problems share."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from precond.core import BadInputError
from precond.problems import load


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file, gzipped when its name says so."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def refused() -> Callable[[str], str]:
    """Load something that is to be refused and return the message, checked to be one line with a remedy."""

    def refused(spec: str) -> str:
        with pytest.raises(BadInputError) as caught:
            load(spec)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refused
