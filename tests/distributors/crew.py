"""Runs checks in several gloo processes: ``python -m tests.distributors.crew SIZE FOLDER MODULE CHECK...``.

One interpreter imports everything once and forks the processes. Each check is called in all of them at the same time;
what it raises is written to a file. A check that hangs is ended by the time limit of its collectives, and the crew by that
of whoever waits for it.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]


def failures(size: int, module: str, checks: Sequence[str], folder: Path, seconds: float = 120) -> list[str]:
    """Run checks in ``size`` processes and return what went wrong, one text for each rank that failed."""
    words = [sys.executable, "-m", "tests.distributors.crew", str(size), str(folder), module, *checks]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    crew = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = crew.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(crew.pid, 9)
        output = f"the crew of {size} took longer than {seconds} s\n{crew.communicate()[0]}"
    found = [path.read_text() for path in sorted(folder.glob("failure-*"))]
    finished = {path.name for path in folder.glob("passed-*")}
    missing = [f"passed-{rank}" for rank in range(size) if f"passed-{rank}" not in finished]
    return found or ([output[-4000:]] if missing else [])


def _sail(rank: int, size: int, folder: Path, checks: Sequence[Callable[[Path], None]]) -> None:
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size, timeout=timedelta(seconds=30)
    )
    for check in checks:
        try:
            own = folder / check.__name__
            own.mkdir(exist_ok=True)
            check(own)
            dist.barrier()
        except BaseException:  # the others will time out: this is what they are to read
            name = check.__name__
            (folder / f"failure-{name}-{rank}").write_text(f"{name}, rank {rank} of {size}:\n{traceback.format_exc()}")
            raise
    (folder / f"passed-{rank}").touch()
    dist.destroy_process_group()


def main() -> None:
    """Fork the processes and wait for them."""
    import torch

    size, folder, module = int(sys.argv[1]), Path(sys.argv[2]), importlib.import_module(sys.argv[3])
    torch.set_num_threads(1)
    checks = [getattr(module, name) for name in sys.argv[4:]]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _sail(rank, size, folder, checks)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))


if __name__ == "__main__":
    main()
