"""The torch optimizer driver and the drop-in classes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond.memory import estimate_memory as estimate_memory
    from precond.optim.conditioning import WeightConditioning as WeightConditioning
    from precond.optim.conditioning import weight_conditioning as weight_conditioning
    from precond.optim.groups import ParamGroups as ParamGroups
    from precond.optim.groups import groups_for as groups_for
    from precond.optim.optimizer import Optimizer as Optimizer
    from precond.optim.select import Matrices as Matrices
    from precond.recipes.dropins import SOAP as SOAP
    from precond.recipes.dropins import LeanSOAP as LeanSOAP
    from precond.recipes.dropins import Muon as Muon
    from precond.recipes.dropins import Shampoo as Shampoo
    from precond.recipes.dropins_first_order import SGD as SGD
    from precond.recipes.dropins_first_order import AdamW as AdamW
    from precond.recipes.dropins_first_order import Adan as Adan
    from precond.recipes.dropins_first_order import Lion as Lion
    from precond.recipes.dropins_hutchinson import AdaHessian as AdaHessian
    from precond.recipes.dropins_kl import KLSOAP as KLSOAP
    from precond.recipes.dropins_kl import KLShampoo as KLShampoo
    from precond.recipes.dropins_low_bit import Shampoo4bit as Shampoo4bit
    from precond.recipes.dropins_low_bit import Shampoo4bitCholesky as Shampoo4bitCholesky
    from precond.recipes.dropins_matrix import ASGO as ASGO
    from precond.recipes.dropins_matrix import DASGO as DASGO
    from precond.recipes.dropins_matrix import DistributedShampoo as DistributedShampoo
    from precond.recipes.dropins_matrix import ScalableShampoo as ScalableShampoo
    from precond.recipes.dropins_matrix import ShampooSquared as ShampooSquared
    from precond.recipes.dropins_momentum import LANTON as LANTON
    from precond.recipes.dropins_momentum import MARS as MARS
    from precond.recipes.dropins_momentum import MARSM as MARSM
    from precond.recipes.dropins_momentum import InducedMetric as InducedMetric
    from precond.recipes.dropins_momentum import TurboMuon as TurboMuon
    from precond.recipes.dropins_psgd import PSGDLRA as PSGDLRA
    from precond.recipes.dropins_psgd import PSGDAffine as PSGDAffine
    from precond.recipes.dropins_psgd import PSGDKron as PSGDKron
    from precond.recipes.dropins_psgd import PSGDNewton as PSGDNewton
    from precond.recipes.dropins_windowed import MFAC as MFAC
    from precond.recipes.dropins_windowed import LowRankMFAC as LowRankMFAC
    from precond.recipes.dropins_windowed import SparseMFAC as SparseMFAC

_home = {
    "Matrices": "precond.optim.select",
    "ParamGroups": "precond.optim.groups",
    "groups_for": "precond.optim.groups",
    "WeightConditioning": "precond.optim.conditioning",
    "weight_conditioning": "precond.optim.conditioning",
    "Optimizer": "precond.optim.optimizer",
    "estimate_memory": "precond.memory",
    **dict.fromkeys(("LeanSOAP", "Muon", "Shampoo", "SOAP"), "precond.recipes.dropins"),
    **dict.fromkeys(("SGD", "AdamW", "Adan", "Lion"), "precond.recipes.dropins_first_order"),
    **dict.fromkeys(
        ("ASGO", "DASGO", "DistributedShampoo", "ScalableShampoo", "ShampooSquared"),
        "precond.recipes.dropins_matrix",
    ),
    "AdaHessian": "precond.recipes.dropins_hutchinson",
    **dict.fromkeys(("KLSOAP", "KLShampoo"), "precond.recipes.dropins_kl"),
    **dict.fromkeys(("Shampoo4bit", "Shampoo4bitCholesky"), "precond.recipes.dropins_low_bit"),
    **dict.fromkeys(("InducedMetric", "LANTON", "MARS", "MARSM", "TurboMuon"), "precond.recipes.dropins_momentum"),
    **dict.fromkeys(("PSGDLRA", "PSGDAffine", "PSGDKron", "PSGDNewton"), "precond.recipes.dropins_psgd"),
    **dict.fromkeys(("MFAC", "LowRankMFAC", "SparseMFAC"), "precond.recipes.dropins_windowed"),
}

__all__ = [
    "ASGO",
    "DASGO",
    "KLSOAP",
    "LANTON",
    "MARS",
    "MARSM",
    "MFAC",
    "PSGDLRA",
    "SGD",
    "SOAP",
    "AdaHessian",
    "AdamW",
    "Adan",
    "DistributedShampoo",
    "InducedMetric",
    "KLShampoo",
    "LeanSOAP",
    "Lion",
    "LowRankMFAC",
    "Matrices",
    "Muon",
    "Optimizer",
    "PSGDAffine",
    "PSGDKron",
    "PSGDNewton",
    "ParamGroups",
    "ScalableShampoo",
    "Shampoo",
    "Shampoo4bit",
    "Shampoo4bitCholesky",
    "ShampooSquared",
    "SparseMFAC",
    "TurboMuon",
    "WeightConditioning",
    "estimate_memory",
    "groups_for",
    "weight_conditioning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _home:
        return getattr(importlib.import_module(_home[name]), name)
    raise AttributeError(f"module 'precond.optim' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
