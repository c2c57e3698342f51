"""Where a race was run: processor, memory, versions."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

_PACKAGES = ("torch", "numpy", "scipy", "numba", "optuna", "scikit-learn")


def machine(device: str = "cpu") -> dict[str, str]:
    """Return what the machine is, in words by name."""
    facts = {
        "processor": processor(),
        "cores": str(cores()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "torch threads": str(torch.get_num_threads()),
        "device": device,
    }
    if device.startswith("cuda") and torch.cuda.is_available():
        facts["device"] = f"{device}: {torch.cuda.get_device_name(torch.device(device))}"
    return {name: value for name, value in facts.items() if value}


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    from precond import __version__

    known = {"precond": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usual_jobs(device: str | None) -> int:
    """Return how many runs go on at once unless somebody says otherwise: two on a processor with two cores or more."""
    return 2 if cores() > 1 and (device or "cpu") == "cpu" else 1


@functools.cache
def processor() -> str:
    """Return the model of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return ""
