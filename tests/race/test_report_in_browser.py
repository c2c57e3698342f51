"""The report as a reader meets it: opened from a file in Chromium, without a network."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from precond.race.report import write_report
from tests.race import sample

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
CHART = "#p0 [data-curves] .chart"


def missing(reason: str) -> None:
    """Skip where there is no browser, but never in continuous integration."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install precond[dev]")
    path = os.environ.get("PRECOND_CHROMIUM") or shutil.which("chromium")
    if not path or not Path(path).exists():
        missing("there is no Chromium: apt-get install chromium, or name one in PRECOND_CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    result = sample.race()
    evil = "<b onmouseover=alert(1)>soap & 'co' ✓</b>"
    for run in result.problems[0].runs:
        run.contestant = evil if run.contestant == "soap" else run.contestant
    result.problems[0].standings[0].contestant = evil
    folder = tmp_path_factory.mktemp("a report 100% ✓")
    write_report(result, folder)
    return (folder / "report.html").as_uri()


class Watched:
    """A page with everything it said and everything it asked for."""

    def __init__(self, context, address: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#p0 [data-curves] .scatterlayer path.js-line", state="attached")

    def check(self) -> None:
        assert self.said == []
        assert self.asked
        assert all(url.startswith(("file:", "data:", "blob:")) for url in self.asked), self.asked


@pytest.fixture(scope="module")
def shared(browser, report):
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    watched = Watched(context, report)
    yield watched
    context.close()


@pytest.fixture
def page(shared):
    """The page, opened once; what it says or asks during a test fails that test."""
    yield shared.page
    shared.check()


def lines(page, place="#p0 [data-curves]") -> list[str]:
    """The paths of the curves as they are drawn now."""
    return page.eval_on_selector_all(
        f"{place} .scatterlayer path.js-line", "paths => paths.map(path => path.getAttribute('d'))"
    )


def kind(page, axis: str) -> str:
    return page.eval_on_selector(CHART, f"chart => chart._fullLayout.{axis}axis.type")


def test_curves_are_drawn(page):
    for place, contestants in (("#p0", 5), ("#p1", 4)):
        drawn = [path for path in lines(page, f"{place} [data-curves]") if path]
        assert len(drawn) >= contestants
        longest = max(drawn, key=len)
        assert len(re.findall(r"[\d.]+,[\d.]+", longest)) > 15
    assert len(lines(page, "#profiles")) >= 6  # performance profiles


def column(page, number: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#p0 table[aria-label^=Standings] tbody tr td:nth-child({number})", "cells => cells.map(c => c.dataset.value)"
    )


@pytest.mark.parametrize("title", ["state bytes / parameter", "contestant", "steps to target"])
def test_a_click_on_a_header_sorts_in_both_directions(page, title):
    table = page.locator("#p0 table[aria-label^=Standings]")
    head = table.locator("th", has=page.get_by_role("button", name=title, exact=True))
    number = head.evaluate("head => head.cellIndex + 1")
    before = column(page, number)

    def key(value):
        return float(value) if head.get_attribute("data-kind") == "number" else value

    for direction in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        values = column(page, number)
        assert sorted(values) == sorted(before)
        present = [key(value) for value in values if value != ""]
        assert present == sorted(present, reverse=direction == "descending")
        assert values[len(present) :] == [""] * (len(values) - len(present))  # what is missing comes last
    assert table.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_axes_become_logarithmic_and_back(page):
    for axis in ("x", "y"):
        button = page.locator(f"#p0 [data-toggle=log{axis}]")
        linear = lines(page)
        assert (kind(page, axis), button.get_attribute("aria-pressed")) == ("linear", "false")
        button.click()
        assert (kind(page, axis), button.get_attribute("aria-pressed")) == ("log", "true")
        assert lines(page) != linear
        button.click()
        assert kind(page, axis) == "linear"
        assert lines(page) == linear
    assert page.eval_on_selector("#p1 [data-curves] .chart", "chart => chart._fullLayout.yaxis.type") == "log"


def test_the_x_axis_can_be_switched(page):
    seen = {}
    for axis, title in (("seconds", "seconds"), ("gradients", "gradient evaluations"), ("step", "steps")):
        page.locator(f"#p0 [data-axis={axis}]").click()
        assert page.locator("#p0 [data-axis][aria-pressed=true]").count() == 1
        assert page.eval_on_selector(CHART, "chart => chart._fullLayout.xaxis.title.text") == title
        seen[axis] = lines(page)
    assert seen["seconds"] != seen["step"]


def test_single_seeds_bands_and_contestants_come_and_go(page):
    few = len(lines(page))
    page.locator("#p0 [data-toggle=seeds]").click()
    assert len(lines(page)) > few + 10
    page.locator("#p0 [data-toggle=seeds]").click()
    page.locator("#p0 [data-toggle=band]").click()
    assert len(lines(page)) == few - 5
    page.locator("#p0 [data-toggle=band]").click()
    page.locator("#p0 [data-all=false]").click()
    assert lines(page) == []
    page.locator("#p0 [data-contestant=muon]").click()
    assert len(lines(page)) == 2  # band and mean
    page.locator("#p0 [data-all=true]").click()
    assert len(lines(page)) == few


def test_details_open_and_show_the_tuning_trials(page):
    details = page.locator("#p0c0")
    assert details.evaluate("details => details.open") is False
    details.locator("summary").first.click()
    details.locator(".scatterlayer .point").first.wait_for()
    assert details.locator(".scatterlayer .point").count() >= 12
    assert details.get_by_text("Tuned setting").is_visible()
    assert details.get_by_text("Search space").is_visible()
    failures = page.locator("#p0 details", has_text="runs failed")
    failures.locator("summary").click()
    assert failures.get_by_text("the loss is NaN at step 7").first.is_visible()


def test_hovering_names_the_contestant_as_text(page):
    chart = page.locator(CHART)
    chart.scroll_into_view_if_needed()
    page.locator("#p0 [data-all=false]").click()
    page.locator("#p0 [data-contestant*=soap]").click()
    page.evaluate(
        """() => { const chart = document.querySelector('#p0 [data-curves] .chart');
        const at = chart.data.findIndex(trace => trace.visible === true && trace.meta.role === 'mean');
        Plotly.Fx.hover(chart, [{ curveNumber: at, pointNumber: 10 }]); }"""
    )
    label = page.locator(f"{CHART} .hoverlayer .hovertext")
    label.first.wait_for()
    assert "<b onmouseover=alert(1)>soap & 'co' ✓</b>" in label.first.text_content()
    assert page.locator("[onmouseover]").count() == 0
    page.locator("#p0 [data-all=true]").click()


def test_a_narrow_dark_screen(browser, report):
    context = browser.new_context(offline=True, viewport={"width": 400, "height": 800}, color_scheme="dark")
    watched = Watched(context, report)
    page = watched.page
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room == 400  # nothing sticks out: only tables scroll, each in its own box
    chart = page.locator(CHART).bounding_box()
    assert 0 <= chart["x"] < chart["x"] + chart["width"] <= 400
    assert chart["width"] > 300
    for button in page.locator("#p0 .controls button").all():
        box = button.bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= 400
    page.locator("#p0 [data-toggle=logx]").click()
    assert kind(page, "x") == "log"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150
    watched.check()
    context.close()


def test_without_scripts_the_page_still_tells_the_outcome(browser, report):
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    assert "wins on 1 of 2 problems" in page.locator("h1").text_content()
    assert page.locator("#p0 .ranking .dot").first.is_visible()
    assert page.locator("#p0 table[aria-label^=Standings]").is_visible()
    context.close()


def test_a_name_that_looks_like_a_formula_fetches_nothing(browser, tmp_path):
    result = sample.race(problems=1)
    for entry in [*result.problems[0].runs, *result.problems[0].standings]:
        entry.contestant = "$x^2$" if entry.contestant == "soap" else entry.contestant
    write_report(result, tmp_path)
    context = browser.new_context(offline=True)
    watched = Watched(context, (tmp_path / "report.html").as_uri())
    curve = "chart.data.findIndex(trace => trace.name === '$x^2$' && trace.meta.role === 'mean')"
    watched.page.eval_on_selector(CHART, f"chart => Plotly.Fx.hover(chart, [{{curveNumber: {curve}, pointNumber: 5}}])")
    assert "$x^2$" in " ".join(watched.page.locator("#p0 .hoverlayer text").all_text_contents())
    watched.check()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_and_figures_follow_the_scheme(browser, report, scheme):
    context = browser.new_context(offline=True, color_scheme=scheme)
    watched = Watched(context, report)

    def colour(selector, name):
        found = watched.page.eval_on_selector(selector, "(element, name) => getComputedStyle(element)[name]", name)
        return [float(part) for part in re.findall(r"[\d.]+", found)[:3]]

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    behind = luminance(colour("section", "backgroundColor"))
    assert (behind > 0.5) == (scheme == "light")
    for selector, name in (
        ("section p", "color"),
        (".note", "color"),
        (f"{CHART} .xtick text", "fill"),
        ("td", "color"),
    ):
        front = luminance(colour(selector, name))
        assert (max(front, behind) + 0.05) / (min(front, behind) + 0.05) > 4.5, selector  # WCAG 2, level AA
    before = colour(f"{CHART} .xtick text", "fill")
    watched.page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    for _ in range(100):
        if colour(f"{CHART} .xtick text", "fill") != before:
            break
        watched.page.wait_for_timeout(50)
    else:
        pytest.fail("the figure kept the colours of the other scheme")
    watched.check()
    context.close()
