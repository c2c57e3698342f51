"""The report as text: what it says, what it escapes, what it survives, and what happens when writing fails."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from precond.core import BadInputError, Paper
from precond.race.report import report_page, sections, write_report
from precond.race.report.palette import Palette
from precond.race.report.papers import known_papers
from precond.race.report.pictures import picture_names
from precond.race.report.series import MOST_POINTS, band, thin
from precond.race.results.records import ProblemResult, Run
from precond.race.results.result import RaceResult
from tests.race import sample

EVIL = "<script>alert(\"1\")</script>&amp; 'quoted' ✓ é $x_1$ 名 </title>\u2028"


class Page(html.parser.HTMLParser):
    """What a browser would see: tags, text outside of scripts, the figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag not in ("meta", "link", "br", "line", "img"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._inside = ""

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def figures(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch):
    """Five megabytes of Plotly in each page are for the browser; these tests read the rest."""
    import plotly.offline

    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* plotly */")


def page_of(result: RaceResult, **more) -> Page:
    page = Page(report_page(result, **more))
    assert page.open == []
    return page


def problem(**changes) -> ProblemResult:
    return dataclasses.replace(sample.training(seeds=2, trials=2), **changes)


def test_the_page_tells_the_race():
    result = sample.race()
    page = page_of(result)
    for entry in result.problems:
        assert entry.description in page.text
        for row in entry.standings:
            assert row.contestant in page.text
        for reason in entry.skipped.values():
            assert reason in page.text
    assert "cg+ic wins on 1 of 2 problems; no clear winner on 1." in page.text
    assert "the loss is NaN at step 7" in page.text
    assert "An imaginary processor" in page.text
    assert "2.13.0" in page.text
    assert "precond race stdlib-lm poisson2d --trials 12 --resume" in page.text
    assert {"p0", "p1", "profiles-steps", "profiles-seconds", "p0c0"} <= set(page.figures)
    assert list(page.figures["p0"]) == ["step", "seconds", "gradients"]
    assert "complete" in page.texts


def test_figures_are_figures_of_plotly():
    from plotly.graph_objects import Figure

    drawn = 0
    for name, figure in page_of(sample.race()).figures.items():
        for one in figure.values() if re.fullmatch(r"p\d+", name) else [figure]:
            assert Figure(one).data, name  # raises on an attribute that Plotly does not know
            drawn += 1
    assert drawn > 10


def test_nothing_is_asked_of_a_network():
    page = page_of(sample.race())
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "action")]
    assert all(link.startswith(("#", "data:", "https://arxiv.org/abs/")) for link in links)
    assert not [attrs for tag, attrs in page.tags if tag in ("img", "iframe", "object") or "src" in attrs]
    policy = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in policy[0]


def test_every_text_of_the_user_is_escaped():
    def poison(value, key=""):
        if key in ("state", "stage", "kind", "budget", "created"):
            return value
        if isinstance(value, str):
            return EVIL + value
        if isinstance(value, dict) and key not in ("curve",):
            return {EVIL + name: poison(child) for name, child in value.items()}
        if isinstance(value, list):
            return [poison(child) for child in value]
        if dataclasses.is_dataclass(value):
            return dataclasses.replace(
                value, **{f.name: poison(getattr(value, f.name), f.name) for f in dataclasses.fields(value)}
            )
        return value

    result = poison(sample.race())
    paper = Paper(EVIL, EVIL, 2020, "2001.00001", EVIL)
    name = result.problems[0].standings[0].contestant
    result.created, result.problems[0].budget = EVIL, EVIL
    text = report_page(result, papers={name: (paper,)})
    page = Page(text)
    assert page.open == []
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3  # figures, Plotly, the page's own
    assert "<script>alert" not in text
    assert 'alert("1")' in page.text  # seen, and as text only
    assert "✓ é $x_1$ 名" in page.text
    seen = [value or "" for _, attrs in page.tags for value in attrs.values()]
    assert any(EVIL in value for value in seen)  # whole inside attributes
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "\u2028" not in page.scripts[0]

    def texts(value):
        if isinstance(value, dict):
            for key, child in value.items():
                if key != "meta":  # read by the page's own script, and never put into it as markup
                    yield from texts(child)
        elif isinstance(value, list):
            for child in value:
                yield from texts(child)
        elif isinstance(value, str):
            yield value

    assert not [text for text in texts(page.figures) if "<script" in text]  # Plotly reads names as markup


def test_contestants_stand_in_the_order_of_the_verdict():
    result = sample.race(problems=1)
    result.problems[0].standings.reverse()
    text = report_page(result)
    table = text[text.index('aria-label="Standings on') :]
    names = re.findall(r'class="name" data-value="([^"]*)"', table[: table.index("</table>")])
    assert names == ["soap", "muon", "adamw", "lion", "sgd", "adan"]
    assert result.problems[0].standings[0].contestant == "adan"  # the result is left as it was


def test_papers_come_from_the_recipes():
    papers = known_papers(["soap", "cg+ic0", "torch.optim.AdamW"])
    assert len(papers["soap"]) == 1
    assert len(papers["cg+ic0"]) == 2
    assert papers["torch.optim.AdamW"] == ()
    assert papers["soap"][0].title in page_of(sample.race(problems=1)).text


def test_a_table_sorts_by_values_and_not_by_texts():
    text = report_page(sample.race(problems=1))
    table = text[text.index('aria-label="Standings on') :]
    column = re.findall(r'<td class="number" data-value="([^"]*)">(\d+ ± \d+|–)</td>', table)
    assert column
    for value, shown in column:
        assert (value == "") == (shown == "–")
        assert value == "" or abs(float(value) - float(shown.split()[0])) <= 0.5


# -- odd races ---------------------------------------------------------------------------------------------------------


def test_no_problem_at_all():
    assert "Nothing was raced." in page_of(RaceResult([])).text


def test_no_run_yet():
    entry = problem(runs=[], standings=[sample.standing("soap", "", [])])
    page = page_of(RaceResult([entry]))
    assert "No result yet: no final run has ended." in page.text
    assert "A partial race" in page.text
    assert "No final run has a curve." in page.text


def test_everybody_skipped():
    entry = problem(runs=[], standings=[], skipped={"cg": "solves linear systems"})
    assert "Nothing was raced: every contestant was skipped." in page_of(RaceResult([entry], complete=True)).text


def test_everything_failed():
    stages = ("tuning", "final")
    runs = [sample.failed(name, stage, slot, {"lr": 1.0}) for name in "ab" for stage in stages for slot in (0, 1)]
    entry = problem(runs=runs, standings=[sample.standing(name, "", runs) for name in "ab"])
    page = page_of(RaceResult([entry], complete=True))
    assert "No result: every final run failed." in page.text
    assert "8 of 8 runs failed" in page.text
    assert "wins" not in page.text
    tuned = [run for run in runs if run.stage == "tuning"]
    entry = problem(runs=tuned, standings=[sample.standing(name, "", tuned) for name in "ab"])
    assert "No result: all 4 tuning trials that ended have failed." in page_of(RaceResult([entry])).text


def test_one_seed_has_no_interval_and_no_winner():
    page = page_of(RaceResult([sample.training(seeds=1, trials=2)], complete=True))
    assert "single seed" in page.text
    assert "wins" not in page.text.split("How to read")[0]
    assert "±" not in page.text.split("Contestants:")[0].replace("± on the way", "")


def test_a_partial_race_says_so():
    result = sample.race(problems=1, complete=False)
    runs = result.problems[0].runs
    runs[-1].state, runs[-1].curve = "waiting", {}
    runs[-2].state = "running"
    page = page_of(result)
    ended = sum(run.state in ("complete", "failed") for run in runs)
    assert f"{ended} of the {len(runs)} runs" in page.text
    assert "partial" in page.texts


def test_missing_and_infinite_numbers():
    entry = sample.training(seeds=3, trials=3)
    finals = [run for run in entry.runs if run.stage == "final"]
    for value, run in zip((math.nan, None, math.inf), finals, strict=False):
        run.final = run.best = run.optimizer_share = value
        run.curve["metric"][3:5] = [value, value]
        run.curve["seconds"][7] = value
        run.settings["lr"] = value
    entry.standings[0].final.mean = math.nan
    entry.standings[1].steps_to_target.low = None
    entry.standings[2].state_bytes_per_parameter = math.inf
    entry.standings[3].work["gradients"] = math.nan
    text = report_page(RaceResult([entry], complete=True))
    page = Page(text)
    assert not re.findall(r"[:,\[](NaN|-?Infinity)\b", page.scripts[0])
    assert not {"nan", "inf"} & set(page.text.split())
    assert not [attrs for _, attrs in page.tags if attrs.get("data-value") in ("nan", "inf")]
    assert len(page.figures["p0"]["step"]["data"]) > 5


def test_columns_of_unequal_length():
    entry = sample.training(seeds=2, trials=2)
    finals = [run for run in entry.runs if run.stage == "final"]
    finals[0].curve["metric"] = finals[0].curve["metric"][:10]
    finals[1].curve["step"] = []
    finals[2].curve = {}
    for trace in page_of(RaceResult([entry])).figures["p0"]["step"]["data"]:
        assert len(trace["x"]) == len(trace["y"])


def test_bands_cover_what_all_seeds_reached():
    def run(slot, steps, values):
        return Run("a", "final", slot, slot, state="complete", curve={"step": steps, "metric": values})

    both = band([run(0, [0, 10, 20], [4.0, 2.0, 0.0]), run(1, [0, 5, 10], [2.0, 2.0, 2.0])], "step")
    assert both.x.tolist() == [0, 5, 10]
    assert both.mean.tolist() == [3.0, 2.5, 2.0]
    assert both.low.tolist() == [2.0, 2.0, 2.0]
    assert both.high.tolist() == [4.0, 3.0, 2.0]
    assert band([run(0, [0, 1], [1.0, 1.0]), run(1, [2, 3], [1.0, 1.0])], "step") is None
    logarithmic = band([run(0, [0], [100.0]), run(1, [0], [1.0])], "step", log=True)
    assert logarithmic.mean.tolist() == pytest.approx([10.0])


def test_forty_contestants():
    names = {f"method-{k}": (f"number {k}", 0.001 + 0.0004 * k, 0.001, 4.0) for k in range(40)}
    page = page_of(RaceResult([sample.training(seeds=2, trials=1, contestants=names)], complete=True))
    legend = [attrs for tag, attrs in page.tags if "data-contestant" in attrs]
    assert len(legend) == 41
    assert sum(attrs["aria-pressed"] == "true" for attrs in legend) == 10
    looks = {
        (trace["line"]["color"], trace["line"]["dash"])
        for trace in page.figures["p0"]["step"]["data"]
        if trace["meta"]["role"] == "mean"
    }
    assert len(looks) == 40  # no two look the same


def test_huge_curves_are_thinned_and_keep_their_ends():
    length = 200_000
    step = np.arange(length)
    curve = {"step": step.tolist(), "metric": (1.0 / (1 + step)).tolist()}
    runs = [Run("a", "final", slot, slot, state="complete", final=1e-5, curve=curve) for slot in range(2)]
    entry = problem(runs=runs, standings=[dataclasses.replace(sample.standing("a", "", []), seeds=2)], log=True)
    text = report_page(RaceResult([entry]))
    assert len(text) < 200_000
    for trace in Page(text).figures["p0"]["step"]["data"]:
        if trace["meta"]["role"] != "band":
            assert len(trace["x"]) <= MOST_POINTS
            assert (trace["x"][0], trace["x"][-1]) == (0.0, length - 1)
            assert 1.0 in trace["x"]  # the beginning, for logarithmic axes


@pytest.mark.parametrize("length", [0, 1, 2, MOST_POINTS, MOST_POINTS + 1, 10**6])
def test_thinning(length):
    kept = thin(length)
    assert len(kept) <= min(length, MOST_POINTS)
    assert len(set(kept.tolist())) == len(kept)
    assert length == 0 or (kept[0], kept[-1]) == (0, length - 1)


def test_wide_ranges_are_read_on_a_logarithmic_axis():
    def toggled(entry):
        tags = page_of(RaceResult([entry])).tags
        return next(attrs["aria-pressed"] for _, attrs in tags if attrs.get("data-toggle") == "logy")

    narrow = sample.training(seeds=2, trials=1)
    assert toggled(narrow) == "false"
    wide = copy.deepcopy(narrow)
    for run in wide.runs:
        metric = run.curve["metric"]
        run.curve["metric"] = [None if value is None else value / 10**at for at, value in enumerate(metric)]
    assert toggled(wide) == "true"
    for run in wide.runs:
        if run.stage == "final" and run.state == "complete":
            run.curve["metric"][-1] = 0.0
    assert toggled(wide) == "false"


def test_profiles_only_across_problems():
    assert "Performance profiles" in page_of(sample.race()).text
    assert "Performance profiles" not in page_of(sample.race(problems=1)).text


def test_sections_of_a_page_can_be_linked():
    result = sample.race()
    page = page_of(result)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    targets = {attrs["href"][1:] for _, attrs in page.tags if (attrs.get("href") or "").startswith("#")}
    assert targets <= ids
    assert sections.profiles(RaceResult(result.problems[:1]), Palette(result), {}) == ""


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_of_a_report(tmp_path):
    write_report(sample.race(), tmp_path / "deep" / "folder")
    names = sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir())
    assert names == ["curves-poisson2d.png", "curves-stdlib-lm.png", "report.html"]
    for name in names[:2]:
        assert (tmp_path / "deep" / "folder" / name).read_bytes().startswith(b"\x89PNG")


def test_names_of_pictures_are_safe_and_differ():
    names = ["a/b c.mtx", "A-B-C.mtx", "../..", "", "x" * 300, "名"]
    made = picture_names([problem(name=name) for name in names])
    assert len({name.lower() for name in made}) == len(names)
    assert all(re.fullmatch(r"curves-[A-Za-z0-9._-]{1,80}\.png", name) for name in made)


@pytest.mark.parametrize("where", ["write_text", "replace"])
def test_a_crash_while_writing_leaves_the_old_report_whole(tmp_path, monkeypatch, where):
    write_report(sample.race(problems=1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path, *args, **kwargs):
        if where == "write_text":
            with path.open("w") as file:
                file.write("half a pag")
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, where, full)
        with pytest.raises(BadInputError, match="No space left on device") as caught:
            write_report(sample.race(seed=7), tmp_path)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_crash_while_drawing_leaves_the_old_pictures_whole(tmp_path, monkeypatch):
    write_report(sample.race(problems=1), tmp_path)
    before = (tmp_path / "curves-stdlib-lm.png").read_bytes()

    def crash(figure, path, **kwargs):
        Path(path).write_bytes(b"half a picture")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", crash)
        with pytest.raises(KeyboardInterrupt):
            write_report(sample.race(problems=1, seed=3), tmp_path)
    assert (tmp_path / "curves-stdlib-lm.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves-stdlib-lm.png", "report.html"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(BadInputError, match="taken: cannot write the report"):
        write_report(sample.race(problems=1), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


# -- results.json ------------------------------------------------------------------------------------------------------


def test_results_come_back_as_they_were(tmp_path):
    result = sample.race()
    result.problems[0].description = EVIL
    path = tmp_path / "results.json"
    result.write(path)
    assert list(tmp_path.iterdir()) == [path]
    again = RaceResult.read(path)
    result.problems[0].runs = [dataclasses.replace(run) for run in result.problems[0].runs]
    assert dataclasses.asdict(again) == json.loads(path.read_text(encoding="utf-8"))
    assert dataclasses.asdict(again) == dataclasses.asdict(result)


def test_numbers_that_json_lacks_come_back_as_none(tmp_path):
    result = sample.race(problems=1)
    result.problems[0].runs[0].final = math.nan
    result.problems[0].runs[0].curve["metric"][0] = math.inf
    result.write(tmp_path / "results.json")
    run = RaceResult.read(tmp_path / "results.json").problems[0].runs[0]
    assert run.final is None
    assert run.curve["metric"][0] is None


def test_a_crash_while_writing_results_leaves_the_old_ones(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    sample.race(problems=1).write(path)
    before = path.read_bytes()

    def crash(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="No space"):
        sample.race(seed=4).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "a newer schema": ('{"schema": 99, "problems": [], "news": 1}', "schema 99.*reads up to 1; upgrade precond"),
    "cut off": ('{"schema": 1,\n "problems": [', ":2: not JSON"),
    "empty": ("", ":1: not JSON"),
    "another JSON": ("[1, 2]", "not the results of a race"),
    "a schema that is no number": ('{"schema": "1", "problems": []}', "not the results of a race"),
    "no problems": ('{"schema": 1}', "damaged"),
    "unknown fields": ('{"schema": 1, "problems": [], "colour": "red"}', "damaged.*colour"),
    "problems that are none": ('{"schema": 1, "problems": [3]}', "damaged"),
    "missing fields": ('{"schema": 1, "problems": [{"standings": [], "runs": [{"seed": 1}]}]}', "damaged"),
    "no schema": ('{"problems": []}', "not the results of a race"),
}


@pytest.mark.parametrize("name", BAD)
def test_results_that_cannot_be_read(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=message) as caught:
        RaceResult.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == text


def test_results_that_are_not_text(tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="not JSON"):
        RaceResult.read(path)
