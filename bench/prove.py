"""The long proofs: our intervals, verdicts and guarantees where the truth is known.

    python bench/prove.py                all areas; writes docs/proof.md (`make prove`)
    python bench/prove.py compare        one area (or several); replaces its part of the page
    python bench/prove.py --scale 0.05   a twentieth of the repeats; prints, writes nothing
    ... --scale 0.4 --write              writes all the same; the page says the scale
    python bench/prove.py promote --section "Ten looks"   one of its tables; the others stay
    python bench/prove.py --list         the areas and their sections

An area is a file bench/proof_AREA.py with `SECTIONS`, a list of `proving.Section`; there is
nothing else to register. A section is a table; each of its rows names a function, which runs in a
process of its own and gives a `proving.Outcome`: the row's cells, and whether the promise held.
A row whose function raises fails, and its cell says why. The command ends with 1 when any row
failed, and names it. The worlds live in tests/, so that the suite runs a short form of them:

    def never_twice(n_kills: int) -> Outcome:
        lost = ...
        return Outcome(cells=[str(n_kills), str(lost)], held=lost == 0)

    SECTIONS = [Section(title="Killed drivers", about="Promise: no trial is lost or run twice.",
                        columns=("what", "kills", "lost", ""), alone=True,
                        rows=[Row(words=("tune",), call=never_twice, arguments={"n_kills": 12})])]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from proving import ROOT, Outcome, Row, Section

PAGE = ROOT / "docs" / "proof.md"
LIBRARIES = ("surefit", "numpy", "scipy", "scikit-learn", "mlflow")
HEAD = """# Proof by simulation

Written by `make prove`, in worlds whose truth is known. Rates stand with exact 99 % binomial
bounds, and a promised rate *holds* where it could have given the one seen, at 99 %: of a hundred
rows one is expected to fail by chance. A row without a verdict is reported as it is.
"""
VERDICTS = {True: "holds", False: "**fails**", None: ""}


def areas() -> list[str]:
    """The names of all areas, from the files there are."""
    return sorted(p.stem.removeprefix("proof_") for p in Path(__file__).parent.glob("proof_*.py"))


def sections_of(area: str) -> list[Section]:
    """The sections that an area's file lists."""
    return list(importlib.import_module(f"proof_{area}").SECTIONS)


def run(row: Row, scale: float) -> Outcome:
    """What a row's function gives; an exception is an outcome that failed."""
    arguments = dict(row.arguments)
    if row.repeats is not None:
        least = min(row.fewest, row.repeats)
        arguments["n_datasets"] = max(least, round(row.repeats * scale))
    if row.seed is not None:
        arguments["seed"] = row.seed
    try:
        return row.call(**arguments)
    except Exception as error:
        traceback.print_exc()
        said = " ".join(str(error).split())[:200].replace("|", "/")
        return Outcome(cells=[f"{type(error).__name__}: {said}"], held=False)


def outcomes_of(sections: list[Section], scale: float) -> Iterator[tuple[int, int, Outcome]]:
    """Each row's outcome with the numbers of its section and of itself, as they come."""
    jobs: list[tuple[int, int, Future[Outcome]]] = []
    fresh = multiprocessing.get_context("spawn")
    shared = [(i, s) for i, s in enumerate(sections) if not s.alone]
    cores = len(os.sched_getaffinity(0))
    with one_thread_each(), ProcessPoolExecutor(cores, mp_context=fresh) as pool:
        jobs = [(i, j, pool.submit(run, r, scale)) for i, s in shared for j, r in enumerate(s.rows)]
        for i, j, job in jobs:
            yield i, j, given(job)
    for i, section in enumerate(sections):
        for j, row in enumerate(section.rows if section.alone else ()):
            with ProcessPoolExecutor(1, mp_context=fresh) as pool:
                yield i, j, given(pool.submit(run, row, scale))


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started within compute on one thread each: there are as many as cores."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def given(job: Future[Outcome]) -> Outcome:
    """What came of a job; where its process died, an outcome that failed."""
    try:
        return job.result()
    except BrokenProcessPool:
        return Outcome(cells=["its process died"], held=False)


def table(section: Section, outcomes: list[Outcome]) -> str:
    """A section as Markdown."""
    lines = [f"## {section.title}\n\n{section.about}\n", f"| {' | '.join(section.columns)} |"]
    lines.append("|" + "---|" * len(section.columns))
    for row, outcome in zip(section.rows, outcomes, strict=True):
        start = [*row.words, *([] if row.seed is None else [str(row.seed)])]
        room = len(section.columns) - len(start) - 1
        found = [*outcome.cells, *[""] * (room - len(outcome.cells))][:room]
        lines.append(f"| {' | '.join([*start, *found, VERDICTS[outcome.held]])} |")
    return "\n".join(lines) + "\n"


def prove(area: str, scale: float, only: str = "") -> tuple[str, list[str]]:
    """An area's part of the page, and the rows that failed, in words."""
    started = time.monotonic()
    sections = [s for s in sections_of(area) if only in s.title]
    found: dict[tuple[int, int], Outcome] = {}
    for i, j, outcome in outcomes_of(sections, scale):
        found[i, j] = outcome
        words = " ".join(sections[i].rows[j].words)
        print(f"{area} {i + 1}/{len(sections)}: {words}: {' '.join(outcome.cells)} "
              f"{VERDICTS[outcome.held]}", file=sys.stderr, flush=True)  # fmt: skip
    parts, failed = [], []
    for i, section in enumerate(sections):
        outcomes = [found[i, j] for j in range(len(section.rows))]
        parts.append(table(section, outcomes))
        pairs = zip(section.rows, outcomes, strict=True)
        failed += [f"{section.title}: {' '.join(r.words)}" for r, o in pairs if o.held is False]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    minutes = (time.monotonic() - started) / 60
    parts.append(f"<sub>{area}: Python {platform.python_version()}, {versions}; "
                 f"{minutes:.0f} minutes, scale {scale:g}.</sub>\n")  # fmt: skip
    return "\n".join(parts), failed


def rewrite(page: str, parts: dict[str, str]) -> str:
    """The page with these areas' parts new, those of other areas that still exist kept."""
    old = dict(re.findall(r"<!-- area (\w+) -->\n(.*?)(?=<!-- area |\Z)", page, re.DOTALL))
    kept = {area: (old | parts)[area].strip() for area in areas() if area in old | parts}
    return "\n\n".join([HEAD.strip(), *(f"<!-- area {a} -->\n{t}" for a, t in kept.items())]) + "\n"


def mended(page: str, area: str, part: str) -> str:
    """The area's part of the page with the tables of `part` in it, and when those were made."""
    old = dict(re.findall(r"<!-- area (\w+) -->\n(.*?)(?=<!-- area |\Z)", page, re.DOTALL))
    blocks = [re.split(r"^(?=## |<sub>)", t, flags=re.MULTILINE) for t in (old.get(area, ""), part)]
    kept, new = ([b.strip() + "\n" for b in found if b.strip()] for found in blocks)
    tables = {t.splitlines()[0]: t for t in [*kept, *new] if t.startswith("## ")}
    titles = ", ".join(t.splitlines()[0].removeprefix("## ") for t in new if t.startswith("## "))
    foot = f"<sub>{titles}, of {new[-1].removeprefix('<sub>')}"
    feet = [f for f in kept if f.startswith("<sub>") and not f.startswith(f"<sub>{titles}, of ")]
    order = [f"## {s.title}" for s in sections_of(area)]
    return "\n".join([*(tables[t] for t in order if t in tables), *feet, foot])


def main() -> int:
    """Run what is asked for; 0 when every promise held, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("area", nargs="*", help=f"of {', '.join(areas())}; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the repeats")
    parser.add_argument("--write", action="store_true", help="write the page at any scale")
    parser.add_argument("--section", default="", help="of one area: tables with this in the title")
    parser.add_argument("--list", action="store_true", help="list areas and sections only")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.area) - set(areas())):
        parser.error(f"no area {', '.join(unknown)}; there are {', '.join(areas())}")
    if asked.section and not (
        len(asked.area) == 1 and any(asked.section in s.title for s in sections_of(asked.area[0]))
    ):
        parser.error(f"no area with a section {asked.section!r} is named; --list names all")
    if asked.list:
        for area in areas():
            print(area, *(f"\n  {s.title}: {len(s.rows)} rows" for s in sections_of(area)), sep="")
        return 0
    failed: list[str] = []
    for area in asked.area or areas():
        part, bad = prove(area, asked.scale, asked.section)
        failed += bad
        if asked.section and PAGE.exists():
            part = mended(PAGE.read_text("utf-8"), area, part)
        if asked.scale == 1.0 or asked.write:  # area by area: an interruption keeps what was done
            PAGE.write_text(rewrite(PAGE.read_text("utf-8") if PAGE.exists() else "", {area: part}),
                            "utf-8")  # fmt: skip
        else:
            print(part)
    for line in failed:
        print(f"FAILED  {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
