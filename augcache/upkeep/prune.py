"""prune() and compact(): take a recipe out of a store, and give the disk back what is not used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from augcache.images.keys import ContentKey
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.storage import entries
from augcache.storage.choose_recipe import choose
from augcache.storage.environment import Transaction
from augcache.storage.manifest import DECODED, Source
from augcache.storage.open_store import open_to_change
from augcache.storage.store import Store
from augcache.storage.tables import SLAB_BYTES, Databases, delete, fetch, put_records, slab_sizes

_ROWS = 4096  # rows deleted in one transaction
_SLABS = 1024  # slabs deleted in one transaction


@dataclass(frozen=True)
class Pruned:
    """What was taken out of a store.

    Attributes
    ----------
    store, recipe : str
        Path of the store, and digest of the recipe as hex.
    entries, sources, failures : int
        Rows that were deleted.
    seconds : float
        Wall time.
    """

    store: str
    recipe: str
    entries: int
    sources: int
    failures: int
    seconds: float


@dataclass(frozen=True)
class Compacted:
    """What compacting won.

    Attributes
    ----------
    store : str
        Path of the store.
    before, after, won : int
        Bytes of its data file.
    rewritten : int
        Entries that were moved out of small or half-empty slabs.
    seconds : float
        Wall time.
    """

    store: str
    before: int
    after: int
    won: int
    rewritten: int
    seconds: float


def prune(
    store: str | os.PathLike[str] | Store,
    recipe: Recipe | str,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Pruned:
    """Delete a recipe's entries, failures and manifest rows.

    Parameters
    ----------
    store : path-like or Store
        Where.
    recipe : Recipe or str
        Which: the recipe, the name of its transform, or the start of its digest in hex.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Pruned

    Raises
    ------
    StoreError
        If no recipe, or more than one, is so called; or if the store is being written.

    Notes
    -----
    Manifest rows go with their last entry. The recipe itself goes last, so that an interrupted run can be finished
    by the same command. Later builds use the freed space; `compact` gives it back to the disk.

    Examples
    --------
    >>> prune("films.augcache", "frame").entries
    3
    """
    started = time.monotonic()
    opened = open_to_change(store)
    with opened.exclusive():
        digest = choose(opened, recipe, lambda _: True, "entries").digest
        others = [each for each in opened.digests() if each != digest]
        counts = Progress(len(opened))
        remove = partial(_remove, opened, counts, progress)
        sources = remove(b"sources", _unbacked(opened, others), _ROWS)
        sources += remove(b"sources", _keys(opened, b"sources", digest), _ROWS)
        failures = remove(b"failures", _keys(opened, b"failures", digest), _ROWS)
        slabs = list(_keys(opened, b"slabs", digest))  # before the index: a slab must not go before its rows
        count = remove(b"index", _keys(opened, b"index", digest), _ROWS)
        remove(b"slabs", iter(slabs), _SLABS)
        remove(b"recipes", iter([digest]), 1)
    return Pruned(str(opened.path), digest.hex(), count, sources, failures, time.monotonic() - started)


def _keys(store: Store, database: bytes, prefix: bytes) -> Iterator[bytes]:
    return (key for key, _ in store.scan(database, prefix, values=False))


def _unbacked(store: Store, digests: list[bytes]) -> Iterator[bytes]:
    """Keys of the manifest rows of decoded images that none of some recipes has an entry for."""
    for key, value in store.scan(b"sources", DECODED):
        image = Source.from_bytes(value).key
        if not any(store.has(digest, [image])[0] for digest in digests):
            yield key


def _remove(
    store: Store,
    counts: Progress,
    progress: Callable[[Progress], None] | None,
    database: bytes,
    keys: Iterator[bytes],
    many: int,
) -> int:
    total = 0
    for batch in iter(lambda: [key for _, key in zip(range(many), keys, strict=False)], []):
        store.write(partial(delete, database=database, keys=batch))
        total += len(batch)
        counts.computed += len(batch) if database == b"index" else 0
        if progress is not None:
            progress(counts)
    return total


def compact(store: str | os.PathLike[str] | Store, *, progress: Callable[[Progress], None] | None = None) -> Compacted:
    """Make a store's file as small as its entries allow.

    Parameters
    ----------
    store : path-like or Store
        Where.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Compacted

    Raises
    ------
    StoreError
        If the store is being written, or the disk has no room for the copy. The store is then as it was.

    Notes
    -----
    Entries of small and half-empty slabs move into full ones, a batch a transaction; then the file is copied without
    its free pages, and the copy is put in its place by one rename. Killed at any moment, the store is whole.
    Processes that have it open go on reading the old file, whose disk space is free once they are done.

    Examples
    --------
    >>> compacted = compact("films.augcache")
    >>> compacted.after <= compacted.before
    True
    """
    started = time.monotonic()
    opened = open_to_change(store)
    with opened.exclusive():
        before = (opened.path / "data.mdb").stat().st_size
        counts = Progress(len(opened))
        for digest in opened.digests():
            _rewrite(opened, digest, counts, progress)
        opened.replace_compacted()
        after = (opened.path / "data.mdb").stat().st_size
    return Compacted(str(opened.path), before, after, before - after, counts.computed, time.monotonic() - started)


def _rewrite(store: Store, digest: bytes, counts: Progress, progress: Callable[[Progress], None] | None) -> None:
    """Move the entries of wasteful slabs into full ones."""
    # Slabs first: one that is committed in between is then not taken for one without entries.
    sizes = store.read(partial(slab_sizes, digest=digest))
    found, _ = entries.rows(store, digest)
    numbers, places = np.unique(found["slab"], return_inverse=True)
    live = np.bincount(places, found["length"] + np.float64(16), len(numbers)).astype(np.int64)
    # Half of their size or of the usual one in use: half-dead, or from a build that committed often.
    whole = np.array([sizes.get(number, 0) for number in numbers.tolist()], np.int64)
    wasteful = numbers[live <= np.maximum(whole, SLAB_BYTES) // 2]
    unused = sorted(set(sizes) - set(numbers.tolist()))
    for batch in (unused[start : start + _SLABS] for start in range(0, len(unused), _SLABS)):
        store.write(partial(_move, digest=digest, keys=[], numbers=batch, store=store))
    is_moved = np.isin(found["slab"], wasteful)
    is_tight = len(wasteful) == 1 and live[numbers == wasteful[0]][0] >= sizes.get(int(wasteful[0]), 0)
    for piece in () if is_tight else _whole_slabs(found[is_moved]):
        keys = [ContentKey(key.tobytes()) for key in piece["key"]]
        slabs = np.unique(piece["slab"]).tolist()
        store.write(partial(_move, digest=digest, keys=keys, numbers=slabs, store=store))
        counts.computed += len(piece)
        if progress is not None:
            progress(counts)
    counts.reused += int(np.count_nonzero(~is_moved))


def _whole_slabs(found: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into pieces of whole slabs, each about `entries.BATCH_BYTES`."""
    ends = np.flatnonzero(np.diff(found["slab"], append=np.uint64(1 << 63))) + 1  # after the last row of each slab
    total = np.concatenate([[0], np.cumsum(found["length"], dtype=np.int64)])
    start = 0
    while start < len(found):
        wanted = int(np.searchsorted(total, total[start] + entries.BATCH_BYTES))
        stop = int(ends[min(int(np.searchsorted(ends, wanted)), len(ends) - 1)])
        yield found[start:stop]
        start = stop


def _move(
    transaction: Transaction,
    databases: Databases,
    *,
    digest: bytes,
    keys: list[ContentKey],
    numbers: list[int],
    store: Store,
) -> None:
    records = {key: fetch(transaction, databases, digest, key, store.path) for key in keys}
    put_records(
        transaction, databases, digest, {key: data for key, data in records.items() if data is not None}, replace=True
    )
    delete(transaction, databases, database=b"slabs", keys=[digest + n.to_bytes(8, "big") for n in numbers])
