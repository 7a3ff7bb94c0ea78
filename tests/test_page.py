"""The report page: one escaped, self-contained file."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from surefit import results, wording
from surefit.core import figures
from surefit.core.page import MISSING, Page, Section, TableBlock, cells, csp_hash, render
from surefit.items import Figure
from surefit.results import Score

EVIL = """<script>alert('x')</script>"><img src=x onerror="alert(1)"> & {{ 7 * 7 }} {% raw %}"""


class Outline(HTMLParser):
    """The tags, their attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(title: str = "ROC") -> Figure:
    png = (
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    )
    return Figure(name="roc", title=title, png=png, numbers=pd.DataFrame())


def full(text: str) -> Page:
    """A page with `text` everywhere that text can be."""
    table = TableBlock(columns=[text, "score"], rows=[[text, 1.5], ["b", None]], caption=text)
    section = Section(
        title=text,
        text=f"{text}\n\n- {text}\n- b",
        facts=[(text, text)],
        table=table,
        figures=[picture(text)],
        code=text,
    )
    return Page(
        title=text,
        verdict=text,
        subtitle=text,
        facts=[(text, text)],
        sections=[section, section],
        footer=text,
    )


def test_everything_from_the_user_is_escaped() -> None:
    """Markup in any text adds no tag and no attribute, and is shown as typed."""
    evil, tame = Outline(render(full(EVIL))), Outline(render(full("tame")))
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in tame.tags]
    assert [set(a) for _, a in evil.tags] == [set(a) for _, a in tame.tags]
    assert "".join(evil.text).count(EVIL) == "".join(tame.text).count("tame") > 10
    assert evil.all("img")[0]["alt"] == EVIL


def test_the_file_reaches_for_nothing_outside_itself() -> None:
    """Every source and link is data or a place on the page, and the policy forbids the rest."""
    html = render(full("tame"))
    page = Outline(html)
    targets = [a[k] for _, a in page.tags for k in ("src", "href", "action", "srcset") if k in a]
    assert targets
    assert all(t is not None and t.startswith(("data:image/png;base64,", "#")) for t in targets)
    assert "url(" not in html
    assert "@import" not in html
    assert not page.all("link")
    policy = next(a for a in page.all("meta") if "http-equiv" in a)["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_the_policy_names_our_style_and_script() -> None:
    """The hashes in the policy are those of the one style and the one script on the page."""
    html = render(full("tame"))
    for tag in ("style", "script"):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        assert len(found) == 1
        assert f"{tag}-src {csp_hash(found[0])}" in html
    assert not re.search(r"\s(style|on\w+)=", html.partition("<body>")[2].partition("<script>")[0])


def test_links_of_the_contents_lead_to_sections() -> None:
    """The table of contents names every section once, in order, and each link has its target."""
    page = Page(title="t", sections=[Section(title=f"part {i}") for i in range(3)])
    outline = Outline(render(page))
    ids = {a["id"] for _, a in outline.tags if "id" in a}
    links = [a["href"] for a in outline.all("a") if a["href"] != "#content"]
    assert links == ["#section-1", "#section-2", "#section-3"]
    assert {str(link)[1:] for link in links} | {"content"} <= ids
    labels = {a["aria-labelledby"] for a in outline.all("section")}
    assert labels <= ids


def test_tables_are_sortable_by_keyboard_and_numbers_stand_right() -> None:
    """Each heading holds a button; numeric cells carry the number that they sort by."""
    table = TableBlock(columns=["name", "auc"], rows=[["a", 0.25], ["b", np.float64("nan")]])
    html = render(Page(title="t", sections=[Section(title="s", table=table)]))
    assert len(Outline(html).all("button")) == 2
    assert '<th scope="col" class="number">' in html
    assert '<td class="number" data-order="0.25">0.25</td>' in html
    assert f'<td class="number" data-missing>{MISSING}</td>' in html
    assert "aria-sort" in html.partition("<script>")[2]


@pytest.mark.parametrize(
    ("value", "text", "order"),
    [
        (12_345, "12,345", "12345"),
        (2024, "2024", "2024"),
        (np.int64(7), "7", "7"),
        (True, "yes", ""),
        (np.bool_(False), "no", ""),
        (None, MISSING, ""),
        (float("inf"), "inf", ""),
        ("", MISSING, ""),
        ("1,204.5", "1,204.5", "1204.5"),
        ("−3 %", "−3 %", "-3.0"),
        ("0.81 [0.79, 0.83]", "0.81 [0.79, 0.83]", "0.81"),
        ("12 apples", "12 apples", ""),
        ("2024-05-01", "2024-05-01", ""),
        ("e", "e", ""),
    ],
)
def test_cells(value: object, text: str, order: str) -> None:
    """How a value is shown in a cell, and the number that it sorts by."""
    _, [[cell]] = cells(TableBlock(columns=["c"], rows=[[value]]))
    assert (cell.text, cell.order) == (text, order)


def test_floats_of_a_column_line_up() -> None:
    """A column of floats shows the same number of decimals in every row."""
    numeric, rows = cells(TableBlock(columns=["c"], rows=[[0.9], [0.91234], [None], [12.0]]))
    assert [row[0].text for row in rows] == ["0.9000", "0.9123", MISSING, "12.0000"]
    assert numeric == [True]
    _, tiny = cells(TableBlock(columns=["c"], rows=[[1e-7], [0.5]]))
    assert [row[0].text for row in tiny] == ["1e-07", "0.5"]


def test_numeric_columns_are_found_or_given() -> None:
    """A column is numeric where all known cells are numbers, or where the caller says so."""
    rows = [["x1", "0.5 s", 3], ["x2", None, "many"]]
    assert cells(TableBlock(columns=["a", "b", "c"], rows=rows))[0] == [False, True, False]
    given = TableBlock(columns=["a", "b", "c"], rows=rows, numeric=["c"])
    assert cells(given)[0] == [False, False, True]


def test_a_ragged_table_is_refused() -> None:
    """A row with a cell too few raises, naming the row."""
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        cells(TableBlock(columns=["a", "b"], rows=[[1, 2], [1]]))


def test_empty_parts_leave_nothing_behind() -> None:
    """A page with only a title has no empty cards, contents, pictures or footer."""
    tags = {tag for tag, _ in Outline(render(Page(title="only"))).tags}
    assert tags.isdisjoint({"dl", "nav", "section", "img", "table", "footer", "pre"})


def test_a_page_is_a_pure_function_and_valid_utf_8() -> None:
    """The same page renders to the same text, and a lone surrogate does not break its encoding."""
    assert render(full("tame")) == render(full("tame"))
    render(full("bad \ud800 text")).encode("utf-8")


def test_ten_pictures_fit_in_two_megabytes() -> None:
    """A report with eleven real pictures stays far below 2 MB."""
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 6_000), rng.random(6_000)
    drawn = figures.evaluation_figures("binary", y, np.c_[1 - p, p], ["a", "b"])
    drawn += figures.evaluation_figures("regression", rng.normal(size=6_000), p)
    assert len(drawn) == 11
    html = render(Page(title="t", sections=[Section(title="Pictures", figures=drawn)]))
    assert len(html.encode()) < 1_500_000
    assert html.count('alt="') == 11


def test_no_row_of_pictures_is_half_empty():
    """A broad picture has a row of its own, and so has a small one that is left without a mate."""
    from surefit.core import canvas
    from surefit.core.page import placed

    def drawn(width):
        drawing, _ = canvas.start("x", width=width)
        return canvas.finish("x", "x", drawing, pd.DataFrame())

    small, broad = drawn(5.0), drawn(7.4)
    rows = [wide for _, wide in placed([small, small, small, broad, small])]
    assert rows == [False, False, True, True, True]
    assert placed([]) == []


@pytest.mark.parametrize(
    ("value", "low", "says"),
    [(0.52, 0.43, "cannot be told from"), (0.82, 0.73, "beats"), (0.42, 0.33, "does not beat")],
)
def test_a_baseline_inside_the_interval_is_not_beaten(value: float, low: float, says: str) -> None:
    """The terminal says what the report says of a score that may be the baseline's."""
    score = Score(metric="roc_auc", value=value, low=low, high=value + 0.09, n_rows=90,
                  greater_is_better=True)  # fmt: skip
    assert results._beats(score, 0.5) == says


def test_numbers_are_written_without_powers_where_people_read_them() -> None:
    """Thousands whole with commas, small ones with four digits, columns with four decimals."""
    assert [wording.short(v) for v in (0.84281, 78711.2)] == ["0.8428", "78,711"]
    assert [wording.ranked(v) for v in (0.843127, 30613.2)] == ["0.84313", "30,613"]
    assert [wording.decimals(v) for v in (0.5, 36669.02, 0.00001234)] == [
        "0.5000", "36,669", "1.234e-05"]  # fmt: skip
    assert [wording.signed(v) for v in (55587.3, -0.0094)] == ["+55,587", "-0.0094"]
