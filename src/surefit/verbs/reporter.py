"""What a verb tells while it works: plain lines on standard error, and a bar on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


class Reporter:
    """Says lines and shows progress; silent when `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        """One line for the person who waits."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """A function `(done, note)` that shows how far the work is.

        On a terminal a bar with the time left; elsewhere a line at each tenth.
        """
        if self._quiet:
            yield lambda done, note: None
        elif sys.stderr.isatty():
            with _bar(what, total) as advance:
                yield advance
        else:
            yield self._lines(what, total)

    def _lines(self, what: str, total: int) -> Callable[[int, str], None]:
        said, first, started = -1, -1, time.monotonic()

        def advance(done: int, note: str) -> None:
            nonlocal said, first
            first = done if first < 0 else first  # what was there already took no time
            tenth = 10 * done // max(total, 1)
            if tenth > said:
                said = tenth
                left = ""
                if first < done < total:
                    each = (time.monotonic() - started) / (done - first)
                    left = f", {about(each * (total - done))} left"
                self.say(f"  {what}: {done}/{total} {note}".rstrip() + left)

        return advance


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("  {task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total, note="")
        yield lambda done, note: shown.update(task, completed=done, note=note)


def about(seconds: float) -> str:
    """A guess at a duration, in words: "under a second", "about 40 s"."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def duration(seconds: float) -> str:
    """Seconds in a person's words: "under a second", "40 s", "3 min", "2.1 h"."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
