"""The report of a race: what it says, that it survives every shape of result, and that files are replaced whole."""

import dataclasses
import html.parser
import json
import math
import re

import numpy as np
import plotly.graph_objects
import pytest

from precond.core import BadInputError, Paper
from precond.race.report import report_page, write_report
from precond.race.report.numbers import interval, plain
from precond.race.report.pictures import picture_names, write_pictures
from precond.race.report.profiles import performance_profiles
from precond.race.report.series import MOST_POINTS, band, curve, thin
from precond.race.report.verdict import headline, ranking, verdict
from precond.race.results import SCHEMA, Interval, ProblemResult, RaceResult, Run, Standing

from . import sample

EVIL = "<script>alert('1')</script> & \"q\" $x$ %{y} naïve 数"


class Page(html.parser.HTMLParser):
    """Text, tags and script elements of a page, Plotly's own source left out."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.scripts, self.attributes, self._in = [], [], [], [], None
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())
        self.figures = json.loads(next(body for attrs, body in self.scripts if attrs.get("id") == "figures"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._in = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            attrs, body = self.scripts[-1]
            self.scripts[-1] = (attrs, body + data)
        elif self._in != "style":
            self.words.append(data)

    def all_figures(self):
        for entry in self.figures.values():
            yield from [entry] if "data" in entry else entry.values()


def one(problem, **more):
    return RaceResult(problems=[problem], complete=True, **more)


def bare(standings, runs=(), **more):
    settings = {"name": "toy", "kind": "smooth", "description": "A toy.", "metric": "gap", "unit": "", "log": False}
    return ProblemResult(
        **settings | {"target": 0.5, "budget": "9steps", "standings": standings, "runs": list(runs)} | more
    )


def row(name, steps=None, half=0.0, seeds=3, solved=None, final=1.0, final_half=0.1, failed=0):
    def around(mean, width, count):
        bounds = (mean - width, mean + width) if count > 1 else (None, None)
        return Interval(mean, *bounds, count)

    solved = (seeds if steps is not None else 0) if solved is None else solved
    return Standing(
        name,
        seeds=seeds,
        solved=solved,
        failed_seeds=failed,
        final=None if final is None else around(final, final_half, seeds),
        steps_to_target=None if steps is None else around(steps, half, solved),
    )


# --- the verdict claims no more than the intervals do -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "winner", "said"),
    [
        ([row("a", 100, 5), row("b", 150, 9)], "a", "a wins: reaches the target in 100.0 ± 5.0 steps; next b"),
        ([row("b", 150, 9), row("a", 100, 5)], "a", "(1.5 times as many)"),
        ([row("a", 100, 5), row("b", 108, 5)], None, "No clear winner: a (100.0 ± 5.0 steps) and b"),
        ([row("a", 100, seeds=1), row("b", 150, seeds=1)], None, "single seed"),
        ([row("a", 100, 5), row("b", final=2.0)], "a", "no other contestant reaches it"),
        ([row("a", 100, 5)], None, "nothing raced against it"),
        ([row("a", 90, 5, solved=2), row("b", final=2.0)], None, "a (2 of 3)"),
        ([row("a", final=1.0), row("b", final=2.0)], "a", "nobody met the target of 0.5"),
        ([row("a", final=1.0), row("b", final=1.1)], None, "too close to call"),
        ([row("a", seeds=1), row("b", final=2.0, seeds=1)], None, "single seed"),
        ([row("a", final=None, failed=3)], None, "every final run failed"),
        ([Standing("a", trials=4, failed_trials=4)], None, "all 4 tuning trials"),
        ([Standing("a", trials=4)], None, "no final run has ended"),
        ([row("a", final=math.nan), row("b", final=None, failed=3)], None, "No result"),
        ([], None, "Nothing was raced"),
    ],
)
def test_verdict(rows, winner, said):
    outcome = verdict(bare(rows))
    assert outcome.winner == winner
    assert said in outcome.headline
    assert ("wins" in outcome.headline or "ends lowest" in outcome.headline) >= (winner is not None)
    Page(report_page(one(bare(rows)), {}))


def test_a_measurement_spacing_wider_than_the_gap_is_no_win():
    def looked(name, steps, every):
        met = [Run(name, "final", k, k, state="complete", final=0.1, steps_to_target=steps, steps=200,
                   curve={"step": [0, steps - every, steps], "metric": [9, 1, 0.1]}) for k in range(3)]  # fmt: skip
        return row(name, steps), met

    for every, winner in ((1, "a"), (20, "a"), (60, None)):
        (a, runs_a), (b, runs_b) = looked("a", 100, every), looked("b", 150, every)
        assert verdict(bare([a, b], runs_a + runs_b)).winner == winner


def test_headline_over_problems():
    won, open_ = bare([row("a", 10, 1), row("b", 20, 1)]), bare([row("a", 10, 1), row("b", 10, 1)])
    assert headline(RaceResult([won, won])) == "a wins on all 2 problems."
    assert headline(RaceResult([won, open_])) == "a wins on 1 of 2 problems; no clear winner on 1."
    assert headline(RaceResult([open_, open_])) == "No clear winner on any of the 2 problems."
    assert headline(RaceResult([])) == "Nothing was raced."


def test_ranking_puts_solved_before_partly_solved_before_unsolved_before_failed():
    rows = [row("failed", final=None, failed=3), row("open", final=0.6), row("part", 5, 1, solved=1), row("all", 90, 1)]
    assert [entry.contestant for entry in ranking(bare(rows))] == ["all", "part", "open", "failed"]


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(310.2, 284.8, 335.6, 3), "310 ± 25"),
        (Interval(1.23456, 1.22226, 1.24686, 3), "1.235 ± 0.012"),
        (Interval(120, 120, 120, 3), "120 ± 0"),
        (Interval(310.2, None, None, 1), "310.2"),
        (Interval(3.2e-9, 3.1e-9, 3.3e-9, 3), "(3.20 ± 0.10)e-9"),
        (Interval(math.nan, None, None, 0), "–"),
        (None, "–"),
    ],
)
def test_intervals_in_text(value, text):
    assert interval(value) == text


def test_numbers_in_text():
    values = [None, math.nan, 0.0, 5, 1234567, 0.00012345, 12.34567, 123456.7, True, "x"]
    assert [plain(value) for value in values] == [
        "–", "–", "0", "5", "1,234,567", "1.23e-4", "12.35", "123,457", "True", "x",
    ]  # fmt: skip


# --- curves -----------------------------------------------------------------------------------------------------------


def made(xs, ys, **more):
    return Run("a", "final", 0, 0, state="complete", curve={"step": xs, "metric": ys}, **more)


def test_mean_covers_only_what_all_seeds_cover():
    runs = [made([0, 10, 20], [4.0, 2.0, 0.0]), made([5, 30], [1.0, 6.0]), made([], [])]
    found = band(runs, "step")
    assert found.count == 2
    assert (found.x[0], found.x[-1]) == (5, 20)
    for x, mean, low, high in zip(found.x, found.mean, found.low, found.high, strict=True):
        values = [4.0 - 0.2 * x, 1.0 + 0.2 * (x - 5)]
        assert (mean, low, high) == pytest.approx((sum(values) / 2, min(values), max(values)))
    assert band([made([0, 1], [1, 1]), made([2, 3], [1, 1])], "step") is None
    assert band([], "step") is None


def test_means_of_logarithmic_metrics_are_geometric():
    found = band([made([0, 2], [1.0, 1e-4]), made([0, 1, 2], [1.0, 1e-3, 1e-6])], "step", log=True)
    assert found.mean == pytest.approx([1.0, math.sqrt(1e-2 * 1e-3), 1e-5])


def test_curves_are_cleaned_and_thinned():
    x, y = curve(made([0, 1, 1, 3, None, 5], [9.0, None, 7.0, math.inf, 4.0, 3.0, 2.0]), "step")
    assert (x.tolist(), y.tolist()) == ([0, 1, 5], [9, 7, 3])
    for length in (1, 500, 501, 123_456):
        kept = thin(length)
        assert len(kept) <= MOST_POINTS
        assert (kept[0], kept[-1]) == (0, length - 1)
        assert (np.diff(kept) > 0).all()


# --- performance profiles ---------------------------------------------------------------------------------------------


def test_profiles_equal_their_definition():
    rng = np.random.default_rng(3)
    problems = []
    for place, seeds in enumerate((2, 3)):
        runs = [
            Run(name, "final", slot, slot, state="complete" if rng.random() > 0.2 else "failed",
                steps_to_target=int(rng.integers(5, 50)) if rng.random() > 0.2 else None)
            for name in "abc"[: 3 - place] for slot in range(seeds)
        ]  # fmt: skip
        problems.append(bare([Standing(name) for name in "abc"[: 3 - place]], runs))
    profiles = {entry.contestant: entry for entry in performance_profiles(problems)}
    assert set(profiles) == set("abc")
    for name, ratio in ((name, ratio) for name in "abc" for ratio in (1, 1.2, 2, 5, 100)):
        expected = 0.0
        for problem in problems:
            slots = {run.slot for run in problem.runs}
            for slot in slots:
                solved = [run for run in problem.runs if run.state == "complete" and run.steps_to_target is not None]
                costs = {run.contestant: run.steps_to_target for run in solved if run.slot == slot}
                if name in costs and costs[name] <= ratio * min(costs.values()):
                    expected += 1 / len(slots) / len(problems)
        assert profiles[name].at(ratio) == pytest.approx(expected)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_page_holds_everything():
    result = sample.race()
    page = Page(report_page(result, {"soap": (Paper("On <soap>", "A. Author & B. Author", 2024, "2409.11321"),)}))
    assert headline(result) in page.text
    for said in (
        "Across the problems", "Standings", "Search space", "log-uniform from 1e-05 to 0.1", "20.1",
        "the loss is NaN at step 7", "24 of 102 runs failed", "is a nonlinear map", "An imaginary processor", "2.13.0",
        "precond race stdlib-lm poisson2d --trials 12 --resume", "On <soap>", "95 % confidence interval",
        "Optimizer share".lower(), "gradient evaluations", "products with the matrix", "every run failed", "complete",
    ):  # fmt: skip
        assert said in page.text, said
    assert "A partial race" not in page.text
    for name in [entry.contestant for problem in result.problems for entry in problem.standings]:
        assert name in page.text
    assert set(page.figures["p0"]) == {"step", "seconds", "gradients"}
    assert {"p0c0", "profiles-steps", "profiles-seconds"} <= set(page.figures)


def test_nothing_is_referred_to_outside_the_page():
    page = Page(report_page(sample.race(), {}))
    names = ("src", "href", "srcset", "data", "action")
    loading = [value for tag, name, value in page.attributes if name in names and tag != "a"]
    assert loading == ["data:,"]
    policy = next(value for tag, name, value in page.attributes if value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_partial_race_says_so_and_how_to_go_on():
    result = sample.race(complete=False)
    result.problems[0].runs.append(Run("soap", "final", 9, 9))
    page = Page(report_page(result, {}))
    total = sum(len(problem.runs) for problem in result.problems)
    assert f"A partial race: it has not ended. {total - 1} of the {total} runs" in page.text
    result.command = "precond race x --resume"
    assert "--resume --resume" not in Page(report_page(result, {})).text
    result.command = ""
    assert "resume=True" in Page(report_page(result, {})).text


def test_every_text_from_outside_is_escaped(tmp_path):
    renamed = dataclasses.replace(sample.training(seeds=2, trials=3), name=EVIL, description=EVIL, metric=EVIL)
    renamed.unit = renamed.budget = renamed.kind = EVIL
    renamed.skipped = {EVIL: EVIL}
    for entry in renamed.standings:
        entry.contestant, entry.title = entry.contestant + EVIL, EVIL
        entry.space, entry.settings, entry.work = {EVIL: EVIL}, {EVIL: EVIL}, {EVIL: 1.0}
    for entry in renamed.runs:
        entry.contestant += EVIL
        entry.settings, entry.reason = {EVIL: EVIL}, EVIL if entry.state == "failed" else ""
    result = one(
        renamed, options={EVIL: [EVIL]}, machine={EVIL: EVIL}, versions={EVIL: EVIL}, command=EVIL, created=EVIL
    )
    papers = {renamed.standings[0].contestant: (Paper(EVIL, EVIL, 2024, EVIL, EVIL),)}
    plain_page = Page(report_page(one(sample.training(seeds=2, trials=3)), {}))
    page = Page(report_page(result, papers))
    assert len(page.scripts) == len(plain_page.scripts) == 3
    assert page.text.count(EVIL) > 20
    assert "alert('1')" not in "".join(body for attrs, body in page.scripts if attrs.get("id") != "figures")
    for figure in page.all_figures():
        assert all("<script" not in trace["name"] for trace in figure["data"])
        assert EVIL not in json.dumps([trace.get("hovertemplate") for trace in figure["data"]])
    result.problems[0].standings[0].contestant = "_" + EVIL
    write_pictures(result, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == picture_names(result.problems)


def empty():
    return RaceResult([])


def no_runs():
    return one(bare([], skipped={"a": "why"}))


def all_failed():
    runs = [sample.failed("a", "final", slot) for slot in range(3)]
    return one(bare([sample.standing("a", "", runs)], runs))


def one_seed():
    return one(sample.training(seeds=1, trials=2))


def not_numbers():
    problem = sample.training(seeds=2, trials=3)
    for entry in problem.runs:
        entry.score = entry.final = entry.best = math.nan
        entry.optimizer_share = math.inf
        entry.curve = {axis: [None, math.nan, *values[2:]] for axis, values in entry.curve.items()}
        entry.settings["lr"] = None
    for entry in problem.standings:
        entry.final = Interval(math.nan, None, None, 2)
        entry.optimizer_share = entry.state_bytes_per_parameter = math.nan
    problem.target = math.nan
    return one(problem)


def ragged():
    problem = sample.linear()
    for place, entry in enumerate(problem.runs):
        entry.curve = {axis: values[place % 3 :] for axis, values in entry.curve.items()}
    problem.runs[0].curve = {"step": [0, 1]}
    problem.runs[1].curve["metric"] = problem.runs[1].curve["metric"][:5]
    return one(problem)


def many():
    crowd = {f"method-{at:02d}": (f"Number {at}", 0.002 + 0.0004 * at, 0.001, 4.0) for at in range(40)}
    return one(sample.training(seeds=3, trials=3, contestants=crowd))


def huge():
    steps = list(range(30_000))
    curve = dict.fromkeys(("step", "seconds", "gradients"), steps) | {"metric": [1.0 + 1 / (1 + s) for s in steps]}
    runs = [Run("a", "final", slot, slot, state="complete", final=1.0, curve=curve) for slot in range(2)]
    return one(bare([sample.standing("a", "", [])], runs))


@pytest.mark.parametrize("make", [empty, no_runs, all_failed, one_seed, not_numbers, ragged, many, huge, sample.race])
def test_every_shape_of_result(make):
    text = report_page(make(), {})
    page = Page(text)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", page.text)
    for figure in page.all_figures():
        plotly.graph_objects.Figure(figure)  # Plotly's own validation
        for trace in figure["data"]:
            most = MOST_POINTS * (2 if trace["meta"]["role"] == "band" else 1)
            assert len(trace["x"]) == len(trace["y"]) <= most


def test_forty_contestants_can_be_told_apart():
    page = Page(report_page(many(), {}))
    means = [trace for trace in page.figures["p0"]["step"]["data"] if trace["meta"]["role"] == "mean"]
    assert len({(trace["line"]["color"], trace["line"]["dash"]) for trace in means}) == len(means) == 40
    pressed = [value for tag, name, value in page.attributes if name == "data-contestant"]
    assert len(pressed) == 41


def test_colours_are_the_same_on_every_problem():
    page = Page(report_page(sample.race(), {}))
    traces = [trace for key in ("p0", "p1") for trace in page.figures[key]["step"]["data"]]
    means = [trace for trace in traces if trace["meta"]["role"] == "mean"]
    found = {(trace["name"], trace["line"]["color"], trace["line"]["dash"]) for trace in means}
    assert len(found) == len({name for name, *_ in found})


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_written_and_replaced_whole(tmp_path, monkeypatch):
    out = tmp_path / "a" / "report"
    result = one(sample.training(seeds=2, trials=2))
    write_report(result, out)
    assert sorted(path.name for path in out.iterdir()) == ["curves-stdlib-lm.png", "report.html"]
    assert (out / "curves-stdlib-lm.png").read_bytes().startswith(b"\x89PNG")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(self, *rest, **more):
        self.touch()
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(BadInputError, match=r"No space left on device.*another --out"):
        write_report(dataclasses.replace(result, complete=False), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInputError, match="cannot write the report"):
        write_report(RaceResult([]), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_pictures_of_problems_with_awkward_names():
    names = ["a/b", "a:b", "A-B", "../x", "数", "", "a" * 300]
    files = picture_names([dataclasses.replace(bare([]), name=name) for name in names])
    assert len({name.lower() for name in files}) == len(names)
    assert all(re.fullmatch(r"curves-[A-Za-z0-9._-]{1,70}\.png", name) and ".." not in name for name in files)


def test_results_round_trip(tmp_path):
    result, path = sample.race(), tmp_path / "results.json"
    result.write(path)
    assert RaceResult.read(path) == result
    result.problems[0].runs[0].final = math.nan
    result.write(path)
    again = RaceResult.read(path)
    assert again.problems[0].runs[0].final is None
    assert report_page(again, {})


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "results.json"
    result = sample.race()
    result.schema = SCHEMA + 1
    result.write(path)
    before = path.read_bytes()
    with pytest.raises(BadInputError, match=f"schema {SCHEMA + 1}, this version reads up to {SCHEMA}") as caught:
        RaceResult.read(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
