"""Write the pages that are built from the code: ``python -m precond.catalogue [PATH]``."""

from __future__ import annotations

import sys
from pathlib import Path

from precond.catalogue.page import page


def main() -> None:
    """Write ``docs/methods.md``, or the path that was given."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/methods.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
