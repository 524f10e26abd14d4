"""The page of a rendered folder."""

import html.parser
import math
import urllib.parse

import numpy as np
import pytest

from fiancee_jax.report import MAX_CARDS, ExitLine, Picture, figures, href, page, share_of_full

HOSTILE = "<img src=x onerror=alert(1)> \"q\" & 'a' #1?50%:x"
EXITS = [
    ExitLine(1, "tap1_w50", 1, 0.5, 1.0, 0.25, 3),
    ExitLine(2, "backbone", None, 1.0, 4.0, 1.0, 1),
]


class Reader(html.parser.HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, tag, attribute):
        return [attrs[attribute] for name, attrs in self.tags if name == tag]


def picture(name="a", exit=1, predicted=(0.0512, 0.0)):
    return Picture(name, exit, predicted, 1.0 if exit == 1 else 4.0, 4.0)


def read(pictures, **options):
    return Reader(page("runs/<demo>", "max_lpips 0.1", pictures, EXITS, **options))


def test_page_says_the_totals():
    text = read([picture(), picture("b"), picture("c"), picture("d", 2)]).text
    for part in ("max_lpips 0.1", "1.75", "43.8 %", "tap1_w50", "backbone", "3 · 75 %", "1 · 25 %"):
        assert part in text
    assert "runs/<demo>" in text
    assert "predicted LPIPS 0.0512" in text
    assert "exit 2 (full)" in text


def test_hostile_names_are_only_text():
    reader = read([picture(HOSTILE)])
    assert HOSTILE in reader.text
    sources = reader.values("img", "src")
    assert [urllib.parse.unquote(s) for s in sources] == [
        f"./_labels/{HOSTILE}.png",
        f"./{HOSTILE}.png",
    ]
    assert not any(set(s) & set("#?:<\"' ") for s in sources)
    assert "onerror" not in {key for _, attrs in reader.tags for key in attrs}


def test_hostile_class_names_are_only_text():
    colors = np.array([[1, 2, 3]], np.uint8)
    reader = read([picture()], classes=["</style><script>"], colors=colors)
    assert "script" not in [tag for tag, _ in reader.tags]
    assert "</style><script>" in reader.text
    assert any(a.get("style") == "background: rgb(1, 2, 3)" for _, a in reader.tags)


def test_page_asks_nobody_for_anything():
    text = page("t", "exit full", [picture()], EXITS)
    assert "http" not in text
    assert "<script" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_large_folders_show_the_first_cards_and_say_so():
    pictures = [picture(f"p{i:04d}") for i in range(MAX_CARDS + 100)]
    reader = read(pictures)
    assert len(reader.values("img", "src")) == 2 * MAX_CARDS
    assert f"The first {MAX_CARDS} of {MAX_CARDS + 100} are shown" in reader.text
    assert "are shown" not in read(pictures[:MAX_CARDS]).text


def test_without_a_predictor_there_is_a_dash_and_null():
    unknown = picture(predicted=(math.nan, math.nan))
    assert "predicted LPIPS \N{EN DASH}" in read([unknown]).text
    assert unknown.record()["predicted_lpips"] is None
    assert unknown.record()["predicted"] == [None, None]


def test_record_is_the_line_of_the_manifest():
    assert picture("d", 2).record() == {
        "name": "d",
        "exit": 2,
        "predicted_lpips": 0.0,
        "predicted": [0.0512, 0.0],
        "gmacs": 4.0,
    }


def test_share_of_full():
    assert share_of_full([picture(), picture("b", 2)]) == 5 / 8
    assert math.isnan(share_of_full([]))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.345, "12.3"), (0.0004567, "0.000457"), (1234.5, "1,234"), (None, "\N{EN DASH}")],
)
def test_figures(value, text):
    assert figures(value) == text


def test_href_is_relative_and_quoted():
    assert href("a b#c?d%41:e.png") == "./a%20b%23c%3Fd%2541%3Ae.png"
