"""Trains with a checkpoint after each step; one process dies while it saves, on the first attempt. Run by torchrun."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from tests.distributors.checks import maker
from tests.distributors.models import build, train, whole

STEPS, DEATH = 6, 3


class Dying(dcp.FileSystemWriter):
    """A writer that kills its process when it has written its part, before anybody knows."""

    def write_data(self, *args: Any, **options: Any) -> NoReturn:
        """Write, and die."""
        super().write_data(*args, **options).wait()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


def main(folder: Path) -> None:
    """Go on from the last checkpoint, if there is one, and compare the end with that of an undisturbed run."""
    torch.set_num_threads(1)
    attempt, rank, size = (os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "RANK", "WORLD_SIZE"))
    meeting = (
        f"file://{folder}/rendezvous-{attempt}"  # gloo may find the addresses of dead processes in torchrun's store
    )
    dist.init_process_group(
        "gloo", init_method=meeting, rank=int(rank), world_size=int(size), timeout=timedelta(seconds=60)
    )
    model, optimizer = build("sharded", maker("soap"))
    saved = sorted(folder.glob("step-*/.metadata"))  # written last, so a checkpoint that has it is complete
    begin = 0
    if saved:
        weights, states = get_state_dict(model, optimizer)
        everything = {"model": weights, "optim": states}
        dcp.load(everything, checkpoint_id=saved[-1].parent)
        set_state_dict(model, optimizer, model_state_dict=everything["model"], optim_state_dict=everything["optim"])
        begin = int(saved[-1].parent.name.removeprefix("step-"))
    for step in range(begin, STEPS):
        train(model, optimizer, range(step, step + 1), split=True)
        dies = step == DEATH and dist.get_rank() == 1 and attempt == "0"
        writer = (Dying if dies else dcp.FileSystemWriter)(folder / f"step-{step + 1}")
        weights, states = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optim": states}, storage_writer=writer)
    undisturbed = train(*build("sharded", maker("soap")), range(STEPS), split=True)
    pairs = list(zip(model.parameters(), undisturbed.parameters(), strict=True))
    same = all(torch.equal(whole(found), whole(expected)) for found, expected in pairs)
    if dist.get_rank() == 0:
        torch.save({"same": same, "begin": begin}, folder / "final.pt")
    _leave_together(folder, int(size))


def _leave_together(folder: Path, size: int) -> NoReturn:
    """End the process without running destructors, once all processes are through with each other.

    Gloo's threads are sometimes not joined when the interpreter tears down a group whose other side has gone, which
    ends in ``std::terminate``; torchrun would count that as another death.
    """
    (folder / f"through-{dist.get_rank()}").touch()
    until = time.monotonic() + 60
    while len(list(folder.glob("through-*"))) < size and time.monotonic() < until:
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
