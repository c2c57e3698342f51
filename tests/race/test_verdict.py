"""What a report claims, against what the seeds and the spacing of measurements allow."""

from __future__ import annotations

import numpy as np
import pytest

from precond.race.report import report_page
from precond.race.report.numbers import interval, plain, share
from precond.race.report.palette import Palette
from precond.race.report.profiles import performance_profiles
from precond.race.report.ranking import ranking_chart
from precond.race.report.resolution import Reach, looks, reach, spacing
from precond.race.report.verdict import headline, ranking, verdict
from precond.race.results.records import Interval, ProblemResult, Run
from precond.race.results.result import RaceResult
from precond.race.results.standings import standing


def run(name, slot, steps, *, every=15, horizon=300, final=0.01, kind="final", pace=0.01):
    grid = list(range(0, horizon + 1, every))
    return Run(
        name, kind, slot, slot, state="complete", final=final, score=final, steps=horizon,
        steps_to_target=steps, seconds_to_target=None if steps is None else steps * pace,
        curve={"step": grid, "seconds": [step * pace for step in grid], "gradients": grid, "metric": [1.0] * len(grid)},
    )  # fmt: skip


def problem(every=15, kind="smooth", finals=None, **steps):
    """One contestant per keyword: the steps to the target of each seed."""
    runs = [
        run(name, slot, value, every=every, final=(finals or {}).get(name, [0.01] * 9)[slot])
        for name, values in steps.items()
        for slot, value in enumerate(values)
    ]
    rows = [standing(name, [], [entry for entry in runs if entry.contestant == name]) for name in steps]
    return ProblemResult("p", kind, "", "loss", "", False, 0.1, "300steps", rows, runs)


def test_one_spacing_apart_is_a_tie_and_two_are_not():
    close = problem(a=[150, 150, 150], b=[165, 165, 165])
    assert verdict(close).winner is None
    assert verdict(close).headline == (
        "No clear winner: a (150.0 ± 7.5 steps) and b (165.0 ± 7.5 steps) are too close to call."
    )
    apart = problem(a=[150, 150, 150], b=[180, 180, 180])
    assert verdict(apart).winner == "a"
    assert "150.0 ± 7.5 steps" in verdict(apart).headline


def test_what_is_measured_at_every_step_is_exact():
    entry = problem(every=1, a=[150, 150, 150], b=[151, 151, 151])
    assert verdict(entry).winner == "a"
    assert "150 ± 0 steps" in verdict(entry).headline
    assert looks(entry) == ""
    assert "every" not in report_page(RaceResult([entry])).split("How to read")[0].split("<body>")[1]


def test_seeds_and_spacing_add_up():
    entry = problem(a=[90, 105, 120], b=[210, 225, 240])
    row = entry.standings[0]
    half = (row.steps_to_target.high - row.steps_to_target.low) / 2
    shown = reach(entry, row).shown
    assert (shown.mean, shown.high - shown.mean) == pytest.approx((105, half + 7.5))
    seconds = reach(entry, row, "seconds")
    assert seconds.spacing == pytest.approx(0.15)
    assert verdict(entry).winner == "a"


def test_the_page_states_the_spacing():
    entry = problem(a=[150, 150, 150], b=[165, 165, 165])
    assert looks(entry) == "measured every 15 steps"
    text = report_page(RaceResult([entry], complete=True))
    assert "The metric was measured every 15 steps" in text
    assert "<b>every 15 steps</b>" in text
    assert "150.0 ± 7.5" in text
    assert "150 ± 0" not in text
    assert "every 15 steps" in ranking_chart(entry, Palette(RaceResult([entry])))


def test_spacing_is_that_before_the_hit():
    entry = run("a", 0, 40)
    entry.curve["step"] = [0, 10, 30, 40, 90]
    entry.curve["seconds"] = [0.0, 1.0, 3.0, 4.5, 9.0]
    entry.seconds_to_target = 4.5
    assert spacing(entry) == 10
    assert spacing(entry, "seconds") == 1.5
    entry.steps_to_target = 37  # a look that the thinned curve did not keep
    assert spacing(entry) == 7
    entry.steps_to_target = 0  # met at the start
    assert spacing(entry) == 0
    entry.curve = {}
    entry.steps_to_target = 37
    assert spacing(entry) == 0
    assert looks(problem(every=15, a=[None])) == ""


def test_a_long_curve_may_have_dropped_looks():
    entry = problem(every=2, a=[150, 150])
    for one in entry.runs:
        one.steps_to_target = 149  # one step after a point that was kept
    assert looks(entry) == ""
    entry.runs[1].steps_to_target = 150
    assert looks(entry) == "recorded every 1 to 2 steps"


def test_unequal_spacings_need_the_larger_gap():
    def at(mean, spacing):
        return Reach(Interval(mean, mean, mean, 3), spacing)

    assert not at(100, 2).before(at(110, 10))
    assert at(100, 2).before(at(111, 10))
    assert not at(100, 10).before(at(110, 2))
    assert not Reach(Interval(100, None, None, 1)).before(at(900, 0))


def test_a_single_seed_leads_but_does_not_win():
    found = verdict(problem(a=[30], b=[300]))
    assert found.winner is None
    assert "single seed" in found.headline
    assert "±" not in found.headline
    assert verdict(problem(a=[30], b=[None])).headline.startswith("a leads on a single seed")


def test_who_often_met_the_target_sooner_keeps_the_race_open():
    often = verdict(problem(a=[150, 150, 150], b=[30, 30, None]))
    assert often.winner is None
    assert "b (30.0" in often.headline
    assert "in 2 of 3 runs" in often.headline
    seldom = verdict(problem(a=[150, 150, 150], b=[30, None, None]))
    assert seldom.winner == "a"
    assert any("b was faster where it met the target" in remark for remark in seldom.remarks)
    nobody = verdict(problem(a=[150, None, 150], b=[30, 30, None]))
    assert nobody.winner is None
    assert "most often b (2 of 3) and a (2 of 3)" in nobody.headline


def test_nobody_met_the_target():
    finals = {"a": [0.2, 0.21, 0.2], "b": [0.5, 0.51, 0.52], "c": [0.205, 0.2, 0.215]}
    clear = problem(finals={"a": finals["a"], "b": finals["b"]}, a=[None] * 3, b=[None] * 3)
    assert verdict(clear).winner == "a"
    assert "nobody met the target of 0.1" in verdict(clear).headline
    close = problem(finals=finals, a=[None] * 3, b=[None] * 3, c=[None] * 3)
    assert verdict(close).winner is None
    assert "a (" in verdict(close).headline
    assert "b (" not in verdict(close).headline


def test_the_end_of_the_horizon_is_told_for_training():
    finals = {"a": [0.05, 0.051, 0.05], "b": [0.01, 0.011, 0.01]}
    entry = problem(kind="training", finals=finals, a=[30, 30, 30], b=[150, 150, 150])
    found = verdict(entry)
    assert (found.winner, found.measure) == ("b", "final")
    assert found.headline.startswith("b wins: ends lowest, at 0.0103")
    assert found.remarks[0].startswith("To the target of 0.1: a wins: reaches the target in 30.0 ± 7.5 steps")
    assert [row.contestant for row in ranking(entry)] == ["b", "a"]
    close = problem(kind="training", finals={"a": finals["a"], "b": finals["a"]}, a=[30] * 3, b=[150] * 3)
    assert verdict(close).winner is None
    assert not any("To the target" in remark for remark in verdict(problem(a=[30] * 3, b=[150] * 3)).remarks)


def test_the_clock_has_its_own_verdict():
    entry = problem(a=[30, 30, 30], b=[150, 150, 150])
    assert any(remark.startswith("By the clock a is first") for remark in verdict(entry).remarks)
    for one in entry.runs:
        one.seconds_to_target = 3.0
    entry.standings = [standing(name, [], [one for one in entry.runs if one.contestant == name]) for name in ("a", "b")]
    assert any("By the clock there is no clear winner" in remark for remark in verdict(entry).remarks)


def test_order():
    entry = problem(never=[None] * 3, some=[30, None, 30], late=[150] * 3, soon=[45] * 3)
    assert [row.contestant for row in ranking(entry)] == ["soon", "late", "some", "never"]


def test_headline_of_several_problems():
    first, second = problem(a=[30] * 3, b=[150] * 3), problem(a=[150] * 3, b=[150] * 3)
    assert headline(RaceResult([first, first])) == "a wins on all 2 problems."
    assert headline(RaceResult([first, second])) == "a wins on 1 of 2 problems; no clear winner on 1."
    assert headline(RaceResult([second, second])) == "No clear winner on any of the 2 problems."


def test_performance_profiles_by_hand():
    first, second = problem(a=[30, 60], b=[60, 60]), problem(a=[None, 90], b=[90, 30])
    profiles = {entry.contestant: entry for entry in performance_profiles([first, second])}
    # four instances: a is best on two of the first problem's (one shared), b on one and both of the second's
    assert profiles["a"].at(1) == pytest.approx(0.5)
    assert profiles["b"].at(1) == pytest.approx(0.75)
    assert profiles["b"].at(2) == pytest.approx(1.0)
    assert (profiles["a"].at(2.9), profiles["a"].at(3)) == pytest.approx((0.5, 0.75))  # one instance is never solved


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(165, 157.5, 172.5, 3), "165.0 ± 7.5 s"),
        (Interval(1234.5, 1200, 1269, 3), "1,234 ± 34 s"),
        (Interval(0.5, None, None, 1), "0.5 s"),
        (Interval(2e-9, 1e-9, 3e-9, 4), "(2.0 ± 1.0)e-9 s"),
        (Interval(0.5, 0.5 - 2.0**-53, 0.5 + 2.0**-53, 3), "0.5 ± 1.1e-16 s"),
        (Interval(0.0, -1e-30, 1e-30, 3), "0 ± 1.0e-30 s"),
        (Interval(0.5, 0.5, 0.5, 3), "0.5 ± 0 s"),
        (Interval(float("nan"), 1, 2, 3), "–"),
        (None, "–"),
    ],
)
def test_intervals_in_words(value, text):
    assert interval(value, "s") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (float("nan"), "–"), (float("inf"), "∞"), (12345, "12,345"),
     (1e-9, "1.00e-9"), (0.12345678, "0.1235"), (True, "True"), ("x", "x"), (123456.7, "123,457"),
     (999_999_999, "999,999,999"), (10**9, "1.00e9"), (9_999_999.0, "9,999,999"), (1e7, "1.00e7"), (-np.inf, "−∞"),
     (1e-3, "0.001"), (9.99e-4, "9.99e-4")],
)  # fmt: skip
def test_numbers_in_words(value, text):
    assert plain(value) == text


def test_a_share_is_a_percentage():
    assert share(0.256) == "25.6 %"
    assert share(None) == "–"
