"""A race as a pandas table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from precond.core import require

if TYPE_CHECKING:
    import pandas

    from precond.race.results.records import Interval, ProblemResult


def table(problems: list[ProblemResult]) -> pandas.DataFrame:
    """Return one row for each problem and contestant, in the order of the standings.

    Args:
        problems: The problems of the race with their standings.

    Returns:
        A frame with the columns ``problem``, ``contestant``, ``trials``, ``seeds``, ``solved``, ``final`` with
        ``final_low`` and ``final_high``, the same for ``steps_to_target`` and ``seconds_to_target``,
        ``optimizer_share``, ``state_bytes_per_parameter``, failures and the tuned ``settings`` (a dict).
    """
    pandas = require("pandas")
    rows: list[dict[str, Any]] = []
    for problem in problems:
        for row in problem.standings:
            cells: dict[str, Any] = {
                "problem": problem.name, "contestant": row.contestant, "trials": row.trials, "seeds": row.seeds,
                "solved": row.solved,
            }  # fmt: skip
            for name in ("final", "steps_to_target", "seconds_to_target"):
                cells |= _bounds(name, getattr(row, name))
            cells |= {
                "optimizer_share": row.optimizer_share, "state_bytes_per_parameter": row.state_bytes_per_parameter,
                "failed_trials": row.failed_trials, "failed_seeds": row.failed_seeds, "settings": row.settings,
            }  # fmt: skip
            rows.append(cells)
    return pandas.DataFrame(rows)


def _bounds(name: str, value: Interval | None) -> dict[str, float | None]:
    if value is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
