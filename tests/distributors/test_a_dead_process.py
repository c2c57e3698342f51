"""A process that dies while it saves is restarted by torchrun, and the run ends where an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.distributors.crew import ROOT
from tests.distributors.survivor import DEATH


def test_a_run_survives_the_death_of_a_process(tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    words += ["--monitor-interval=0.1", "-m", "tests.distributors.survivor", str(tmp_path)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = run.communicate(timeout=180)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, output[-4000:]
    found = torch.load(tmp_path / "final.pt")
    assert found["begin"] == DEATH, "the second attempt begins at the last checkpoint"
    assert found["same"], "the weights are those of an undisturbed run, to the last bit"
