import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from jobs.comparison import parse
from jobs.comparison_page import MAX_HISTORY, comparison_page
from tests import comparisons
from tests.comparisons import HOSTILE, JSON, STATES

MADE_AT = datetime(2026, 11, 21, 18, 20, tzinfo=UTC)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what a reader or a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(made: JSON) -> Page:
    return Page(comparison_page(parse(made), MADE_AT))


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_a_whole_page_that_needs_nothing_else(name: str) -> None:
    html = comparison_page(parse(STATES[name]()), MADE_AT)
    found = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {attribute for attribute, _ in found.attributes}
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_what_comes_from_outside_is_text() -> None:
    found = page(comparisons.hostile())
    assert "script" not in found.tags
    assert found.text.count(HOSTILE) >= 10
    for name, value in found.attributes:
        assert not name.startswith("on")
        assert "<script>" not in value


def test_the_headline_comes_before_every_table() -> None:
    text = page(comparisons.hold()).text
    assert text.index("Version 2 answers 5 % of the traffic") < text.index("Side by side")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hold", ["… Undecided", "✓ Within the limit", "3,200 more requests are needed", "operator"]),
        ("hold", ["5ef8dccc-0f25-4e72-9075-a8b7a2bcac15", "97.5 % of 400", "86.5 % to 98.9 %", "model failed 19"]),
        ("passed", ["✓ Passed", "it has passed every guard", "None yet."]),
        ("stopped", ["✗ Stopped", "✗ Beyond the limit", "rollback", "referee"]),
        ("shadow", ["copies of 20 %", "Copies dropped 17"]),
        ("no traffic", ["– No traffic yet", "no feedback yet"]),
        ("alone", ["Champion alone", "digits: the champion, version 1"]),
    ],
)
def test_the_page_says(name: str, expected: list[str]) -> None:
    text = page(STATES[name]()).text
    for words in expected:
        assert words in text


def test_the_newest_decision_is_first_and_old_ones_are_counted() -> None:
    made = comparisons.alone()
    made["history"] = [
        {
            **comparisons.event("weights", "operator", 0.1, f"change {n}", n % 60),
            "time": f"2026-11-{1 + n // 24:02}T{n % 24:02}:00:00Z",
        }
        for n in range(MAX_HISTORY + 3)
    ]
    text = page(made).text
    assert text.index(f"change {MAX_HISTORY + 2}") < text.index(f"change {MAX_HISTORY}")
    assert "change 2 " not in text
    assert "3 older ones are not shown" in text


def test_a_matrix_without_agreements_says_so() -> None:
    made = comparisons.hold()
    made["variants"][1]["statistics"]["pairs"] = [["3", "8", 4]]
    assert 'Only disagreements are counted by class; "=" stands for the same class.' in page(made).text


def test_the_title_names_every_version() -> None:
    made = comparisons.hold()
    made["variants"] += [{**comparisons.shadow()["variants"][1], "version": version} for version in (3, 4)]
    assert page(made).text.startswith("digits: versions 2, 3 and 4 against the champion, version 1")
