"""The page of a report shows its numbers, and what others wrote is no more than text there."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flameagent.client.report import ModelUse, Percentiles, Reason, Report, Span, ToolUse
from flameagent.conversation import Usage
from flameagent.transcript import plots
from flameagent.transcript.plots import Values
from flameagent.transcript.report import lines, page

EVIL = '</title></svg><script>alert("1")</script><img src=x onerror=alert(1)>\u202e'
HOUR = 3_600_000


def made(name: str = "desk", **more: Any) -> Report:
    some = Percentiles(10, 1200, 5000)
    found = Report(
        application=name,
        since=0,
        until=48 * HOUR,
        step="hour",
        spans=[
            Span(0, 3, 1, some, 1000, 0.5),
            Span(HOUR, 0, 0, Percentiles(0, None, None), 0, 0.0),
            Span(2 * HOUR, 5, 0, some, 2500, 1.25),
        ],
        turns=8,
        failures=1,
        sessions=2,
        users=1,
        codes={"model": 1},
        reasons=[Reason("model", f"because {name}", 1, HOUR, f"session of {name}")],
        latency=some,
        waited=Percentiles(8, 10, 20),
        ran=some,
        model_time=some,
        models=[ModelUse(name, 8, 1, Usage(9, 3000, 1500, 500), 1.75)],
        tools=[ToolUse(name, 4, 1, Percentiles(4, 30, 40))],
        unread=[],
    )
    return replace(found, **more)


class Parts(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_it_loads_and_runs_nothing_whatever_others_wrote() -> None:
    evil, plain = Parts(page(made(EVIL))), Parts(page(made()))
    assert evil.tags == plain.tags
    assert not {"script", "img", "link", "iframe", "object"} & set(evil.tags)
    assert not [name for name, _ in evil.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert "\u202e" not in page(made(EVIL))
    assert "default-src 'none'" in page(made())


def test_the_numbers_are_there_for_who_sees_no_plot() -> None:
    text = page(made())
    for shown in ("8", "11.1% of all", "95% within 5.0 s", "3.5k", "1.75", "because desk", "00:00"):
        assert shown in text, shown
    assert len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', text)) == 4
    assert text.count("<details>") == 4
    assert text.count("<rect") > text.count("<circle") > 0


def test_a_report_of_nothing_says_so() -> None:
    empty = Percentiles(0, None, None)
    nothing = made(
        spans=[],
        turns=0,
        failures=0,
        reasons=[],
        models=[],
        tools=[],
        codes={},
        latency=empty,
        ran=empty,
        waited=empty,
    )
    assert "Nothing was asked in this time." in page(nothing)
    assert "turns answered     0" in "\n".join(lines(nothing))


def test_it_is_told_in_lines() -> None:
    said = "\n".join(lines(made()))
    assert "turns failed       1  (11.1% of all)" in said
    assert re.search(r"^model +1 +\S+ \S+ +session of desk +because desk$", said, re.MULTILINE)
    assert re.search(r"^desk +8 +1 +3000 +1500 +500 +1\.75$", said, re.MULTILINE)


@pytest.mark.parametrize("most", [0, 1, 3, 7, 12, 99, 1234, 5e6, 0.003, 0.25])
def test_an_axis_has_round_numbers_up_to_the_most(most: float) -> None:
    drawn = plots.bars("t", "s", ["a", "b"], [Values("v", "good", [most, 0])], lambda number: f"{number:g}")
    numbers = [float(tick.text) for tick in drawn.up]
    assert numbers[0] == 0
    assert numbers[-1] >= most * 0.999
    assert len(numbers) <= 6
    assert all(plots.HEIGHT >= tick.at >= 0 for tick in drawn.up)
    (series,) = drawn.series
    assert all(bar.y >= 9.9 and bar.y + bar.height <= drawn.bottom + 0.1 for bar in series.bars)


def test_bars_stand_on_each_other() -> None:
    both = [Values("low", "good", [2, 4]), Values("high", "bad", [2, None])]
    drawn = plots.bars("t", "s", ["a", "b"], both, str)
    low, high = drawn.series
    assert len(high.bars) == 1
    assert high.bars[0].y + high.bars[0].height == pytest.approx(low.bars[0].y, abs=0.2)
    assert high.bars[0].y == pytest.approx(low.bars[1].y, abs=0.2)


def test_a_line_ends_where_there_is_no_number() -> None:
    drawn = plots.points("t", "s", list("abcdef"), [Values("v", "good", [1, 2, None, 3, None, 4])], str)
    (series,) = drawn.series
    assert len(series.points) == 4
    assert [len(line.split()) for line in series.lines] == [2]
    assert drawn.rows == [["a", "1"], ["b", "2"], ["d", "3"], ["f", "4"]]


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1000, "dark")])
def test_a_browser_shows_it_whole(tmp_path: Path, width: int, scheme: Any) -> None:
    from playwright.sync_api import sync_playwright

    file = tmp_path / "report.html"
    file.write_text(page(made("a-name-that-is-quite-long-" * 4)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        asked: list[str] = []
        said: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: said.append(message.text))
        shown.goto(file.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.get_by_role("img").count() == 4
        assert shown.locator("rect").first.bounding_box()
        browser.close()
    assert (asked, said) == ([file.as_uri()], [])
