"""The folder of a race: what is in it, and whether it may be used."""

from __future__ import annotations

import os
from pathlib import Path

from precond.core import BadInputError
from precond.race.ledger.database import LedgerError
from precond.race.results.result import RaceResult

LEDGER = "race.sqlite3"
RESULTS = "results.json"
REPORT = "report.html"


def prepare(out: Path, *, resume: bool, storage: str | None) -> Path | str:
    """Make the folder usable, touching nothing that is there, and return where the ledger is.

    Args:
        out: The folder.
        resume: Whether an existing race is to be continued.
        storage: URL of a shared ledger, if it is not in the folder.

    Returns:
        The ledger's file, or the URL.

    Raises:
        BadInputError: There is a race already, or results of a newer schema.
        LedgerError: The folder cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise BadInputError(f"{out} is a file, not a folder: name another --out")
    ledger = out / LEDGER
    try:
        if (out / RESULTS).exists():
            RaceResult.read(out / RESULTS)
        if not resume and (ledger.exists() or (out / RESULTS).exists()):
            raise BadInputError(
                f"{out} holds a race already: continue it with --resume, or race into another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".precond.{os.getpid()}.part"
        probe.write_bytes(b" " * 4096)
        probe.unlink()
    except BadInputError:
        raise
    except OSError as error:
        raise LedgerError(
            f"{out}: {error.strerror or error}; make the folder writable or name another --out"
        ) from error
    return storage if storage else ledger
