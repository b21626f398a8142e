"""What every build shares: how many items, cut into which groups, committed how often."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any

from augcache.building.workers import Pool, Waiting
from augcache.errors import BackendError, SourceError
from augcache.images.keys import ContentKey
from augcache.progress import Progress, Times
from augcache.recipe import Recipe
from augcache.storage.manifest import DECODED, Failure, Source
from augcache.storage.store import Batch, Store
from augcache.storage.store_path import store_path

log = logging.getLogger("augcache")

# What a crash can cost at most: a batch is committed when either is reached.
COMMIT_BYTES = 1 << 22
COMMIT_SECONDS = 2.0

NO_MEMORY = "it needs more memory than there is"


def count_items(items: Sized, limit: int | None) -> int:
    """Count the items to work on; raises `SourceError` for none."""
    total = min(len(items), limit if limit is not None else len(items))
    if total <= 0:
        raise SourceError(f"{items!r}: no images to work on; give a folder that has some, and a limit above 0")
    return total


def check_paths(pool: Pool, items: Iterable[Any]) -> None:
    """Raise `BackendError` where workers elsewhere lack the first file; else every image would be a failure."""
    path = "" if pool.is_local else getattr(next(iter(items)), "path", "")
    if not path or not os.path.exists(path):
        return  # nothing to look for: no file, a URL, or one that is not here either
    [(_, there)] = pool.run(_exist, [[path]])
    if there != [True]:
        raise BackendError(
            f"{path}: is here, and not where the workers are; give a path on a file system that all of them share, or "
            "a URL"
        )


def _exist(paths: list[str]) -> list[bool]:
    return [os.path.exists(path) for path in paths]


def groups(jobs: list[Any], workers: int, largest: int = 16) -> Iterator[list[Any]]:
    """Cut jobs into groups: large ones first, to hide the cost of sending, and then ever smaller ones.

    The last are single jobs, so that at the end no worker waits for more than another's last job.
    """
    start = 0
    while start < len(jobs):
        size = max(1, min(largest, (len(jobs) - start) // (8 * max(workers, 1))))
        yield jobs[start : start + size]
        start += size


def tell_waiting(counts: Progress, report: Callable[[Progress], None], waiting: Waiting) -> None:
    """Report on which images the workers are, where no result comes; see `augcache.building.workers.SILENCE`."""
    counts.waiting = [(job.name, seconds) for job, seconds in waiting]
    try:
        report(counts)
    finally:
        counts.waiting = []


def open_store(source: Any, store: str | os.PathLike[str] | Store | None) -> Store:
    """Open the store to write, by default the one beside the source; raises `SourceError` for a source without path."""
    if isinstance(store, Store):
        return store
    if store is None and not isinstance(source, str | os.PathLike):
        raise SourceError("this source has no folder to put a store beside: give store=")
    return Store(store_path(source, store), "w")


class Writer:
    """Gathers what a run finishes, and commits it when enough has gathered, and at the end, however that comes."""

    def __init__(self, store: Store, recipe: Recipe, times: Times, prefix: bytes = DECODED) -> None:
        self.store, self.recipe, self.prefix, self.times = store, recipe, prefix, times
        self._renew()

    def _renew(self) -> None:
        self.batch, self._bytes, self._last = Batch(), 0, time.monotonic()

    def record(self, key: ContentKey, data: bytes) -> None:
        """Add an encoded record."""
        self.batch.records[key] = data
        self._bytes += len(data)

    def rows(self, sources: list[Source], stale: list[bytes]) -> None:
        """Add an item's manifest rows, all in one commit, and the keys of earlier rows that they replace."""
        self.batch.sources += sources
        self.batch.stale += stale

    def failure(self, failure: Failure) -> None:
        """Add a failure."""
        self.batch.failures.append(failure)

    def commit_if_due(self) -> None:
        """Commit where waiting longer could cost too much."""
        if self._bytes > COMMIT_BYTES or time.monotonic() - self._last > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Commit what has gathered."""
        batch = self.batch
        self._renew()
        if batch:
            with self.times.stage("write"):
                self.store.commit(self.recipe, batch, prefix=self.prefix)
            log.debug("committed %d records and %d rows", len(batch.records), len(batch.sources))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.commit()  # also on the way out of an interrupt: what is finished is kept
