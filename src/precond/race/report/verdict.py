"""What a race has shown, in a sentence that claims no more than the intervals do."""

from __future__ import annotations

import collections
import dataclasses
from typing import TypeVar

from precond.race.report.numbers import finite, interval, plain
from precond.race.report.resolution import Reach, reach
from precond.race.results.records import Interval, ProblemResult, Standing
from precond.race.results.result import RaceResult

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome on one problem.

    Attributes:
        headline: The outcome in one sentence.
        remarks: What else an honest reader should know, one sentence each.
        winner: The contestant that won; ``None`` when the race does not say.
        measure: Name of the field of `Standing` that was compared.
    """

    headline: str
    remarks: tuple[str, ...] = ()
    winner: str | None = None
    measure: str = "final"


def separated(one: Interval, other: Interval) -> bool:
    """Whether two intervals are known and do not overlap."""
    bounds = [bound for bound in map(finite, (one.low, one.high, other.low, other.high)) if bound is not None]
    return len(bounds) == 4 and (bounds[1] < bounds[2] or bounds[3] < bounds[0])


def ranking(problem: ProblemResult) -> list[Standing]:
    """Return the standings in the order of the verdict.

    In training, which goes on to the horizon and is tuned for its end: by the metric there, whoever failed on a seed
    behind all others. Elsewhere those that met the target in every run come first, by steps; then those that met it in
    some, by how many; then the others by their final metric. Last those that have nothing to show.
    """

    def at_the_end(row: Standing) -> tuple[int, float, float]:
        final = _mean(row.final)
        return (3, 0.0, 0.0) if final is None else (0, row.failed_seeds / max(row.seeds, 1), final)

    return sorted(problem.standings, key=at_the_end if _to_the_end(problem) else _soonest)


def _soonest(row: Standing) -> tuple[int, float, float]:
    """The key that sorts by who met the target always, often, or never, and how soon."""
    steps, final = _mean(row.steps_to_target), _mean(row.final)
    if row.solved and steps is not None:
        return (0, 0.0, steps) if row.solved >= row.seeds else (1, -row.solved / row.seeds, steps)
    return (2, final, 0.0) if final is not None else (3, 0.0, 0.0)


def verdict(problem: ProblemResult) -> Verdict:
    """Return what was shown on one problem."""
    rows = ranking(problem)
    if not rows:
        return Verdict("Nothing was raced: every contestant was skipped." if problem.skipped else "Nothing was raced.")
    if not any(row.seeds for row in rows):
        failed = sum(row.failed_trials for row in rows)
        if failed and failed == sum(row.trials for row in rows):
            return Verdict(f"No result: all {failed} tuning trials that ended have failed.")
        return Verdict("No result yet: no final run has ended.")
    if all(row.failed_seeds >= row.seeds for row in rows):
        return Verdict("No result: every final run failed.")
    soonest = sorted(rows, key=_soonest)
    everywhere = [
        row for row in soonest if row.solved and row.solved >= row.seeds and _mean(row.steps_to_target) is not None
    ]
    somewhere = [row for row in soonest if 0 < row.solved < row.seeds and _mean(row.steps_to_target) is not None]
    if _to_the_end(problem):
        there = [row for row in rows if _mean(row.final) is not None]
        found = _by_final(problem, there, met=bool(everywhere or somewhere))
        remarks = (f"To the target of {plain(problem.target)}: {_lower(_by_steps(problem, everywhere, somewhere))}",
                   *_clock(problem, everywhere)) if everywhere else ()  # fmt: skip
        return dataclasses.replace(found, remarks=(*found.remarks, *remarks))
    if everywhere:
        return _by_steps(problem, everywhere, somewhere)
    if somewhere:
        most = [row for row in somewhere if row.solved * somewhere[0].seeds == somewhere[0].solved * row.seeds]
        names = _list([f"{row.contestant} ({row.solved} of {row.seeds})" for row in most])
        return Verdict(
            f"No clear winner: no contestant met the target in every run; most often {names}.",
            measure="steps_to_target",
        )
    return _by_final(problem, [row for row in rows if _mean(row.final) is not None])


def _to_the_end(problem: ProblemResult) -> bool:
    """Whether every run goes on to the horizon: training does, solvers stop at the target."""
    return problem.kind == "training"


def _lower(found: Verdict) -> str:
    """The headline as the end of a sentence; names of contestants stay as they are."""
    return found.headline.replace("No clear winner", "no clear winner", 1)


def headline(result: RaceResult) -> str:
    """Return the outcome of the whole race in one sentence."""
    verdicts = [verdict(problem) for problem in result.problems]
    if not verdicts:
        return "Nothing was raced."
    if len(verdicts) == 1:
        return verdicts[0].headline
    wins = collections.Counter(entry.winner for entry in verdicts if entry.winner is not None)
    count = len(verdicts)
    if not wins:
        return f"No clear winner on any of the {count} problems."
    (first, number), *others = wins.most_common()
    parts = [f"{first} wins on {'all' if number == count else f'{number} of'} {count} problems"]
    parts += [f"{name} on {number}" for name, number in others]
    open_ = count - wins.total()
    return ", ".join(parts) + (f"; no clear winner on {open_}." if open_ else ".")


def _by_steps(problem: ProblemResult, everywhere: list[Standing], somewhere: list[Standing]) -> Verdict:
    reached = {row.contestant: _must(reach(problem, row)) for row in [*everywhere, *somewhere]}

    def text(row: Standing, unit: str = "steps") -> str:
        share = f" in {row.solved} of {row.seeds} runs" if row.solved < row.seeds else ""
        return interval(reached[row.contestant].shown, unit) + share

    first, *others = everywhere
    steps = reached[first.contestant]
    remarks = _clock(problem, everywhere)
    remarks += [
        f"{row.contestant} was faster where it met the target, but did so {text(row)} only."
        for row in somewhere
        if reached[row.contestant].seen.mean < steps.seen.mean
    ]

    def outcome(sentence: str, winner: str | None = None) -> Verdict:
        return Verdict(sentence, tuple(remarks), winner, "steps_to_target")

    if len(problem.standings) == 1:
        return outcome(f"{first.contestant} reaches the target in {text(first)}; nothing raced against it.")
    often = [row for row in somewhere if 2 * row.solved > row.seeds]
    close = [row for row in [*others, *often] if not steps.before(reached[row.contestant])]
    if close and any(finite(reached[row.contestant].seen.low) is None for row in [first, *close]):
        named = _list([f"{row.contestant} ({text(row, '')})" for row in close[:3]], len(close) - 3)
        return outcome(
            f"{first.contestant} leads with {text(first)} to the target, ahead of {named}, on a single seed: "
            "no clear winner yet."
        )
    if close:
        named = _list([f"{row.contestant} ({text(row)})" for row in [first, *close][:4]], len(close) - 3)
        return outcome(f"No clear winner: {named} are too close to call.")
    if others:
        second = reached[others[0].contestant]
        factor = f" ({plain(second.seen.mean / steps.seen.mean, 3)} times as many)" if steps.seen.mean > 0 else ""
        rest = f"; next {others[0].contestant}, {text(others[0])}{factor}."
    elif somewhere:
        rest = f", in every run; next {somewhere[0].contestant}, in {somewhere[0].solved} of {somewhere[0].seeds} runs."
    else:
        rest = "; no other contestant reaches it."
    if first.seeds < 2 or finite(steps.seen.low) is None:
        return outcome(f"{first.contestant} leads on a single seed: reaches the target in {text(first)}{rest}")
    return outcome(f"{first.contestant} wins: reaches the target in {text(first)}{rest}", first.contestant)


def _by_final(problem: ProblemResult, rows: list[Standing], *, met: bool = False) -> Verdict:
    nobody = "" if met else f"; nobody met the target of {plain(problem.target)}"
    if not rows:
        return Verdict("No result: no final run has a finite metric at its end.")
    first, *others = rows
    text = f"{interval(first.final, problem.unit)}"
    if not others:
        return Verdict(f"{first.contestant} ends at {text}{nobody}; nothing comparable raced against it.")
    close = [row for row in others if not separated(_must(first.final), _must(row.final))]
    if close and any(finite(_must(row.final).low) is None for row in [first, *close]):
        return Verdict(f"{first.contestant} ends lowest, at {text}, on a single seed: no clear winner yet{nobody}.")
    if close:
        named = _list([f"{row.contestant} ({interval(row.final, problem.unit)})" for row in [first, *close][:4]],
                      len(close) - 3)  # fmt: skip
        return Verdict(f"No clear winner: {named} end too close to call{nobody}.")
    rest = f"next {others[0].contestant}, {interval(others[0].final, problem.unit)}"
    return Verdict(f"{first.contestant} wins: ends lowest, at {text}; {rest}{nobody}.", (), first.contestant)


def _clock(problem: ProblemResult, rows: list[Standing]) -> list[str]:
    reached: list[tuple[str, Reach]] = []
    for row in rows:
        when = reach(problem, row, "seconds")
        if when is not None:
            reached.append((row.contestant, when))
    reached.sort(key=lambda entry: entry[1].seen.mean)
    if not reached:
        return []
    (name, first), *others = reached
    text = interval(first.shown, "s")
    if not others:
        return [f"By the clock: {name}, {text}."]
    close = [entry for entry in others if not first.before(entry[1])]
    if close:
        named = [f"{other} ({interval(when.shown, 's')})" for other, when in [(name, first), *close][:4]]
        return [f"By the clock there is no clear winner: {_list(named, len(close) - 3)}."]
    second, when = others[0]
    return [f"By the clock {name} is first with {text}; next {second}, {interval(when.shown, 's')}."]


def _mean(value: Interval | None) -> float | None:
    return None if value is None else finite(value.mean)


def _must(value: T | None) -> T:
    assert value is not None
    return value


def _list(names: list[str], more: int = 0) -> str:
    if more > 0:
        names = [*names, f"{more} more"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
