"""The one driver: every item of a source through the workers into a store, whatever is made of it."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from augcache.building.batches import Made, Named, Work, Writer, exist, groups, work_on
from augcache.building.build_report import Report
from augcache.building.by_input import Job
from augcache.building.record_buffer import RecordBuffer
from augcache.building.workers import Crash, Pool, Waiting
from augcache.errors import BackendError, SourceError
from augcache.images.keys import ContentKey
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.sources.items import has_length
from augcache.storage.manifest import DECODED, Failure, Source
from augcache.storage.runs import noted
from augcache.storage.store import Store

log = logging.getLogger("augcache")


@dataclass(frozen=True)
class Plan:
    """What is done with the items of a source.

    Attributes
    ----------
    recipe : Recipe
        Names the results.
    look : Work
        Worker: what is made of an item.
    compute : Work or None
        Worker: the record of a `Job`, for each distinct image that `look` found and that has none yet.
    max_pixels : int
        An image of more is a failure.
    chunk : int
        Items for each worker that are looked at together: the last of them is waited for before the next are.
        Duplicates among them are found before anything is computed.
    group : int
        Most items that travel together; 1 for items that take seconds, such as videos.
    """

    recipe: Recipe
    look: Work
    compute: Work | None = None
    max_pixels: int = 0
    chunk: int = 512
    group: int = 16

    @property
    def prefix(self) -> bytes:
        """Which set of manifest rows."""
        return DECODED if self.recipe.keyed_by == "input" else self.recipe.digest


def count_items(items: Any, limit: int | None) -> int | None:
    """Count the items to work on, None where a stream has no limit; raises `SourceError` for none."""
    total = limit if not has_length(items) else min(len(items), limit if limit is not None else len(items))
    if total is not None and total <= 0:
        raise _nothing(items)
    return total


def begun(items: Any) -> Any:
    """Read the first item of a stream, which may have none; raises `SourceError`."""
    if has_length(items):
        return items
    stream = iter(items)
    first = next(stream, None)
    if first is None:
        raise _nothing(items)
    return itertools.chain([first], stream)


def _nothing(items: Any) -> SourceError:
    return SourceError(f"{items!r}: no images to work on; give a folder that has some, and a limit above 0")


def check_paths(pool: Pool, items: Iterable[Any]) -> None:
    """Raise `BackendError` where workers elsewhere lack the first file; else every image would be a failure."""
    can_look = not pool.is_local and has_length(items)  # a stream may be read once
    path = getattr(next(iter(items)), "path", "") if can_look else ""
    if not path or not os.path.exists(path):
        return  # nothing to look for: no file, a URL, or one that is not here either
    [(_, there)] = pool.run(exist, [[path]])
    if there != [True]:
        raise BackendError(
            f"{path}: is here, and not where the workers are; give a path on a file system that all of them share, or "
            "a URL"
        )


def run(
    plan: Plan,
    items: Any,
    store: Store,
    pool: Pool,
    *,
    limit: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Work on every item that the store does not have as it now is, and store what comes of it.

    Parameters
    ----------
    plan : Plan
        What is done with an item.
    items : iterable of `Named`
        The source; its length may be unknown until it ends.
    store : Store
        Open for writing, and held by `Store.exclusive`.
    pool : Pool
        The workers.
    limit : int, optional
        Only the first so many items.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Report
        An item for which a record was computed is "computed"; one whose records were all there is "reused".

    Notes
    -----
    An item is passed over when the manifest has rows of its name with the same size, mtime and label, and the store
    has their records. All rows of an item are committed at once, not before their records, and replace its earlier
    ones. An interrupt keeps what is finished and is raised again.
    """
    started = time.monotonic()
    total, is_counted = count_items(items, limit), has_length(items)
    counts = Progress(total if is_counted and total is not None else 0)
    with (
        noted(store, plan.recipe, pool.workers, counts, progress) as report,
        Writer(store, plan.recipe, counts.times, plan.prefix) as writer,
    ):
        state = _Run(plan, store, pool, writer, counts, report)
        remaining = itertools.islice(items, total)
        while chunk := list(itertools.islice(remaining, plan.chunk * max(pool.workers, 1))):
            counts.total += 0 if is_counted else len(chunk)
            state.chunk(chunk)
    seconds = time.monotonic() - started
    return Report(
        counts.total, counts.computed, counts.reused, counts.failed, seconds, str(store.path), plan.recipe.digest.hex(),
        counts.times.split(seconds),
    )  # fmt: skip  # counts in a row


@dataclass
class _Found:
    """An item that waits for records of its images."""

    item: Named
    made: Made
    reason: str = ""
    is_computed: bool = False


@dataclass
class _Run:
    plan: Plan
    store: Store
    pool: Pool
    writer: Writer
    counts: Progress
    report: Callable[[Progress], None]
    _earlier: dict[str, list[Source]] = field(default_factory=dict)

    def chunk(self, items: list[Named]) -> None:
        """Bring one chunk of items into the store."""
        self._earlier = self.store.rows_of([item.name for item in items], self.plan.prefix)
        fresh = [item for item in items if not self._is_done(item)]
        self.counts.reused += len(items) - len(fresh)
        self.report(self.counts)
        if self.plan.compute is None:
            self._look(fresh)
            return
        with self.counts.times.stage("read"):
            found = self._look(fresh)
        try:
            self._compute(found, self.plan.compute)
        finally:
            self._settle(found)  # also on the way out of an interrupt: what is finished gets its manifest rows

    def _is_done(self, item: Named) -> bool:
        """Whether the manifest knows this very state of the file, and its records are there."""
        rows, state = self._earlier[item.name], (item.size, item.mtime_ns, item.label)
        if not rows or not item.mtime_ns or any((row.size, row.mtime_ns, row.label) != state for row in rows):
            return False
        if not all(self.store.has(self.plan.recipe.digest, [row.key for row in rows])):
            return False
        return self.store.failure(self.plan.recipe, item.name) is None  # else only a part of it is there

    def _results(self, work: Work, jobs: list[Any]) -> Iterator[tuple[Any, Made]]:
        """Yield each job with what was made of it, as the workers give it."""
        most = self.plan.max_pixels
        outcomes = self.pool.run(
            partial(work_on, work, min(self.pool.ordinary_pixels, most), most),
            groups(jobs, self.pool.workers, self.plan.group),
            large=partial(work_on, work, most, most),
            watch=self._tell_waiting,
        )
        for group, results in outcomes:
            for job, result in zip(group, results, strict=True):
                yield job, Made(reason=result.reason) if isinstance(result, Crash) else result
            self.writer.commit_if_due()
            self.report(self.counts)

    def _tell_waiting(self, waiting: Waiting) -> None:
        """Report on which items the workers are, where no result comes."""
        self.counts.waiting = [(job.name, seconds) for job, seconds in waiting]
        try:
            self.report(self.counts)
        finally:
            self.counts.waiting = []

    def _look(self, items: list[Named]) -> list[_Found]:
        """Look at items; returns those whose images are computed by themselves, in order of name."""
        waiting = []
        for item, made in self._results(self.plan.look, items):
            new = self.writer.records(made.records)
            if isinstance(made.records, RecordBuffer):
                made.records.discard()
            if self.plan.compute is None or made.reason:
                self._keep(item, made, made.reason, is_computed=new > 0)
            else:
                waiting.append(_Found(item, made))
        waiting.sort(key=lambda found: found.item.name)  # the first name of an image is the same on every run
        return waiting

    def _compute(self, found: list[_Found], work: Work) -> None:
        """Compute what has no record, each distinct image once."""
        first: dict[ContentKey, _Found] = {}
        for entry in found:
            for key in entry.made.keys:
                first.setdefault(key, entry)
        missing = [key for key, there in zip(first, self.writer.has(first), strict=True) if not there]
        reasons: dict[ContentKey, str] = {}
        try:
            for job, made in self._results(work, [Job(first[key].item, key) for key in missing]):  # type: ignore[arg-type]  # items of images
                if made.reason:
                    reasons[job.key] = made.reason
                    continue
                self.counts.times.item(made.seconds)
                self.writer.records(made.records)
                self.counts.computed += not first[job.key].is_computed
                first[job.key].is_computed = True
        finally:
            for entry in found:
                entry.reason = next((reasons[key] for key in entry.made.keys if key in reasons), "")

    def _settle(self, found: list[_Found]) -> None:
        """Write the rows of the items whose records are all there, and the failures."""
        present = iter(self.writer.has([key for entry in found for key in entry.made.keys]))
        for entry in found:
            there = [next(present) for _ in entry.made.keys]
            if entry.reason or all(there):
                self.counts.computed -= entry.is_computed  # counted while it went on; `_keep` counts it as it ends
                self._keep(entry.item, entry.made, entry.reason, is_computed=entry.is_computed)
        self.report(self.counts)

    def _keep(self, item: Named, made: Made, reason: str, *, is_computed: bool) -> None:
        """Write what is known of an item, and count it."""
        by_itself = self.plan.compute is None
        rows, state = made.rows if by_itself or not reason else (), (item.size, item.mtime_ns)
        stale = [row for row in self._earlier[item.name] if rows or by_itself or (row.size, row.mtime_ns) != state]
        # The rows after the records: a row never names a record that is not there.
        self.writer.rows(rows, [row.row_key() for row in stale])
        if reason:
            self.counts.failed += 1
            log.info("failed: %s: %s", item.name, reason)
            self.writer.failure(Failure(item.name, reason, item.size, item.mtime_ns))
            return
        if by_itself:
            self.counts.times.item(made.seconds)
        self.counts.computed += is_computed
        self.counts.reused += not is_computed
