"""One worker process of a race: takes jobs from a ledger until there are none.

The main process starts it as ``python -m precond.race.workers.worker PLACE`` and holds its standard input; when that
closes, because the main process is done or was killed, the worker gives its job back and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from precond.core import PrecondError
from precond.race.harness import WAIT, plan_of
from precond.race.ledger.ledger import open_ledger
from precond.race.workers.execute import execute

_GRACE = 5.0


def main(arguments: list[str]) -> int:
    """Work until the race is complete.

    Args:
        arguments: The ledger (a file, or a URL) and the number of threads.

    Returns:
        The exit code.
    """
    place, threads = arguments
    torch.set_num_threads(int(threads))
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        ledger = open_ledger(place if "://" in place else Path(place))
        resolved = plan_of(ledger)
        if resolved is None:
            return 0
        plan, device = resolved
        complete = False
        while not complete:
            complete, taken = plan.take(ledger)
            if taken is not None:
                execute(ledger, *taken, device)
            elif not complete:
                time.sleep(WAIT)
    except KeyboardInterrupt:
        return 130
    except PrecondError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _leave_with_parent() -> None:
    """Wait for the end of standard input, then interrupt; leave for good if that does not help."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
