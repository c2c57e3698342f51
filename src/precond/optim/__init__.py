"""The torch optimizer driver and the drop-in classes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond.optim.memory import estimate_memory as estimate_memory
    from precond.optim.optimizer import Optimizer as Optimizer
    from precond.optim.select import Matrices as Matrices
    from precond.recipes.dropins import SGD as SGD
    from precond.recipes.dropins import SOAP as SOAP
    from precond.recipes.dropins import AdamW as AdamW
    from precond.recipes.dropins import Adan as Adan
    from precond.recipes.dropins import LeanSOAP as LeanSOAP
    from precond.recipes.dropins import Lion as Lion
    from precond.recipes.dropins import Muon as Muon
    from precond.recipes.dropins import Shampoo as Shampoo
    from precond.recipes.dropins_matrix import ASGO as ASGO
    from precond.recipes.dropins_matrix import DASGO as DASGO
    from precond.recipes.dropins_matrix import MARS as MARS
    from precond.recipes.dropins_matrix import MARSM as MARSM
    from precond.recipes.dropins_matrix import InducedMetric as InducedMetric
    from precond.recipes.dropins_matrix import PSGDKron as PSGDKron
    from precond.recipes.dropins_matrix import ScalableShampoo as ScalableShampoo
    from precond.recipes.dropins_matrix import ShampooSquared as ShampooSquared
    from precond.recipes.dropins_matrix import TurboMuon as TurboMuon

_MATRIX = (
    "ASGO", "DASGO", "InducedMetric", "MARS", "MARSM", "PSGDKron", "ScalableShampoo", "ShampooSquared", "TurboMuon",
)  # fmt: skip

_home = {
    "Matrices": "precond.optim.select",
    "Optimizer": "precond.optim.optimizer",
    "estimate_memory": "precond.optim.memory",
    **dict.fromkeys(("SGD", "AdamW", "Adan", "LeanSOAP", "Lion", "Muon", "Shampoo", "SOAP"), "precond.recipes.dropins"),
    **dict.fromkeys(_MATRIX, "precond.recipes.dropins_matrix"),
}

__all__ = [
    "ASGO", "DASGO", "MARS", "MARSM", "SGD", "SOAP", "AdamW", "Adan", "InducedMetric", "LeanSOAP", "Lion",
    "Matrices", "Muon",
    "Optimizer", "PSGDKron", "ScalableShampoo", "Shampoo", "ShampooSquared", "TurboMuon", "estimate_memory",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _home:
        return getattr(importlib.import_module(_home[name]), name)
    raise AttributeError(f"module 'precond.optim' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
