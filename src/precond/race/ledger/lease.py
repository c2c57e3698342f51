"""Who is running a job, and whether they are still alive.

On the same host a process is looked up by its id and the moment it started, so a killed race can be
resumed at once. From elsewhere only the heartbeat is seen: a lease whose beat has not changed for
`PATIENCE` seconds of the observer's own clock is taken over.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEAT = 5.0
PATIENCE = 60.0
UNSIGNED = 10.0
"""Seconds after which a job that was taken but never signed is taken over."""


def host() -> str:
    """Return a name for this machine, this boot and this process namespace."""
    parts = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8],
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            parts.append(read())
        except OSError:
            continue
    return "/".join(parts)


def started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; ``""`` when unknowable, ``None`` when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return "" if _exists(pid) else None
    except OSError:
        return ""
    return None if fields[0] in ("Z", "X") else fields[19]  # state and start time: fields 3 and 22 of the file


def sign() -> dict[str, Any]:
    """Return a lease for this process."""
    pid = os.getpid()
    return {"host": host(), "pid": pid, "start": started(pid) or "", "beat": 0, "note": ""}


class Watch:
    """Judges leases by looking at them again and again."""

    def __init__(self) -> None:
        self._host = host()
        self._seen: dict[object, tuple[object, float]] = {}

    def alive(self, job: object, lease: Mapping[str, Any] | None) -> bool:
        """Whether whoever holds ``job`` still works on it.

        Args:
            job: What is held; any hashable name.
            lease: What the holder signed; ``None`` when it has not signed yet.

        Returns:
            ``False`` when the holder is known to be gone, or has been silent for too long.
        """
        if lease is not None and lease.get("host") == self._host:
            return started(int(lease["pid"])) == (lease.get("start") or "")
        beat = None if lease is None else lease.get("beat")
        now = time.monotonic()
        known, since = self._seen.setdefault(job, (beat, now))
        if known != beat:
            self._seen[job] = (beat, now)
            return True
        return now - since < (UNSIGNED if lease is None else PATIENCE)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
