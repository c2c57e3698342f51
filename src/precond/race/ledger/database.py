"""The database of a race: opened, made safe for several processes, and its failures told in one line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.event
import sqlalchemy.exc

from precond.core import PrecondError

_ATTEMPTS = 6


class LedgerError(PrecondError, OSError):
    """The database of a race cannot be read or written; what it held before is untouched."""


def open_storage(place: Path | str) -> optuna.storages.BaseStorage:
    """Open or create the database of a race.

    Args:
        place: A SQLite file, or the URL of an Optuna storage.

    Returns:
        The storage; an empty one when there was none.

    Raises:
        LedgerError: When it cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = str(place)
    url = f"sqlite:///{place}" if isinstance(place, Path) else place
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}
    with one_line(name):
        for attempt in range(_ATTEMPTS):
            try:
                storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
                break
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                # two processes that create the tables at once get in each other's way
                text = f"{error} {error.__cause__}"
                if attempt == _ATTEMPTS - 1 or not any(word in text for word in ("already exists", "UNIQUE", "unique")):
                    raise
                time.sleep(0.1 * (attempt + 1))
    if url.startswith("sqlite:"):
        _serialize(storage.engine)
    return optuna.storages.get_storage(storage)


@contextlib.contextmanager
def one_line(place: str) -> Iterator[None]:
    """Turn what a broken disk or database raises into one clear line."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        if isinstance(error, LedgerError):
            raise
        cause: BaseException = error
        while not isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        raise LedgerError(f"{place}: {text}{_remedy(text)}") from error
    except RuntimeError as error:
        if "optuna" in str(error).lower() and "version" in str(error).lower():
            raise LedgerError(
                f"{place}: written by another version of Optuna's storage; use that version, or another --out"
            ) from error
        raise


def _remedy(text: str) -> str:
    lower = text.lower()
    if "full" in lower or "no space" in lower:
        return "; free some space and go on with --resume (finished runs are kept)"
    if "not a database" in lower or "malformed" in lower:
        return "; this is no ledger of a race: name another --out"
    if "readonly" in lower or "read-only" in lower or "unable to open" in lower or "permission" in lower:
        return "; make the folder writable or name another --out"
    if "locked" in lower:
        return "; another process holds it: wait, or name another --out"
    return "; check the storage or name another --out"


def _serialize(engine: Any) -> None:
    """Take SQLite's write lock when a transaction begins, so that no two processes pop the same job."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made so far did not hear of it
