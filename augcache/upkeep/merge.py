"""merge(): the entries and manifests of several stores in one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from augcache.errors import CorruptError, StoreError
from augcache.images.keys import ContentKey
from augcache.paths import home_expanded
from augcache.progress import Progress
from augcache.storage import entries
from augcache.storage.environment import Transaction
from augcache.storage.manifest import DECODED, Failure, Source, row_key
from augcache.storage.open_store import open_store
from augcache.storage.runs import copy_runs
from augcache.storage.store import Store
from augcache.storage.tables import Databases, delete, parse_recipe, put_records

_ROWS = 4096  # manifest rows in one transaction
_ROW_BYTES = 320  # what a manifest or index row takes at most of a typical file's pages


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes
    ----------
    store : str
        Where it was merged into.
    copied, reused : int
        Entries that were added, and that were there already with the same value.
    corrupt : int
        Entries of the sources that are damaged, and were left out.
    sources, failures : int
        Manifest rows and failures that were added.
    clashes : int
        Names that stand for another image in a source than in the store, which keeps its own.
    seconds : float
        Wall time.
    """

    store: str
    copied: int
    reused: int
    corrupt: int
    sources: int
    failures: int
    clashes: int
    seconds: float


@dataclass(frozen=True)
class _Part:
    """What of one recipe of one source store is to be copied."""

    store: Store
    digest: bytes
    recipe: bytes  # its row in the recipes table
    rows: np.ndarray


def merge(
    destination: str | os.PathLike[str] | Store,
    sources: Sequence[str | os.PathLike[str] | Store],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Merged:
    """Copy what other stores hold into one store.

    Parameters
    ----------
    destination : path-like or Store
        Store to add to; made where there is none.
    sources : sequence of path-like or Store
        Stores to copy from; they are not changed. Each record's checksum is checked on the way, and nothing that they
        name is imported.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Merged

    Raises
    ------
    StoreError
        If two stores hold different values for one recipe and image (nothing is overwritten), if the disk is too
        small, or if a store cannot be opened or is being written.

    Notes
    -----
    Running it again after an interrupt copies what is missing.

    Examples
    --------
    >>> merged = merge("all.augcache", ["images.augcache", "films.augcache"])
    >>> merged.clashes, merged.corrupt
    (0, 0)
    """
    started = time.monotonic()
    if isinstance(sources, str | os.PathLike | Store):
        raise StoreError(f"{sources}: one source: give a list of stores")
    from_stores = [open_store(store) for store in sources]
    target = destination.path if isinstance(destination, Store) else home_expanded(destination)
    if any(os.path.realpath(store.path) == os.path.realpath(target) for store in from_stores):
        raise StoreError(f"{target}: cannot be merged into itself; leave it out of the sources")
    into = open_store(destination, "w")
    with into.exclusive():
        job = _Merge(into, Progress(sum(map(len, from_stores))), progress)
        parts = [part for store in from_stores for part in job.plan(store)]
        _check_space(into.path, parts, from_stores)
        for part in parts:
            job.copy(part)
        for store in from_stores:
            job.manifest(store)
        for store in from_stores:
            job.failures(store)
        job.settle()
        for store in from_stores:
            copy_runs(store, into)
    counts = job.counts
    return Merged(
        str(into.path), counts.computed, counts.reused, counts.failed, job.sources, job.failed, job.clashes,
        time.monotonic() - started,
    )  # fmt: skip  # counts in a row


@dataclass
class _Merge:
    into: Store
    counts: Progress  # computed: copied; reused: there already; failed: corrupt
    progress: Callable[[Progress], None] | None
    sources: int = 0
    failed: int = 0
    clashes: int = 0

    def plan(self, store: Store) -> Iterator[_Part]:
        """Find what one source has and the destination lacks, comparing what both have."""
        for digest, raw in store.scan(b"recipes"):
            parse_recipe(digest, raw)
            found, malformed = entries.rows(store, digest)
            self.counts.failed += len(malformed)
            fresh = [self.absent(store, digest, piece) for piece in entries.batches(found)]
            yield _Part(store, digest, raw, np.concatenate([found[:0], *fresh]))

    def absent(self, store: Store, digest: bytes, piece: np.ndarray) -> np.ndarray:
        """Return the rows that the destination has no entry for; raises where it has a different one."""
        present = np.array(self.into.has(digest, [ContentKey(key.tobytes()) for key in piece["key"]]), bool)
        both = piece[present]
        theirs, ours = entries.read(store, digest, both), entries.read(self.into, digest, both)
        for (key, their), (_, our) in zip(theirs, ours, strict=True):
            if not isinstance(their, bytes) or not entries.is_sound(their):
                self.counts.failed += 1
                continue
            if not isinstance(our, bytes) or not entries.is_sound(our):
                raise CorruptError(f"{self.into.path}: entry {key.hex()} is corrupt; merge into a new store instead")
            if not entries.same(their, our):
                raise StoreError(
                    f"{self.into.path} and {store.path} hold different values for entry {key.hex()} of recipe "
                    f"{digest.hex()[:8]}, and nothing was overwritten; find the wrong one with 'augcache verify "
                    "--recompute', and prune the recipe there"
                )
            self.counts.reused += 1
        self.report()
        absent: np.ndarray = piece[~present]
        return absent

    def copy(self, part: _Part) -> None:
        self.into.write(partial(_put_new, database=b"recipes", rows=[(part.digest, part.recipe)]))
        for piece in entries.batches(part.rows):
            records = {}
            # Another source may have brought some of them in the meantime.
            for key, data in entries.read(part.store, part.digest, self.absent(part.store, part.digest, piece)):
                if isinstance(data, bytes) and entries.is_sound(data):
                    records[key] = data
                else:
                    self.counts.failed += 1
            if records:
                self.into.write(partial(_put, digest=part.digest, records=records))
            self.counts.computed += len(records)
            self.report()

    def manifest(self, store: Store) -> None:
        digests = self.into.digests()
        for chunk in _chunks(store.scan(b"sources")):
            rows = [(key, value) for key, value in chunk if self.is_backed(key, value, digests)]
            new, clashes = self.into.write(partial(_put_new, database=b"sources", rows=rows))
            self.sources += new
            self.clashes += clashes

    def is_backed(self, key: bytes, value: bytes, digests: list[bytes]) -> bool:
        """Whether a row is sound and its entry is in the destination."""
        try:
            row = Source.from_bytes(value)
        except CorruptError:
            return False
        wanted = digests if key.startswith(DECODED) else [key[:16]]
        return row.row_key() == key[16:] and any(self.into.has(digest, [row.key])[0] for digest in wanted)

    def failures(self, store: Store) -> None:
        for chunk in _chunks(store.scan(b"failures")):
            rows = [(key, value) for key, value in chunk if self.is_open(key, value)]
            self.failed += self.into.write(partial(_put_new, database=b"failures", rows=rows))[0]

    def settle(self) -> None:
        """Drop the failures of sources that there is an entry for by now."""
        for chunk in _chunks(self.into.scan(b"failures")):
            settled = [key for key, value in chunk if not self.is_open(key, value)]
            self.into.write(partial(delete, database=b"failures", keys=settled))

    def is_open(self, key: bytes, value: bytes) -> bool:
        """Whether a failure is sound, and its source still has no entry."""
        try:
            failure = Failure.from_bytes(value)
        except CorruptError:
            return False
        digest = key[:16]
        rows = [self.into.source(failure.name, prefix=prefix) for prefix in (DECODED, digest)]
        there = any(row is not None and self.into.has(digest, [row.key])[0] for row in rows)
        return key[16:] == row_key(failure.name) and not there

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.counts)


def _chunks(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    chunk: list[tuple[bytes, bytes]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _put(transaction: Transaction, databases: Databases, *, digest: bytes, records: dict[ContentKey, bytes]) -> None:
    put_records(transaction, databases, digest, records, replace=False)


def _put_new(
    transaction: Transaction, databases: Databases, *, database: bytes, rows: list[tuple[bytes, bytes]]
) -> tuple[int, int]:
    """Add the rows whose key is not there; returns how many, and how many are there with another content key."""
    new = clashes = 0
    for key, value in rows:
        there = transaction.get(key, db=databases[database])
        if there is None:
            new += transaction.put(key, value, db=databases[database])
        elif database == b"sources":
            clashes += bytes(there[:16]) != value[:16]
    return new, clashes


def _check_space(path: Path, parts: list[_Part], stores: list[Store]) -> None:
    needed = sum(int(part.rows["length"].sum(dtype=np.int64)) + _ROW_BYTES * len(part.rows) for part in parts)
    needed += sum(_ROW_BYTES * store.info().sources for store in stores)
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise StoreError(
            f"{path}: the merge needs about {needed >> 20} MiB more, and the disk has {free >> 20} MiB free; free some "
            "and run the same command again"
        )
