"""Performance profiles: who is near the best, on how large a share of the problems.

E. D. Dolan and J. J. Moré, *Benchmarking optimization software with performance profiles* (2002), arXiv cs/0102001.
With the cost ``t[p, s]`` of solving instance ``p`` by contestant ``s``, infinite when it was not solved, the profile is

    rho_s(tau) = share of the instances with  t[p, s] <= tau * min_s t[p, s].

``rho_s(1)`` is the share of the instances on which ``s`` was the best, and the right end the share that it solved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from precond.race.results.records import ProblemResult


@dataclasses.dataclass(frozen=True)
class Profile:
    """The profile of one contestant: a step function, constant from each ratio to the next.

    Attributes:
        contestant: Its name.
        ratios: Where the function jumps, increasing, the first one 1.
        shares: Value from there on, in ``[0, 1]``.
    """

    contestant: str
    ratios: list[float]
    shares: list[float]

    def at(self, ratio: float) -> float:
        """Return the share of the instances solved within ``ratio`` times the best cost."""
        return max(
            (share for start, share in zip(self.ratios, self.shares, strict=True) if start <= ratio), default=0.0
        )


def performance_profiles(problems: Sequence[ProblemResult], cost: str = "steps_to_target") -> list[Profile]:
    """Return one profile per contestant, those that solve most within few ratios first.

    An instance is one seed of one problem; each problem weighs the same however many seeds it had. A contestant that
    was skipped, failed or did not run on an instance has not solved it; instances that nobody solved count as well.

    Args:
        problems: The problems raced.
        cost: ``"steps_to_target"`` or ``"seconds_to_target"``.

    Returns:
        The profiles; none when nothing was raced.
    """
    contestants = list(dict.fromkeys(row.contestant for problem in problems for row in problem.standings))
    jumps: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    raced = 0
    for problem in problems:
        instances: dict[int, dict[str, float]] = {}
        for run in problem.runs:
            if run.stage == "final" and run.state in ("complete", "failed"):
                value = getattr(run, cost) if run.state == "complete" else None
                spent = math.inf if value is None else float(value)
                instances.setdefault(run.slot, {})[run.contestant] = spent if math.isfinite(spent) else math.inf
        raced += bool(instances)
        for costs in instances.values():
            for name, ratio in _ratios(costs).items():
                if name in jumps:
                    jumps[name].append((ratio, 1 / len(instances)))
    profiles = [_profile(name, jumps[name], raced) for name in contestants if raced]
    return sorted(profiles, key=lambda profile: -sum(profile.at(ratio) for ratio in (1, 2, 4, 8, 16)))


def _ratios(costs: dict[str, float]) -> dict[str, float]:
    """Ratios to the best cost, of those who solved the instance; a cost of zero is as good as the smallest other."""
    positive = [cost for cost in costs.values() if 0 < cost < math.inf]
    floor = min(positive, default=1.0)
    solved = {name: max(cost, floor) if cost <= 0 else cost for name, cost in costs.items() if cost < math.inf}
    best = min(solved.values(), default=1.0)
    return {name: cost / best for name, cost in solved.items()}


def _profile(name: str, jumps: list[tuple[float, float]], problems: int) -> Profile:
    ratios, shares, total = [1.0], [0.0], 0.0
    for ratio, weight in sorted(jumps):
        total += weight / problems
        if ratio > ratios[-1]:
            ratios.append(ratio)
            shares.append(total)
        else:
            shares[-1] = total
    return Profile(name, ratios, [min(share, 1.0) for share in shares])
