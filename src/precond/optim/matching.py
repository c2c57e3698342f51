"""Which saved parameter is which of an optimizer's own, by name."""

from __future__ import annotations

from typing import Any


def matched_by_name(saved: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the saved dict with each group's parameters in this optimizer's order, when both have names.

    Those of names that only one of them has (a wrapper's prefix, the other name of a tied weight) stay in their order.

    Args:
        saved: What ``state_dict`` returned.
        groups: The parameter groups that it is to be loaded into.

    Returns:
        The dict, with groups of its own.
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
