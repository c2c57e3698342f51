"""Examples of parts that cannot be built without arguments, by class name; every other part is built as it is.

Each value returns instances that together show what the part can do; the laws also run on everything that the recipes
put together. Imports stand inside, so that this table can be read without loading the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _blocked() -> list[Any]:
    from precond.preconditioners.blocked import Blocked
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.polar import Polar
    from precond.preconditioners.rotate import Rotate

    return [Blocked(2, Rotate(Eigenbasis(), Diagonal(0.95))), Blocked(2, Kronecker()), Blocked(3, Polar(0))]


def _chain() -> list[Any]:
    from precond.filters.chain import Chain
    from precond.filters.clip import ClipNorm
    from precond.filters.ema import EMA
    from precond.filters.mars import Mars

    return [Chain(), Chain((Mars(from_zero=True), ClipNorm(), EMA()))]


def _graft() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.graft import Graft
    from precond.preconditioners.kronecker import Kronecker

    return [Graft(direction=Kronecker(), magnitude=Diagonal()), Graft(Kronecker(), Diagonal(), start=5)]


def _inverse_of() -> list[Any]:
    from precond.krylov.cg import CG
    from precond.preconditioners.identity import Identity
    from precond.preconditioners.inverse_of import InverseOf
    from precond.preconditioners.jacobi import Jacobi

    return [InverseOf(CG(), Identity()), InverseOf(CG(), Jacobi())]


def _merged() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.merged import Merged

    return [Merged(Kronecker(), limit=6), Merged(Diagonal())]


def _observing() -> list[Any]:
    from precond.filters.adan import LookAhead
    from precond.filters.clip import ClipNorm
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.kronecker import Kronecker
    from precond.preconditioners.observing import Observing

    return [Observing(LookAhead(), Diagonal()), Observing(ClipNorm(), Kronecker())]


def _rotate() -> list[Any]:
    from precond.preconditioners.diagonal import Diagonal
    from precond.preconditioners.eigenbasis import Eigenbasis
    from precond.preconditioners.rotate import Rotate

    return [Rotate(Eigenbasis(), Diagonal(0.95)), Rotate(Eigenbasis(max_dim=3), Diagonal(0.95, eps_first=True))]


def _sketch_qr() -> list[Any]:
    from precond.preconditioners.sketch_qr import SketchQR
    from precond.sketches import SparseSign

    return [SketchQR(SparseSign())]


EXAMPLES: dict[str, Callable[[], list[Any]]] = {
    "Blocked": _blocked,
    "Chain": _chain,
    "Graft": _graft,
    "InverseOf": _inverse_of,
    "Merged": _merged,
    "Observing": _observing,
    "Rotate": _rotate,
    "SketchQR": _sketch_qr,
}
