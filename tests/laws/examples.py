"""Examples of parts that cannot be built without arguments, by class name; every other part is built as it is.

Each value returns instances that together show what the part can do. Imports stand inside, so that one broken module
does not take every law with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _inverse_of() -> list[Any]:
    from precond.preconditioners.diagonal import Jacobi
    from precond.preconditioners.identity import Identity
    from precond.preconditioners.inverse_of import InverseOf

    from precond.krylov import CG

    return [InverseOf(CG(), Identity()), InverseOf(CG(), Jacobi())]


EXAMPLES: dict[str, Callable[[], list[Any]]] = {}
