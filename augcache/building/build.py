"""build(): every image of a source through a recipe into a store, in parallel, each distinct image once."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from augcache.building.batching import NO_MEMORY, Writer, check_paths, count_items, groups, open_store, tell_waiting
from augcache.building.build_report import Report
from augcache.building.workers import Crash, Large, Pool, large_or_reason, open_pool
from augcache.errors import AugcacheError, RecipeError, TooLargeError
from augcache.images.decode import MAX_PIXELS
from augcache.images.keys import ContentKey, content_key
from augcache.progress import Progress
from augcache.recipe import Recipe, Record
from augcache.records import codec
from augcache.sources import Item, sharded
from augcache.sources.stored import open_images
from augcache.storage.manifest import Failure, Source
from augcache.storage.runs import noted
from augcache.storage.store import Batch, Store
from augcache.user_code import call

log = logging.getLogger("augcache")

# Items looked at together. Duplicates inside a chunk are found before anything is computed; the larger it is, the
# less the wait for its last image weighs.
CHUNK_PER_WORKER = 64


def build(
    source: Any,
    recipe: Recipe,
    store: str | os.PathLike[str] | Store | None = None,
    *,
    workers: int | None = None,
    limit: int | None = None,
    level: int = 9,
    backend: str = "local",
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Compute a recipe's record for every distinct image of a source that the store has none for.

    Parameters
    ----------
    source : path-like or map-style dataset
        A folder of images, or its URL, such as ``s3://bucket/pv``; or an object with ``__len__`` and ``__getitem__``
        that gives images, or tuples that start with one.
    recipe : Recipe
        What to compute.
    store : path-like or Store, optional
        Default: ``$AUGCACHE_STORE``, else the folder's name with ``.augcache`` beside it.
    workers : int, optional
        Images at a time; default all cores of this machine, or of the cluster. 0 computes in this process.
    limit : int, optional
        Only the first so many images, in order of name.
    level : int
        zstd level of what is written, 0 (none) to 22; does not change the recipe.
    backend : {"local", "dask", "ray"}
        Where it computes: in processes of this machine, or on a cluster. This process alone writes.
    scheduler : str, optional
        Where the cluster is: ``tcp://host:8786`` for Dask; "auto" (the default), ``host:6379`` or
        ``ray://host:10001`` for Ray.
    shard : (int, int), optional
        ``(i, n)``, i from 1 to n: only the images of the i-th of n shares; see `augcache.sources.Sharded`.
    max_pixels : int
        An image of more is listed as a failure, before it is decoded.
    timeout : float, optional
        Seconds that one image may take in a worker, with what its transform compiles; one that takes longer is
        listed as a failure, and its worker is ended. Default: any time.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Report

    Raises
    ------
    SourceError
        If the source holds no images. An image that cannot be read is no error: it is listed as a failure.
    StoreError
        If the store cannot be opened or written. What was committed before stays.
    BackendError
        If the cluster does not answer, or goes away. What was committed before stays.

    Notes
    -----
    Running it again computes only what is missing. An interrupt keeps what is finished and is raised again.

    Examples
    --------
    >>> report = build("images", Recipe("saliencycut"))
    >>> report.total, report.failed
    (4, 0)
    """
    started = time.monotonic()
    items = sharded(open_images(source), shard)
    compute = recipe.bind()
    total = count_items(items, limit)
    counts = Progress(total)
    with open_pool(backend, scheduler, workers, timeout) as pool:
        check_paths(pool, items)
        store = open_store(source, store)  # nothing is made where the cluster does not answer
        with store.exclusive(), noted(store, recipe, pool.workers, counts, progress) as report:
            state = _Build(recipe, compute, store, pool, level, max_pixels, counts, report)
            # The last image of one chunk is waited for before the next starts; see CHUNK_PER_WORKER.
            remaining = itertools.islice(items, total)
            while chunk := list(itertools.islice(remaining, CHUNK_PER_WORKER * max(pool.workers, 1))):
                state.chunk(chunk)
    seconds = time.monotonic() - started
    return Report(
        total, counts.computed, counts.reused, counts.failed, seconds, str(store.path), recipe.digest.hex(),
        counts.times.split(seconds),
    )  # fmt: skip  # counts in a row


Hashes = tuple[ContentKey, ContentKey | None, bytes, str]


@dataclass(frozen=True)
class _Hashed:
    """An item's keys: of its pixels as seen, and of its pixels as a plain loader reads them where they differ."""

    item: Item
    seen: ContentKey
    plain: ContentKey | None
    digest: bytes
    label: str

    @property
    def keys(self) -> list[ContentKey]:
        return [self.seen] if self.plain is None else [self.seen, self.plain]


@dataclass(frozen=True)
class _Job:
    """One distinct image to compute: which pixels of which item, and the key they must have."""

    item: Item
    plain: bool
    key: ContentKey

    @property
    def name(self) -> str:
        return self.item.name


@dataclass
class _Build:
    recipe: Recipe
    compute: Callable[[Any], Record]
    store: Store
    pool: Pool
    level: int
    max_pixels: int
    counts: Progress
    report: Callable[[Progress], None]

    def chunk(self, items: list[Item]) -> None:
        """Bring one chunk of items into the store."""
        fresh = [item for item in items if not self._is_done(item)]
        self.counts.reused += len(items) - len(fresh)
        self._report()
        with self.counts.times.stage("read"):
            hashed = self._hash(fresh)
        jobs = self._jobs(hashed)
        reasons: dict[ContentKey, str] = {}
        try:
            for job, result in self._compute(jobs):
                if isinstance(result, str):
                    reasons[job.key] = result
        finally:
            # Also on the way out of an interrupt: what is finished gets its manifest rows.
            self._finish(hashed, {job.key for job in jobs}, reasons)

    def _is_done(self, item: Item) -> bool:
        """Whether the manifest knows this very state of the file, and the recipe has its entry."""
        if not item.mtime_ns:
            return False
        row = self.store.source(item.name)
        if row is None or (row.size, row.mtime_ns, row.label) != (item.size, item.mtime_ns, item.label):
            return False
        return self.store.has(self.recipe.digest, [row.key])[0]

    def _hash(self, items: list[Item]) -> list[_Hashed]:
        hashed, failures = [], []
        for group, results in self._run(hash_items, items):
            for item, result in zip(group, results, strict=True):
                if isinstance(result, Crash | str):
                    reason = result.reason if isinstance(result, Crash) else result
                    failures.append(Failure(item.name, reason, item.size, item.mtime_ns))
                else:
                    hashed.append(_Hashed(item, *result))
        self._fail(failures)
        hashed.sort(key=lambda entry: entry.item.name)  # the first name of an image is the same on every run
        return hashed

    def _run(self, function: Callable[..., list[Any]], jobs: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
        ordinary = min(self.pool.ordinary_pixels, self.max_pixels)
        return self.pool.run(
            partial(function, ordinary, self.max_pixels),
            groups(jobs, self.pool.workers),
            large=partial(function, self.max_pixels, self.max_pixels),
            watch=partial(tell_waiting, self.counts, self.report),
        )

    def _jobs(self, hashed: list[_Hashed]) -> list[_Job]:
        wanted: dict[ContentKey, _Job] = {}
        for entry in hashed:
            wanted.setdefault(entry.seen, _Job(entry.item, False, entry.seen))
            if entry.plain is not None:
                wanted.setdefault(entry.plain, _Job(entry.item, True, entry.plain))
        present = self.store.has(self.recipe.digest, wanted)
        return [job for job, there in zip(wanted.values(), present, strict=True) if not there]

    def _compute(self, jobs: list[_Job]) -> Iterator[tuple[_Job, bytes | str]]:
        """Compute, and commit as results come in; yields the encoded record, or the reason for having none."""
        function = partial(compute_jobs, self.compute, self.level)
        with Writer(self.store, self.recipe, self.counts.times) as writer:
            for group, results in self._run(function, jobs):
                for job, timed in zip(group, results, strict=True):
                    result, spent = (timed.reason, 0.0) if isinstance(timed, Crash) else timed
                    if isinstance(result, bytes):
                        self.counts.times.item(spent)
                        writer.record(job.key, result)
                    self.counts.computed += isinstance(result, bytes) and not job.plain
                    yield job, result
                self._report()
                writer.commit_if_due()

    def _finish(self, hashed: list[_Hashed], computed: set[ContentKey], reasons: dict[ContentKey, str]) -> None:
        batch = Batch()
        present = iter(self.store.has(self.recipe.digest, [key for entry in hashed for key in entry.keys]))
        failures, seen = [], set()
        for entry in hashed:
            there = [next(present) for _ in entry.keys]
            reason = next((reasons[key] for key in entry.keys if key in reasons), None)
            if reason is not None:
                failures.append(Failure(entry.item.name, reason, entry.item.size, entry.item.mtime_ns))
            elif all(there):
                item = entry.item
                if item.has_row:
                    row = Source(item.name, entry.seen, item.size, item.mtime_ns, entry.digest, entry.label)
                    batch.sources.append(row)
                # The first name of an image that was computed just now is counted as computed; the rest reuse it.
                self.counts.reused += entry.seen not in computed or entry.seen in seen
                seen.add(entry.seen)
        if batch:
            with self.counts.times.stage("write"):
                self.store.commit(self.recipe, batch)
        self._fail(failures)

    def _fail(self, failures: list[Failure]) -> None:
        if failures:
            self.counts.failed += len(failures)
            for failure in failures:
                log.info("failed: %s: %s", failure.name, failure.reason)
            self.store.commit(self.recipe, Batch(failures=failures))
        self._report()

    def _report(self) -> None:
        self.report(self.counts)


def hash_items(most: int, max_pixels: int, items: list[Item]) -> list[Hashes | Large | str]:
    """Worker: the keys, file digest and label of each item, or the reason why it cannot be read.

    An item of more than `most` pixels, and not of more than `max_pixels`, gives `Large`.
    """
    return [_hash_one(most, max_pixels, item) for item in items]


def _hash_one(most: int, max_pixels: int, item: Item) -> Hashes | Large | str:
    try:
        views = item.load(most)
        seen = content_key(views.seen)
        plain = None if views.plain is views.seen else content_key(views.plain)
        return seen, None if plain == seen else plain, views.digest, views.label or item.label
    except TooLargeError as error:
        return large_or_reason(error, max_pixels)
    except AugcacheError as error:
        return str(error)
    except MemoryError:
        return NO_MEMORY


def compute_jobs(
    compute: Callable[[Any], Record], level: int, most: int, max_pixels: int, jobs: list[_Job]
) -> list[tuple[bytes | str, float] | Large]:
    """Worker: the encoded record of each job, or the reason why there is none; and the transform's seconds."""
    return [_compute_one(compute, level, most, max_pixels, job) for job in jobs]


def _compute_one(
    compute: Callable[[Any], Record], level: int, most: int, max_pixels: int, job: _Job
) -> tuple[bytes | str, float] | Large:
    try:
        views = job.item.load(most)
        image = views.plain if job.plain else views.seen
        if content_key(image) != job.key:
            return "changed while the build ran; run the same command again", 0.0
        started = time.perf_counter()
        result = call(RecipeError, "the transform", compute, image)
        spent = time.perf_counter() - started
        record = call(RecipeError, "the transform gave what", _as_record, result)
        return codec.encode(record, level=level), spent
    except TooLargeError as error:
        found = large_or_reason(error, max_pixels)
        return found if isinstance(found, Large) else (found, 0.0)
    except AugcacheError as error:
        return str(error), 0.0
    except MemoryError:
        return NO_MEMORY, 0.0


def _as_record(result: Any) -> Record:
    """Take what a transform gave for a record; what is in it may be anything, and of any class."""
    if not isinstance(result, Mapping):
        raise RecipeError(f"the transform gave a {type(result).__name__}: give a dict of names and arrays")
    record = {}
    for name, value in result.items():
        array = np.asarray(value)
        if not isinstance(name, str) or not _is_text(name) or (array.dtype.kind == "U" and not _is_text(str(array))):
            raise RecipeError(f"the transform gave {ascii(name)[:100]}: names and texts must be strings in UTF-8")
        record[name] = array
    return record


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
