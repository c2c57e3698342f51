"""Runs checks in several gloo processes: ``python -m tests.distributors.crew FOLDER SIZE:CHECK,CHECK...``.

One interpreter imports everything once and forks the processes of each crew, one crew after the other. A check is
called in all processes of its crew at the same time, with a folder that all crews share; what it raises is written to a
file. One that hangs is ended by the time limit of its collectives, and all by that of whoever waits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]


def failures(crews: Sequence[str], folder: Path, seconds: float = 240) -> list[str]:
    """Run checks, such as ``["2:one,other", "4:one"]``, and return what went wrong."""
    words = [sys.executable, "-m", "tests.distributors.crew", str(folder), *crews]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    crew = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = crew.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(crew.pid, signal.SIGKILL)
        return [f"the crews took longer than {seconds} s\n{crew.communicate()[0][-4000:]}"]
    found = [path.read_text() for path in sorted(folder.glob("failure-*"))]
    return found or ([] if crew.returncode == 0 else [output[-4000:]])


def _sail(rank: int, size: int, folder: Path, rendezvous: Path, checks: Sequence[Callable[[Path], None]]) -> None:
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    for check in checks:
        try:
            check(folder)
            dist.barrier()
        except BaseException:  # the others will time out: this is what they are to read
            name = check.__name__
            text = f"{name}, rank {rank} of {size}:\n{traceback.format_exc()}"
            (folder / f"failure-{name}-{rank}-of-{size}").write_text(text)
            raise
    dist.destroy_process_group()


def main() -> None:
    """Fork the processes of each crew and wait for them."""
    import torch

    from tests.distributors import checks

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for number, crew in enumerate(sys.argv[2:]):
        size, _, names = crew.partition(":")
        chosen = [getattr(checks, name) for name in names.split(",")]
        meeting, children = folder / f"rendezvous-{os.getpid()}-{number}", []
        for rank in range(int(size)):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    _sail(rank, int(size), folder, meeting, chosen)
                    code = 0
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            children.append(child)
        if any([os.waitpid(child, 0)[1] for child in children]):
            sys.exit(1)


if __name__ == "__main__":
    main()
