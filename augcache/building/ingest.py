"""ingest(): items whose results are keyed by their own pixels, such as resized copies and video frames."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from augcache.building.batching import NO_MEMORY, Writer, count_items, groups, tell_waiting
from augcache.building.build_report import Report
from augcache.building.spool import Spool
from augcache.building.workers import Crash, Large, Pool, large_or_reason
from augcache.errors import AugcacheError, TooLargeError
from augcache.images.keys import ContentKey
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.records import codec
from augcache.storage.manifest import Failure, Source, row_key
from augcache.storage.runs import noted
from augcache.storage.store import Store
from augcache.user_code import described

log = logging.getLogger("augcache")

# Items handed out before the last of them is waited for.
CHUNK_PER_WORKER = 512


class Named(Protocol):
    """What `ingest` must know of an item; `augcache.sources.Item` is one."""

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


class Items(Protocol):
    """A source: a length, and items in an order that is the same on every run."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Ingested:
    """What a worker makes of one item.

    Attributes
    ----------
    rows : list of Source
        Complete manifest rows, all named as the item; one for an image, one a frame for a video.
    records : dict
        Content key to the record, encoded or not, of every key in `rows`.
    reason : str
        Why there are none, or not all: what is beside it is kept, and the item is tried again the next time.
    seconds : float
        What it took; measured by `work_on`.
    """

    rows: list[Source] = field(default_factory=list)
    records: Mapping[ContentKey, bytes | Mapping[str, np.ndarray]] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


def ingest(
    items: Items,
    recipe: Recipe,
    store: str | os.PathLike[str] | Store,
    work: Callable[[Any], Ingested],
    pool: Pool,
    *,
    large: Callable[[Any], Ingested] | None = None,
    max_pixels: int = 0,
    limit: int | None = None,
    level: int = 9,
    group: int = 16,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Work on every item that the store does not have as it now is, and store what comes of it.

    Parameters
    ----------
    items : sized iterable of `Named`
        The source, such as `augcache.sources.Folder`.
    recipe : Recipe
        Names the results; manifest rows go under ``prefix=recipe.digest``.
    store : path-like or Store
        Made where there is none.
    work : callable
        Item to `Ingested`, in a worker process; must pickle. An `AugcacheError` that it raises becomes the item's
        failure; anything else is a fault of our own, and is raised.
    pool : Pool
        The workers; opened before the store is, so that nothing is made where a cluster does not answer.
    large : callable, optional
        As `work`, for items for which that raises `TooLargeError`; see `Pool.run`.
    max_pixels : int
        Those of more are failures.
    limit : int, optional
        Only the first so many items.
    level : int
        zstd level of records that `work` has not encoded.
    group : int
        Most items that travel together; 1 for items that take seconds, such as videos.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Report
        An item that added an entry is "computed"; one whose entries were all there is "reused".

    Raises
    ------
    SourceError
        If there are no items.
    StoreError
        If the store cannot be opened or written. What was committed before stays.

    Notes
    -----
    An item is passed over when the manifest has rows of its name with the same size, mtime and label, and the store
    has their entries. All rows of an item are committed at once, and replace its earlier ones; the rows of an item
    that failed are removed. An interrupt keeps what is finished and is raised again.
    """
    started = time.monotonic()
    total = count_items(items, limit)
    store = store if isinstance(store, Store) else Store(store, "w")
    counts = Progress(total)
    function = partial(work_on, work, level, max_pixels)
    large_function = partial(work_on, large or work, level, 0)
    with (
        store.exclusive(),
        noted(store, recipe, pool.workers, counts, progress) as report,
        Writer(store, recipe, counts.times, recipe.digest) as writer,
    ):
        state = _Ingest(recipe, store, function, large_function, pool, group, counts, report)
        remaining = itertools.islice(items, total)
        while chunk := list(itertools.islice(remaining, CHUNK_PER_WORKER * max(pool.workers, 1))):
            state.chunk(chunk, writer)
    seconds = time.monotonic() - started
    return Report(
        total, counts.computed, counts.reused, counts.failed, seconds, str(store.path), recipe.digest.hex(),
        counts.times.split(seconds),
    )  # fmt: skip  # counts in a row


@dataclass
class _Ingest:
    recipe: Recipe
    store: Store
    function: Callable[[list[Any]], list[Ingested | Large]]
    large: Callable[[list[Any]], list[Ingested | Large]]
    pool: Pool
    group: int
    counts: Progress
    report: Callable[[Progress], None]

    def chunk(self, items: list[Named], writer: Writer) -> None:
        earlier = {item.name: self._rows(item) for item in items}
        fresh = [item for item in items if not self._is_done(item, earlier[item.name])]
        self.counts.reused += len(items) - len(fresh)
        self.report(self.counts)
        outcomes = self.pool.run(
            self.function,
            groups(fresh, self.pool.workers, self.group),
            large=self.large,
            watch=partial(tell_waiting, self.counts, self.report),
        )
        for group, results in outcomes:
            for item, result in zip(group, results, strict=True):
                done = Ingested(reason=result.reason) if isinstance(result, Crash) else result
                self._keep(item, done, earlier[item.name], writer)
            writer.commit_if_due()
            self.report(self.counts)

    def _rows(self, item: Named) -> list[Source]:
        prefix = self.recipe.digest
        row = self.store.source(item.name, prefix=prefix)
        frames = self.store.sources(prefix + row_key(item.name) + b"\0") if row is None else ()
        return [*frames] if row is None else [row]

    def _is_done(self, item: Named, rows: list[Source]) -> bool:
        if not rows or not item.mtime_ns:
            return False
        if self.store.failure(self.recipe, item.name) is not None:
            return False  # only a part of it is there
        state = (item.size, item.mtime_ns, item.label)
        if any((row.size, row.mtime_ns, row.label) != state for row in rows):
            return False
        return all(self.store.has(self.recipe.digest, [row.key for row in rows]))

    def _keep(self, item: Named, result: Ingested, earlier: list[Source], writer: Writer) -> None:
        present = self.store.has(self.recipe.digest, result.records)
        new = 0
        for key, there in zip(list(result.records), present, strict=True):
            if not there and key not in writer.batch.records:
                data = result.records[key]
                assert isinstance(data, bytes)  # encoded in the worker
                writer.record(key, data)
                writer.commit_if_due()  # one item may have more records than memory should hold
                new += 1
        if isinstance(result.records, Spool):
            result.records.discard()
        # The rows after the records: a row never names a record that is not there.
        writer.rows(result.rows, [row.row_key() for row in earlier])
        if result.reason:
            self.counts.failed += 1
            log.info("failed: %s: %s", item.name, result.reason)
            writer.failure(Failure(item.name, result.reason, item.size, item.mtime_ns))
            return
        self.counts.times.item(result.seconds)
        self.counts.computed += new > 0
        self.counts.reused += new == 0


def work_on(
    work: Callable[[Any], Ingested], level: int, max_pixels: int, items: Iterable[Any]
) -> list[Ingested | Large]:
    """Worker: the result of each item, with its records encoded; `Large` for one of not more than `max_pixels`."""
    return [_timed(work, level, max_pixels, item) for item in items]


def _timed(work: Callable[[Any], Ingested], level: int, max_pixels: int, item: Any) -> Ingested | Large:
    started = time.perf_counter()
    result = _work_on_one(work, level, max_pixels, item)
    return result if isinstance(result, Large) else replace(result, seconds=time.perf_counter() - started)


def _work_on_one(work: Callable[[Any], Ingested], level: int, max_pixels: int, item: Any) -> Ingested | Large:
    try:
        result = work(item)
        if isinstance(result.records, Spool):
            return result
        records = {
            key: record if isinstance(record, bytes) else codec.encode(record, level=level)
            for key, record in result.records.items()
        }
        return Ingested(result.rows, records, result.reason)
    except TooLargeError as error:
        found = large_or_reason(error, max_pixels)
        return found if isinstance(found, Large) else Ingested(reason=found)
    except AugcacheError as error:
        return Ingested(reason=str(error))
    except MemoryError:
        return Ingested(reason=NO_MEMORY)
    except OSError as error:  # a disk that is full, a file that went away
        return Ingested(reason=described(error))
