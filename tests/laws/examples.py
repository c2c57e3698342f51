"""Examples of parts that cannot be built without arguments, by class name; every other part is built as it is.

Each value returns instances that together show what the part can do. Imports stand inside, so that this table can be
read without loading the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _inverse_of() -> list[Any]:
    from precond.krylov.cg import CG
    from precond.preconditioners.identity import Identity
    from precond.preconditioners.inverse_of import InverseOf

    return [InverseOf(CG(), Identity())]


EXAMPLES: dict[str, Callable[[], list[Any]]] = {"InverseOf": _inverse_of}
