"""What the axes of a problem's figures count, how they are read, and which there are."""

from __future__ import annotations

from precond.race.report.series import AXES, curve
from precond.race.results.records import ProblemResult

_WIDE = 50


def axis_title(problem: ProblemResult, axis: str) -> str:
    """Return what an axis counts, in the words of the problem."""
    linear = problem.kind in ("linear-system", "least-squares")
    titles = {
        "step": "iterations" if linear else "steps",
        "seconds": "seconds",
        "gradients": "products with the matrix" if linear else "gradient evaluations",
    }
    return titles[axis]


def metric_title(problem: ProblemResult) -> str:
    """Return the metric with its unit."""
    return f"{problem.metric} ({problem.unit})" if problem.unit else problem.metric


def log_metric(problem: ProblemResult) -> bool:
    """Whether the metric is read on a logarithmic axis: the problem says so, or linear curves would be flat."""
    if problem.log:
        return True
    good = [run for run in problem.runs if run.stage == "final" and run.state == "complete"]
    values = [value for run in good for value in curve(run, "step")[1].tolist()]
    return bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)


def available_axes(problem: ProblemResult) -> list[str]:
    """Return the axes along which at least one final run has a curve."""
    runs = [run for run in problem.runs if run.stage == "final"]
    return [axis for axis in AXES if any(len(curve(run, axis)[0]) for run in runs)]
