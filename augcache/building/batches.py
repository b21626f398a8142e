"""What goes to the workers, what comes back, and when it is committed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from augcache.building.workers import Large
from augcache.errors import AugcacheError, TooLargeError
from augcache.images.keys import ContentKey
from augcache.progress import Times
from augcache.recipe import Recipe
from augcache.storage.manifest import DECODED, Failure, Source
from augcache.storage.store import Batch, Store
from augcache.user_code import described

log = logging.getLogger("augcache")

# What a crash can cost at most: a batch is committed when either is reached.
COMMIT_BYTES = 1 << 22
COMMIT_SECONDS = 2.0


class Named(Protocol):
    """What the driver must know of an item; `augcache.sources.Item` is one."""

    @property
    def name(self) -> str:
        """What names it in its source, and in its rows."""

    @property
    def label(self) -> str:
        """Class name; empty where there is none, or where it is known only once the item is read."""

    @property
    def size(self) -> int:
        """Bytes of the file; 0 for no file."""

    @property
    def mtime_ns(self) -> int:
        """Modification time of the file; 0 for no file."""


@dataclass(frozen=True)
class Made:
    """What a worker makes of one item, or of one image of it.

    Attributes
    ----------
    rows : sequence of Source
        Complete manifest rows, all named as the item; one for an image, one a frame for a video.
    records : mapping
        Content key to encoded record.
    keys : sequence of ContentKey
        The images that must have a record before the rows are written, beside those in `records`.
    reason : str
        Why there is nothing, or not all: the item is listed as a failure, and tried again the next time.
    seconds : float
        What it took.
    """

    rows: Sequence[Source] = ()
    records: Mapping[ContentKey, bytes] = field(default_factory=dict)
    keys: Sequence[ContentKey] = ()
    reason: str = ""
    seconds: float = 0.0


Work = Callable[[Any, int], Made]
"""Worker: makes something of one item, of which no image may have more pixels than the second argument says."""


def work_on(work: Work, most: int, max_pixels: int, items: list[Any]) -> list[Made | Large]:
    """Worker: what is made of each item.

    An image of more than `most` pixels, and not of more than `max_pixels`, gives `Large`. An `AugcacheError` is the
    item's failure; anything else is a fault of our own, and is raised.
    """
    return [_work_on_one(work, most, max_pixels, item) for item in items]


def _work_on_one(work: Work, most: int, max_pixels: int, item: Any) -> Made | Large:
    started = time.perf_counter()
    try:
        made = work(item, most)
    except TooLargeError as error:
        if error.pixels <= max_pixels:
            return Large(error.pixels)
        return Made(reason=str(TooLargeError(error.width, error.height, max_pixels)))
    except AugcacheError as error:
        return Made(reason=str(error))
    except MemoryError:
        return Made(reason="it needs more memory than there is")
    except OSError as error:  # a disk that is full, a file that went away
        return Made(reason=described(error))
    return made if made.seconds else replace(made, seconds=time.perf_counter() - started)


def groups(jobs: list[Any], workers: int, largest: int = 16) -> Iterator[list[Any]]:
    """Cut jobs into groups: large ones first, to hide the cost of sending, and then ever smaller ones.

    The last are single jobs, so that at the end no worker waits for more than another's last job.
    """
    start = 0
    while start < len(jobs):
        size = max(1, min(largest, (len(jobs) - start) // (8 * max(workers, 1))))
        yield jobs[start : start + size]
        start += size


def exist(paths: list[str]) -> list[bool]:
    """Worker: whether each file is there."""
    return [os.path.exists(path) for path in paths]


class Writer:
    """Gathers what a run finishes, and commits it when enough has gathered, and at the end, however that comes."""

    def __init__(self, store: Store, recipe: Recipe, times: Times, prefix: bytes = DECODED) -> None:
        self.store, self.recipe, self.prefix, self.times = store, recipe, prefix, times
        self._renew()

    def _renew(self) -> None:
        self._batch, self._bytes, self._last = Batch(), 0, time.monotonic()

    def has(self, keys: Iterable[ContentKey]) -> list[bool]:
        """Tell for each key whether its record is there, or is about to be."""
        keys = list(keys)
        present = self.store.has(self.recipe.digest, keys)
        return [there or key in self._batch.records for key, there in zip(keys, present, strict=True)]

    def records(self, records: Mapping[ContentKey, bytes]) -> int:
        """Add the encoded records that are new; returns their number."""
        keys, new = list(records), 0
        for key, there in zip(keys, self.has(keys), strict=True):
            if not there:
                data = records[key]
                self._batch.records[key] = data
                self._bytes += len(data)
                self.commit_if_due()  # one item may have more records than memory should hold
                new += 1
        return new

    def rows(self, rows: Iterable[Source], stale: Iterable[bytes] = ()) -> None:
        """Add an item's manifest rows, all in one commit, and the keys of earlier rows that they replace."""
        self._batch.sources += rows
        self._batch.stale += stale

    def failure(self, failure: Failure) -> None:
        """Add a failure."""
        self._batch.failures.append(failure)

    def commit_if_due(self) -> None:
        """Commit where waiting longer could cost too much."""
        if self._bytes > COMMIT_BYTES or time.monotonic() - self._last > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Commit what has gathered."""
        batch = self._batch
        self._renew()
        if batch:
            with self.times.stage("write"):
                self.store.commit(self.recipe, batch, prefix=self.prefix)
            log.debug("committed %d records and %d rows", len(batch.records), len(batch.sources))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.commit()  # also on the way out of an interrupt: what is finished is kept
