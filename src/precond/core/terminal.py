"""Where commands print."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_wide = 160


def console() -> Console:
    """Return a console as wide as the terminal; 160 columns where lines go to a file or another program.

    There Rich would assume 80, and break lines that somebody wants to search.
    """
    from rich.console import Console

    usual = Console()
    return usual if usual.is_terminal or "COLUMNS" in os.environ else Console(width=_wide)
