"""Points, intervals and orders of a race against independent computations."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from precond.core import Choice, LogUniform
from precond.race.results.records import Run
from precond.race.results.standings import interval, ranked, standing
from precond.race.runners.curve import Curve
from precond.race.tuning import halton, trial_settings

SPACE = {"weight_decay": Choice((0.0, 0.1)), "lr": LogUniform(1e-4, 1e-1), "b": Choice((1, 2, 3))}
DEFAULTS = {"weight_decay": 0.0, "lr": 1e-3, "b": 1}


def test_trials_are_fixed_by_name_and_more_extend_fewer():
    few, many = (trial_settings("adamw", SPACE, DEFAULTS, count) for count in (3, 9))
    assert many[:3] == few
    assert few[0] == DEFAULTS
    assert trial_settings("adan", SPACE, DEFAULTS, 9)[1:] != many[1:]
    assert all(1e-4 <= settings["lr"] <= 1e-1 for settings in many)
    assert {settings["b"] for settings in many} == {1, 2, 3}
    assert trial_settings("cg", {}, {}, 5) == []


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_points_fill_the_cube_better_than_chance(dimension):
    points = np.array(halton(dimension, 64, np.random.default_rng(5)))
    chance = np.median([qmc.discrepancy(np.random.default_rng(k).random((64, dimension))) for k in range(20)])
    assert qmc.discrepancy(points) < chance / 2
    # the law of the sequence: each block of `base` points has one point in each cell
    for column, base in zip(points.T, (2, 3, 5, 7), strict=False):
        for block in range(64 // base):
            cells = np.floor(column[block * base : (block + 1) * base] * base).astype(int)
            assert sorted(cells) == list(range(base))


def test_interval_is_students():
    values = [1.0, 2.0, 4.0, 3.5]
    mine = interval([*values, None, math.nan])
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mine.mean, mine.low, mine.high, mine.count) == pytest.approx((np.mean(values), low, high, 4))
    assert interval([2.0]).low is None
    assert interval([]) is None


def run(contestant, final, *, state="complete", seconds=None, slot=0):
    steps = None if seconds is None else 5
    return Run(contestant, "final", slot, 1000 + slot, state=state, final=final, steps_to_target=steps,
               seconds_to_target=seconds)  # fmt: skip


def test_order_of_the_table():
    rows = [
        standing("slow", [], [run("slow", 1e-9, seconds=2.0)]),
        standing("quick", [], [run("quick", 2e-9, seconds=1.0)]),
        standing("unsolved", [], [run("unsolved", 1e-3)]),
        standing("crashed", [], [run("crashed", None, state="failed")]),
    ]
    assert [row.contestant for row in ranked(rows, by_time=True)] == ["quick", "slow", "unsolved", "crashed"]
    assert [row.contestant for row in ranked(rows, by_time=False)] == ["slow", "quick", "unsolved", "crashed"]
    half = standing("half", [], [run("half", 1e-12), run("half", None, state="failed", slot=1)])
    assert ranked([half, *rows], by_time=False)[0].contestant == "slow"


def test_a_long_curve_is_thinned_but_nothing_is_missed():
    curve = Curve(target=0.5, limit=20)
    for step in range(1000):
        curve.record(step, step / 10, step, 0.4 if step == 777 else 1.0 + step, work=3 * step)
    columns = curve.columns()
    assert len(columns["step"]) <= 22
    assert columns["step"][0] == 0
    assert columns["step"][-1] == 999
    gaps = set(np.diff(columns["step"][:-1]))
    assert len(gaps) == 1
    assert (curve.best, curve.steps_to_target, curve.seconds_to_target, curve.work_at_target) == (0.4, 777, 77.7, 2331)
    assert curve.final == 1000.0


def test_the_target_is_met_by_what_equals_it_and_the_first_time_counts():
    curve = Curve(target=0.5, limit=4)
    for step, metric in enumerate([1.0, 0.5, 0.7, 0.5]):
        curve.record(step, float(step), step, metric)
    assert curve.steps_to_target == 1
    assert curve.columns()["step"] == [0.0, 1.0, 2.0, 3.0], "the last point once"


def test_a_row_counts_what_ended_and_averages_what_is_complete():
    def ended(slot, state, score, kind="tuning", **more):
        return Run("a", kind, slot, slot, state=state, settings={"lr": slot}, score=score, **more)

    tuning = [ended(0, "complete", 2.0), ended(1, "complete", 1.0), ended(2, "failed", None), ended(3, "complete", 1.0)]
    row = standing("a", tuning, [])
    assert (row.trials, row.failed_trials, row.settings) == (4, 1, {"lr": 1})
    finals = [
        ended(0, "complete", 1.0, "final", final=4.0, steps_to_target=10, work={"gradients": 6}),
        ended(1, "complete", 1.0, "final", final=2.0, work={"gradients": 2}),
        ended(2, "failed", None, "final", final=100.0, steps_to_target=1, work={"gradients": 99}),
    ]
    row = standing("a", tuning, finals)
    assert (row.seeds, row.failed_seeds, row.solved) == (3, 1, 1)
    assert (row.final.mean, row.steps_to_target.mean, row.work) == (3.0, 10.0, {"gradients": 4.0})


def test_soon_is_before_small_for_solvers_and_nobody_without_a_result_is_before_one_with():
    quick, exact = (standing(n, [], [run(n, f, seconds=s)]) for n, f, s in (("quick", 0.1, 1.0), ("exact", 0.01, 2.0)))
    waiting = standing("waiting", [], [])
    half = standing("half", [], [run("half", 0.5, seconds=1.0), run("half", None, state="failed", slot=1)])
    lost = standing("lost", [], [run("lost", math.nan)])
    rows = [lost, waiting, half, exact, quick]
    assert [row.contestant for row in ranked(rows, by_time=True)] == ["quick", "exact", "half", "lost", "waiting"]
    assert [row.contestant for row in ranked(rows, by_time=False)] == ["exact", "quick", "half", "lost", "waiting"]
