"""What `precond.optim.Optimizer` makes of a state that was saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

logger = logging.getLogger(__name__)


def matched_by_name(saved: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the saved dict with each group's parameters in this optimizer's order, when both have names.

    Those of names that only one of them has (a wrapper's prefix, the other name of a tied weight) stay in their order.
    """
    result = {**saved, "param_groups": [dict(group) for group in saved["param_groups"]]}
    for theirs, ours in zip(result["param_groups"], groups, strict=False):
        names, wanted = theirs.get("param_names"), ours.get("param_names")
        if names and wanted and names != wanted and len(names) == len(wanted):
            key = dict(zip(names, theirs["params"], strict=True))
            others = iter([key[name] for name in names if name not in set(wanted)])
            theirs["params"] = [key[name] if name in key else next(others) for name in wanted]
            theirs["param_names"] = list(wanted)
    return result


def as_saved(saved: dict[str, Any], groups: list[dict[str, Any]]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield parameters with copies of their states in the precision that was saved, while torch casts them."""
    for theirs, ours in zip(saved["param_groups"], groups, strict=True):
        for key, param in zip(theirs["params"], ours["params"], strict=True):
            if key in saved["state"]:
                values = saved["state"][key].items()
                yield param, {name: value.to(param.device, copy=True) for name, value in values}


def warn_of_lacking(loaded: Mapping[Tensor, set[str]], state: Mapping[Tensor, Mapping[str, Any]]) -> None:
    """Log which tensors the method keeps for loaded parameters that were not among what was loaded."""
    lacking = {param: state[param].keys() - names for param, names in loaded.items()}
    names = sorted(set().union(*lacking.values()))
    if names:
        logger.warning(
            "the loaded state of %d of %d parameters lacks %s, which start afresh: it was saved by another method, "
            "or with other settings", sum(map(bool, lacking.values())), len(loaded), ", ".join(names),
        )  # fmt: skip
