"""How every picture looks: colours, type, axes, and the PNG that comes out.

Only matplotlib's object API is used and every colour is set here, so neither pyplot nor the
user's global style changes a picture, nor does drawing one change them.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from surefit.items import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

DPI = 120
QUANTIZE_ABOVE = 60_000  # bytes: larger pictures are stored with 256 colours
LARGEST = 120_000  # bytes: above this, with fewer

INK, MUTED, GRID = "#1f2933", "#5f6c7b", "#e4e8ed"
# Okabe and Ito (2008), which people with any of the common colour deficiencies can tell apart.
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, GREY = "#cc79a7", "#56b4e9", "#9aa5b1"
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)

FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)


def label(name: object, limit: int = 24) -> str:
    """A user's name as one short line that matplotlib shows literally (no mathtext, no hiding)."""
    line = " ".join(str(name).split())
    line = "".join(c for c in line if c.isprintable())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    line = line.replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line  # "_x" would be left out of a legend


def start(
    title: str, *, width: float = 5.6, height: float = 4.2, rows: int = 1, columns: int = 1
) -> tuple[Drawing, list[Axes]]:
    """An empty drawing (inches) under a title, and its axes row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawing)
    lines = textwrap.fill(title, max(24, int(width * 9)))
    drawing.suptitle(
        lines, x=0.015, ha="left", fontsize=11.5, fontweight="bold", color=INK, linespacing=1.3
    )
    drawing.get_layout_engine().set(  # type: ignore[union-attr,call-arg]
        w_pad=0.09, h_pad=0.09, wspace=0.06, hspace=0.06
    )
    grid = drawing.subplots(rows, columns, squeeze=False)
    return drawing, [ax for line in grid for ax in line]


def dress(ax: Axes, x: str, y: str, *, grid: str = "both") -> None:
    """Name the axes and give them the common look; `grid` is "x", "y", "both" or ""."""
    ax.set_facecolor("white")
    ax.set_xlabel(x, fontsize=10.5, color=INK)
    ax.set_ylabel(y, fontsize=10.5, color=INK)
    ax.tick_params(labelsize=9.5, colors=MUTED, labelcolor=INK, length=3, width=0.8)
    ax.tick_params(which="minor", length=0)
    ax.grid(visible=False)
    if grid:
        ax.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b8c1cc")


def group_digits(ax: Axes, axis: str = "both") -> None:
    """Tick labels such as 12,000 and 0.25 in place of offsets and powers."""
    from matplotlib.ticker import FuncFormatter

    def text(value: float, _: int | None = None) -> str:
        if value == 0:
            return "0"
        if 1e-4 <= abs(value) < 1e7:
            return f"{value:,.6f}".rstrip("0").rstrip(".") if abs(value) < 1e4 else f"{value:,.0f}"
        return f"{value:.3g}"

    if axis in ("x", "both"):
        ax.xaxis.set_major_formatter(FuncFormatter(text))
    if axis in ("y", "both"):
        ax.yaxis.set_major_formatter(FuncFormatter(text))


def percent(ax: Axes, axis: str) -> None:
    """Show shares (0 to 1) as percentages along an axis."""
    from matplotlib.ticker import PercentFormatter

    for name in axis:
        getattr(ax, f"{name}axis").set_major_formatter(PercentFormatter(xmax=1))


def unit_square(ax: Axes) -> None:
    """Both axes from 0 to 1, with equal units and room for lines that run along the edge."""
    ax.set_xlim(-0.015, 1.015)
    ax.set_ylim(-0.015, 1.015)
    ax.set_aspect("equal")


def legend(ax: Axes, *, loc: str = "best", outside: bool = False, **options: Any) -> None:
    """A quiet legend, inside the axes or to their right; none where nothing is named."""
    handles, names = ax.get_legend_handles_labels()
    if not handles:
        return
    place: dict[str, Any] = {"loc": loc}
    if outside:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "borderaxespad": 0.2}
    box = ax.legend(
        handles, names, fontsize=9, labelcolor=INK, facecolor="white", edgecolor=GRID,
        framealpha=0.9, fancybox=False, **(place | options)
    )  # fmt: skip
    box.get_frame().set_linewidth(0.8)


def note(ax: Axes, text: str) -> None:
    """A small remark above the axes, right-aligned."""
    if text:
        ax.set_title(text, loc="right", fontsize=8.5, color=MUTED, pad=4)


def finish(name: str, title: str, drawing: Drawing, numbers: pd.DataFrame) -> Figure:
    """The drawing as a recorded figure; the same drawing gives the same bytes."""
    _choose_fonts(drawing)
    return Figure(name=name, title=title, png=_png(drawing), numbers=numbers)


def _png(drawing: Drawing) -> bytes:
    import warnings

    out = io.BytesIO()
    with warnings.catch_warnings():  # a script that no font here has is drawn as boxes, not raised
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        drawing.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue() if out.tell() <= QUANTIZE_ABOVE else _quantized(out)


def _quantized(png: io.BytesIO) -> bytes:
    """The picture with a palette of 256 colours: a third of the bytes, to the eye the same."""
    from PIL import Image

    png.seek(0)
    picture = Image.open(png).convert("RGB")
    best = png.getvalue()
    for n_colors in (256, 64, 24):
        small = io.BytesIO()
        palette = picture.quantize(n_colors, dither=Image.Dither.NONE)
        palette.save(small, format="PNG", optimize=True)
        best = min(best, small.getvalue(), key=len)
        if len(best) <= LARGEST:
            break
    return best


def _choose_fonts(drawing: Drawing) -> None:
    """Fix the type, with fonts for other scripts behind it where the text needs them."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    texts: Sequence[Text] = drawing.findobj(Text)
    families = ["DejaVu Sans"]
    if any(_beyond_latin(text.get_text()) for text in texts):
        here = set(font_manager.get_font_names())
        families += [font for font in FALLBACK_FONTS if font in here]
    for text in texts:
        text.set_fontfamily(families)


def _beyond_latin(characters: Iterable[str]) -> bool:
    return any(ord(c) > 0x058F and not 0x2000 <= ord(c) <= 0x2BFF for c in characters)
