"""What a person sees of a running build: a live line on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from augcache.report import Progress

PLAIN_SECONDS = 10.0  # between two lines where nobody watches live


@contextmanager
def show(what: str, *, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Yield the callback that `build` reports its progress to."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _counts: None
    elif console.is_terminal:
        with _bar(console) as bar:
            bar.add_task(what, total=None, rate="", failed="")
            yield lambda counts: _update(bar, counts)
    else:
        yield _Lines(what, console)


def _bar(console: Console) -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[failed]}"),
    )
    return Bar(*columns, console=console, transient=True)


def _update(bar: Bar, counts: Progress) -> None:
    elapsed = bar.tasks[0].elapsed or 0.0
    rate = f"{counts.done / elapsed:.1f}/s" if elapsed > 1 else ""
    failed = f"{counts.failed} failed" if counts.failed else ""
    bar.update(bar.tasks[0].id, total=counts.total, completed=counts.done, rate=rate, failed=failed)


class _Lines:
    """A line every `PLAIN_SECONDS`, for logs and pipes."""

    def __init__(self, what: str, console: Console) -> None:
        self.what, self.console = what, console
        self.last = time.monotonic()
        # The first results may have waited for kernels to compile, and say nothing of those to come.
        self.from_time, self.from_done = self.last, 0

    def __call__(self, counts: Progress) -> None:
        now = time.monotonic()
        if not self.from_done and counts.done:
            self.from_time, self.from_done = now, counts.done
        if now - self.last < PLAIN_SECONDS:
            return
        self.last = now
        rate = (counts.done - self.from_done) / (now - self.from_time) if now > self.from_time else 0
        pace = f", {rate:.1f}/s, about {(counts.total - counts.done) / rate:.0f} s left" if rate else ""
        failed = f", {counts.failed} failed" if counts.failed else ""
        self.console.print(
            f"{self.what}: {counts.done}/{counts.total}{pace}{failed}",
            highlight=False,
            soft_wrap=True,
        )
