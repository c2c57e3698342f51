"""Work that is shared with a second thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from precond.math.machine.threads import share


@pytest.fixture(autouse=True, params=[2])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("_threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8])
def test_each_part_is_done_once(count):
    done = []
    share(lambda first, last: done.extend(range(first, last)), count)
    assert sorted(done) == list(range(count))


def test_two_threads_work_at_a_time():
    together = threading.Barrier(2)
    met = []
    share(lambda first, last: met.append(together.wait(timeout=20)) if first in (0, 6) else None, 8)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("bad", [0, 7])
def test_an_exception_is_raised_once_nothing_runs_any_more(bad):
    started, ended = [], []

    def work(first, last):
        started.append(first)
        if first <= bad < last:
            while bad == 0 and len(started) < 2:  # let the other thread begin
                time.sleep(0.001)
            raise ValueError("part")
        time.sleep(0.05)
        ended.append(first)

    with pytest.raises(ValueError, match="part"):
        share(work, 8)
    now = list(ended)
    time.sleep(0.15)
    assert ended == now
    done = []
    share(lambda first, last: done.extend(range(first, last)), 8)
    assert sorted(done) == list(range(8))


def test_parts_may_share_their_own_work():
    done = []
    outer = threading.Thread(
        target=share, daemon=True,
        args=(lambda first, last: [share(lambda a, b: done.extend(range(a, b)), 4) for _ in range(first, last)], 4),
    )  # fmt: skip
    outer.start()
    outer.join(timeout=20)
    assert sorted(done) == sorted([*range(4)] * 4)


def test_a_fork_has_a_second_thread_of_its_own():
    share(lambda first, last: None, 8)
    pid = os.fork()
    if pid == 0:
        together = threading.Barrier(2)
        try:
            share(lambda first, last: together.wait(timeout=10) if first in (0, 6) else None, 8)
        finally:
            os._exit(1 if together.broken else 0)
    assert os.waitpid(pid, 0)[1] == 0


def test_work_at_the_end_of_a_process_is_done():
    script = """
import atexit, torch
from precond.math.machine.threads import share
torch.set_num_threads(2)
share(lambda first, last: None, 8)
done = []
atexit.register(lambda: (share(lambda first, last: done.extend(range(first, last)), 8), print(sorted(done))))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(list(range(8)))
    assert not ended.stderr
