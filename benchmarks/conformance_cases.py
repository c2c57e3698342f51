"""All cases of conformance by group and name, and how a case is judged."""

from __future__ import annotations

import importlib

from conformance_case import CASES as DECLARED
from conformance_case import Broken, Case, Maker, Named, verdict

for kind in ("gradients", "tensors", "parameters", "saving", "loops"):
    importlib.import_module(f"conformance_{kind}")  # declares its cases

ORDER = ("gradients", "missing gradients", "dtypes", "shapes", "parameters", "saving", "loops")
CASES = dict(sorted(DECLARED.items(), key=lambda entry: ORDER.index(entry[0])))
"""All cases by group and name, in the order of the tables."""

__all__ = ["CASES", "Broken", "Case", "Maker", "Named", "verdict"]
