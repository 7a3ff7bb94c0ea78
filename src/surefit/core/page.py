"""A report as one self-contained HTML file: a pure function of a `Page`.

The file reaches for nothing outside itself, and its content security policy holds it to that:
only the style and the script of our template run, known by their hashes, and pictures are data.
Every text in a `Page` is the user's and is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from jinja2 import Environment, FunctionLoader, StrictUndefined

from surefit.items import Figure
from surefit.wording import short

Tone = Literal["neutral", "good", "bad", "unsure"]

MISSING = "–"
BROAD = 840  # pixels: broader pictures are not shown two in a row
# A number, alone or leading a cell: "1,204", "-0.5", "12.5 %", "0.81 [0.79, 0.83]", "3.2 s".
_LEADING_NUMBER = re.compile(
    r"([-+−]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?:\s?(?:%|[a-zµ]{1,3}|[\[(±].*))?", re.I
)


@dataclass(frozen=True, kw_only=True)
class TableBlock:
    """A table that readers can sort by any column.

    Attributes:
        columns: the headings.
        rows: one sequence of cells a row: text, numbers, True/False, None or NaN (missing).
        caption: what the table says, in a line above it.
        numeric: names of the right-aligned columns; None finds those in which all cells are
            numbers or start with one, such as "0.81 [0.79, 0.83]", which they are then sorted by.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    numeric: Collection[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report: text, facts, a table, pictures, code, shown in this order.

    Attributes:
        title: the heading, also in the table of contents.
        text: paragraphs between empty lines; lines that start with "- " make a list.
        facts: (name, value) pairs.
        code: shown as it is, in fixed width.
    """

    title: str
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    table: TableBlock | None = None
    figures: Sequence[Figure] = ()
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report.

    Attributes:
        title: what this is a report of.
        verdict: the answer, in one sentence; the largest text on the page.
        subtitle: a line below the verdict.
        facts: the key (name, value) pairs, shown as cards.
        tone: the colour beside the verdict.
    """

    title: str
    verdict: str = ""
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    footer: str = ""
    tone: Tone = "neutral"


def render(page: Page) -> str:
    """The page as one HTML document (UTF-8)."""
    html = _environment().get_template("report.html").render(page=page)
    return html.encode("utf-8", "backslashreplace").decode("utf-8")  # lone surrogates


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        data_uri=data_uri,
        csp_hash=csp_hash,
        blocks=blocks,
        cells=cells,
        size=picture_size,
        placed=placed,
    )
    return environment


def _template(name: str) -> str:
    return (resources.files("surefit") / "templates" / name).read_text(encoding="utf-8")


def data_uri(png: bytes) -> str:
    """A picture as a URI that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def picture_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the PNG's header; (0, 0) for what is no PNG."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
        return 0, 0
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def placed(figures: Sequence[Figure]) -> list[tuple[Figure, bool]]:
    """Each picture, and whether it has a row to itself: a broad one, or one without a mate."""
    out: list[tuple[Figure, bool]] = []
    single = False
    for figure in figures:
        wide = picture_size(figure.png)[0] > BROAD
        if wide and single:
            out[-1] = (out[-1][0], True)
        single = not wide and not single
        out.append((figure, wide))
    if single and out:
        out[-1] = (out[-1][0], True)
    return out


def csp_hash(source: str) -> str:
    """The policy's name for an inline style or script with exactly this text."""
    digest = hashlib.sha256(source.replace("\r\n", "\n").encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Text as ("text", lines) and ("list", items), split at empty lines."""
    found = []
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in part.splitlines() if line.strip()]
        if lines and all(line.startswith("- ") for line in lines):
            found.append(("list", [line[2:] for line in lines]))
        elif lines:
            found.append(("text", lines))
    return found


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell as shown, and the number it sorts by ("" for text and for missing values)."""

    text: str
    order: str


def cells(table: TableBlock) -> tuple[list[bool], list[list[Cell]]]:
    """Which columns are numeric, and the rows as cells.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """
    rows = [[_cell(value) for value in row] for row in table.rows]
    wrong = [i for i, row in enumerate(rows) if len(row) != len(table.columns)]
    if wrong:
        raise ValueError(f"rows {wrong[:5]} do not have {len(table.columns)} cells")
    columns = [[row[i] for row in rows] for i in range(len(table.columns))]
    for i, column in enumerate(columns):
        if all(isinstance(row[i], float | None) for row in table.rows):
            columns[i] = _aligned(column)
    if table.numeric is not None:
        numeric = [column in table.numeric for column in table.columns]
    else:
        numeric = [_numbers_only(column) for column in columns]
    return numeric, [list(row) for row in zip(*columns, strict=True)]


def _aligned(column: Sequence[Cell]) -> list[Cell]:
    """Floats with as many decimals each as the one that shows most, where they are of one kind.

    Not where one needs a power, or thousands stand above fractions.
    """
    known = [cell.text for cell in column if cell.order]
    decimals = max((len(text.partition(".")[2]) for text in known), default=0)
    largest = max((abs(float(cell.order)) for cell in column if cell.order), default=0.0)
    nearest = min((abs(float(c.order)) for c in column if c.order and float(c.order)), default=0.0)
    if nearest >= 0.001:
        decimals = min(decimals, 4)  # a small value keeps two digits, and none needs six
    if decimals > 6 or (decimals and largest >= 1000) or any("e" in text for text in known):
        return list(column)
    return [
        Cell(text=f"{float(cell.order):,.{decimals}f}", order=cell.order) if cell.order else cell
        for cell in column
    ]


def _numbers_only(column: Sequence[Cell]) -> bool:
    known = [cell for cell in column if cell.text != MISSING]
    return bool(known) and all(cell.order for cell in known)


def _cell(value: Any) -> Cell:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()  # a numpy scalar
    if value is None or value != value:
        return Cell(text=MISSING, order="")
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no", order="")
    if isinstance(value, int):
        return Cell(text=f"{value:,}" if abs(value) >= 10_000 else str(value), order=str(value))
    if isinstance(value, float):
        return Cell(text=short(value), order=repr(value) if math.isfinite(value) else "")
    text = str(value).strip()
    return Cell(text=text or MISSING, order=_leading_number(text))


def _leading_number(text: str) -> str:
    match = _LEADING_NUMBER.fullmatch(text)
    if not match:
        return ""
    return repr(float(match[1].replace(",", "").replace("−", "-")))
