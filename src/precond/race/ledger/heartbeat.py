"""The lease of a claim is renewed from a thread while its run goes on."""

from __future__ import annotations

import logging
import threading

import optuna

from precond.core import PrecondError
from precond.race.ledger import lease
from precond.race.ledger.jobs import Claim
from precond.race.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


class Heartbeat:
    """Renews the lease of a claim from a thread while its run goes on.

    Args:
        ledger: Where the claim was taken.
        claim: The claim.
    """

    def __init__(self, ledger: Ledger, claim: Claim) -> None:
        self.note = ""
        self._ledger, self._claim = ledger, claim
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="precond-lease", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop renewing."""
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(lease.BEAT):
            try:
                self._ledger.beat(self._claim, self.note)
            except (PrecondError, optuna.exceptions.OptunaError) as error:  # the run itself will meet it
                _log.warning("the lease could not be renewed: %s", error)
