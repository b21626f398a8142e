"""What a person sees of a running build: a live line on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from augcache.building.workers import SILENCE
from augcache.cli.exit_codes import say
from augcache.progress import Progress
from augcache.text import duration_text, pace_text, printable

PLAIN_SECONDS = 10.0  # between two lines where nobody watches live
MOST_NAMES = 8  # in one line


@contextmanager
def show(what: str, *, quiet: bool = False, start: str = "starting") -> Iterator[Callable[[Progress], None]]:
    """Yield the callback that `build` reports its progress to; `start` is shown until the first result."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _counts: None
    elif console.is_terminal:
        shown = _Bar(what, console, start)
        with shown.bar:
            yield shown
    else:
        yield _Lines(what, start)


def waiting_text(counts: Progress) -> str:
    """Say on which images the workers are, the longest first."""
    longest = sorted(counts.waiting, key=lambda entry: -entry[1])
    told = [f"{printable(name)} ({duration_text(seconds)})" for name, seconds in longest[:MOST_NAMES]]
    more = f" and {len(longest) - MOST_NAMES} more" if len(longest) > MOST_NAMES else ""
    return f"no result for {duration_text(SILENCE)}; the workers are at {', '.join(told)}{more}"


class _Pace:
    """Items a second since the first that was computed, which may have waited for a compiler."""

    def __init__(self, start: str) -> None:
        self.start, self.begun = start, False
        self.time, self.worked = time.monotonic(), 0

    def __call__(self, counts: Progress) -> str:
        now = time.monotonic()
        if not self.begun:
            self.time, self.worked, self.begun = now, counts.worked, counts.computed > 0
        if not counts.computed:
            return self.start if counts.done < counts.total else ""
        return pace_text(counts.worked - self.worked, counts.total - counts.done, now - self.time)


class _Bar:
    """A line that is drawn anew, for a person who watches."""

    def __init__(self, what: str, console: Console, start: str) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("[red]{task.fields[failed]}"),
        )
        self.bar = Bar(*columns, console=console, transient=True)
        self.task = self.bar.add_task(what, total=None, pace=start, failed="")
        self.pace = _Pace(start)

    def __call__(self, counts: Progress) -> None:
        if counts.waiting:
            say(waiting_text(counts))
        failed = f"{counts.failed} failed" if counts.failed else ""
        pace = self.pace(counts)
        self.bar.update(self.task, total=counts.total, completed=counts.done, pace=pace, failed=failed)


class _Lines:
    """A line every `PLAIN_SECONDS`, for logs and pipes."""

    def __init__(self, what: str, start: str) -> None:
        self.what, self.pace = what, _Pace(start)
        self.last = time.monotonic()

    def __call__(self, counts: Progress) -> None:
        now, pace = time.monotonic(), self.pace(counts)
        if counts.waiting:
            say(waiting_text(counts))
        if now - self.last < PLAIN_SECONDS:
            return
        self.last = now
        failed = f"{counts.failed} failed" if counts.failed else ""
        parts = (f"{self.what}: {counts.done}/{counts.total}", pace, failed)
        print(", ".join(filter(None, parts)), file=sys.stderr)
