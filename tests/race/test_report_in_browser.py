"""The report as a reader has it: in a real browser, from a file, without a network."""

import os
import shutil

import pytest

from precond.race.report import write_report

from . import sample

CHROMIUM = os.environ.get("PRECOND_CHROMIUM") or shutil.which("chromium")
ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-quic"]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium: install Debian's package chromium, or set PRECOND_CHROMIUM to a binary")
        pytest.skip("no Chromium on this machine: install it, or set PRECOND_CHROMIUM to a binary")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    result = sample.race()
    row = result.problems[1].standings[1]  # a name that Plotly or MathJax could take for markup
    for entry in [*result.problems[1].runs, row]:
        if entry.contestant == "cg+ssor":
            entry.contestant = "$x^2$ <b>&"
    write_report(result, out)
    return out / "report.html"


def watched(browser, path, **options):
    """Open the page offline; returns it with everything that it said or asked for."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900}, **options)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#p0 .chart .scatterlayer .js-line")
    return page, complaints, requests


@pytest.fixture
def opened(browser, report):
    """The page of the report; afterwards checks that it neither complained nor asked for anything."""
    page, complaints, requests = watched(browser, report)
    yield page
    page.context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file://", "data:", "blob:"))] == []


def until(page, expression):
    """Wait until an expression holds, asked from outside: the policy of the page forbids it to evaluate text."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {expression}")


def lines(page, problem="#p0"):
    return page.locator(f"{problem} [data-curves] .scatterlayer .js-line").count()


def axis(page, name, entry, problem="#p0"):
    return page.evaluate(f"document.querySelector('{problem} [data-curves] .chart').layout.{name}axis.{entry}")


def title(page, name="x"):
    return axis(page, name, "title.text")


def column(page, at):
    return page.locator(f"#p0 table[aria-label^=Standings] tbody td:nth-child({at})").all_inner_texts()


def test_curves_are_drawn_and_show_what_is_asked(opened):
    assert opened.locator("#p0 [data-curves] .scatterlayer .js-line").first.get_attribute("d").count("L") > 10
    means = lines(opened)
    bands = opened.locator("#p0 [data-curves] .js-fill").count()
    assert means >= 5
    assert bands == 5
    opened.click("#p0 [data-toggle=band]")
    assert opened.locator("#p0 [data-curves] .js-fill").count() == 0
    opened.click("#p0 [data-toggle=seeds]")
    assert lines(opened) >= 5 * 6
    opened.click("#p0 [data-toggle=seeds]")
    assert opened.locator("#p0 [data-curves] .scatter").count() == 5
    opened.click("#p0 [data-contestant=muon]")
    assert opened.locator("#p0 [data-curves] .scatter").count() == 4
    opened.dblclick("#p0 [data-contestant=soap]")
    assert opened.locator("#p0 [data-curves] .scatter").count() == 1
    opened.click("#p0 [data-all=true]")
    assert opened.locator("#p0 [data-curves] .scatter").count() == 5
    assert lines(opened, "#p1") >= 4
    assert opened.locator("#profiles .js-line").count() >= 10


def test_axes_switch_and_become_logarithmic(opened):
    assert title(opened) == "steps"
    path = "#p0 [data-curves] .scatterlayer .js-line"
    before = opened.locator(path).first.get_attribute("d")
    for name, text in (("seconds", "seconds"), ("gradients", "gradient evaluations"), ("step", "steps")):
        opened.click(f"#p0 [data-axis={name}]")
        assert title(opened) == text
        assert opened.locator(f"#p0 [data-axis={name}]").get_attribute("aria-pressed") == "true"
        assert opened.locator("#p0 [data-axis][aria-pressed=true]").count() == 1
    assert opened.locator(path).first.get_attribute("d") == before
    for name in "xy":
        assert axis(opened, name, "type") == "linear"
        opened.click(f"#p0 [data-toggle=log{name}]")
        assert axis(opened, name, "type") == "log"
        assert opened.locator(path).first.get_attribute("d") != before
        opened.click(f"#p0 [data-toggle=log{name}]")
        assert axis(opened, name, "type") == "linear"
    assert axis(opened, "y", "type", "#p1") == "log"


def test_a_point_says_what_it_is(opened):
    box = opened.locator("#p1 [data-curves] .nsewdrag").first
    box.scroll_into_view_if_needed()
    opened.evaluate(
        "chart => Plotly.Fx.hover(chart, chart.data.map((trace, at) => [trace, at])"
        ".filter(([trace]) => trace.meta.contestant.startsWith('$') && trace.meta.role === 'mean')"
        ".map(([, at]) => ({curveNumber: at, pointNumber: 5})))",
        opened.locator("#p1 [data-curves] .chart").element_handle(),
    )
    hover = " ".join(opened.locator("#p1 .hoverlayer text").all_text_contents()).replace("\u00a0", " ")
    assert "$x^2$ <b>&" in hover
    assert "iterations" in hover
    assert "4 seeds from" in hover


def test_tables_sort_both_ways_as_numbers_with_missing_values_last(opened):
    head = "#p0 table[aria-label^=Standings] th"
    assert column(opened, 1) == ["1", "2", "3", "4", "5", "6"]
    seconds = opened.locator(head).filter(has_text="seconds to target")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        seconds.locator("button").click()
        assert seconds.get_attribute("aria-sort") == direction
        assert opened.locator(f"{head}[aria-sort={direction}]").count() == 1
        values = column(opened, 5)
        numbers = [float(text.split()[0]) for text in values[:4]]
        assert numbers == sorted(numbers, reverse=sign < 0)
        assert values[4:] == ["–", "–"]
    name = opened.locator(head).filter(has_text="contestant")
    name.locator("button").press("Enter")  # with the keyboard as well
    assert column(opened, 2) == sorted(column(opened, 2))
    name.locator("button").press("Enter")
    assert column(opened, 2) == sorted(column(opened, 2), reverse=True)


def test_numbers_do_not_sort_as_text(opened):
    table = "#p0c0 table[aria-label^=Tuning]"
    opened.click("#p0c0 summary")
    opened.locator(f"{table} th").filter(has_text="lr").locator("button").click()
    values = opened.locator(f"{table} td:nth-child(2)").evaluate_all("cells => cells.map(cell => +cell.dataset.value)")
    assert values == sorted(values)
    assert len(values) == 12


def test_tuning_is_drawn_when_its_contestant_is_opened(opened):
    assert opened.locator("#p0c0 .point").count() == 0
    opened.click("#p0c0 summary")
    opened.wait_for_selector("#p0c0 .point")
    assert opened.locator("#p0c0 .point").count() == 12 * 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader_and_text_stays_readable(browser, report, scheme):
    page, complaints, _ = watched(browser, report, color_scheme=scheme)

    def light(colour):
        channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def style(selector, name):
        return page.evaluate("([s, n]) => getComputedStyle(document.querySelector(s))[n]", [selector, name])

    behind = light(style("section", "backgroundColor"))
    assert (behind > 0.5) == (scheme == "light")
    for selector, name in (("section p", "color"), (".note", "color"), ("#p0 .xtick text", "fill"), ("td", "color")):
        front = light(style(selector, name))
        assert (max(front, behind) + 0.05) / (min(front, behind) + 0.05) > 4.5, selector
    before = style("#p0 .xtick text", "fill")
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    until(page, f"getComputedStyle(document.querySelector('#p0 .xtick text')).fill !== '{before}'")
    page.context.close()
    assert complaints == []


def test_a_narrow_screen_does_not_scroll_sideways(browser, report):
    page, complaints, _ = watched(browser, report)
    page.set_viewport_size({"width": 360, "height": 700})
    until(page, "document.querySelector('#p0 .chart .main-svg').getBoundingClientRect().width < 360")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.context.close()
    assert complaints == []
