"""All cases of conformance by group and name, and how a case is judged."""

from __future__ import annotations

# importing a module declares its cases
import conformance_gradients  # noqa: F401
import conformance_loops  # noqa: F401
import conformance_parameters  # noqa: F401
import conformance_saving  # noqa: F401
import conformance_tensors  # noqa: F401
from conformance_case import CASES as DECLARED
from conformance_case import Broken, Case, Maker, Named, verdict

ORDER = ("gradients", "missing gradients", "dtypes", "shapes", "parameters", "saving", "loops")
CASES = dict(sorted(DECLARED.items(), key=lambda entry: ORDER.index(entry[0])))
"""All cases by group and name, in the order of the tables."""

__all__ = ["CASES", "Broken", "Case", "Maker", "Named", "verdict"]
