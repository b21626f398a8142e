"""Each run of a build, noted in the store that it adds to: when, where, how long, with which versions."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from augcache.errors import AugcacheError, CorruptError
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.storage.environment import Transaction
from augcache.storage.manifest import seal, unseal
from augcache.storage.progress_note import FILE, announce, counts_of, is_number
from augcache.storage.store import Store
from augcache.storage.tables import Databases, provenance

log = logging.getLogger("augcache")

_ROW = b"run"  # a row of the table "meta": this, the time of the start, the recipe's digest
MOST_ROWS = 1000  # of half a kilobyte; the oldest make room, so that a build each hour grows no store for ever
_SECONDS = 1.0  # between two writes of the file


@dataclass(frozen=True)
class Run:
    """One run of a build.

    Attributes
    ----------
    recipe : str
        Digest of the recipe, as hex.
    started : int
        Nanoseconds since 1970.
    ended : str
        "done", "interrupted" or "error".
    seconds : float
        Wall time.
    total, computed, reused, failed : int
        As in `Report`.
    workers : int
        Processes.
    host : str
        Name of the machine.
    times : dict of str to float
        As in `Report`.
    pace : list of (int, int)
        How many items took how long in their worker: pairs of a bin (`augcache.progress.pace_bin`) and a count.
    versions : dict of str to str
        Of Python and of the packages that decide pixels and results.
    """

    recipe: str
    started: int
    ended: str
    seconds: float
    total: int
    computed: int
    reused: int
    failed: int
    workers: int
    host: str
    times: dict[str, float]
    pace: list[tuple[int, int]]
    versions: dict[str, str]


@contextlib.contextmanager
def noted(
    store: Store, recipe: Recipe, workers: int, counts: Progress, progress: Callable[[Progress], None] | None
) -> Iterator[Callable[[Progress], None]]:
    """Note a run: while it goes on in a file beside the store's data, and at its end, however that comes, in the store.

    Yields the callback to report progress to; it passes on to `progress`.
    """
    started, clock, ended = time.time_ns(), time.monotonic(), "error"
    versions = {name: str(value) for name, value in provenance().items() if name != "created"}
    fixed: dict[str, Any] = {"recipe": recipe.name, "digest": recipe.digest.hex(), "host": platform.node()}
    written = -_SECONDS

    def report(now: Progress) -> None:
        nonlocal written
        seconds = time.monotonic() - clock
        if seconds - written >= _SECONDS:
            written = seconds
            announce(store.path, {**fixed, "pid": os.getpid(), "seconds": round(seconds, 1), **counts_of(now)})
        if progress is not None:
            progress(now)

    log.info("%s: %s, recipe %s, %d workers", store.path, recipe.name, recipe.digest.hex()[:8], workers)
    try:
        yield report
        ended = "done"
    except KeyboardInterrupt:
        ended = "interrupted"
        raise
    finally:
        seconds = time.monotonic() - clock
        with contextlib.suppress(OSError):
            (store.path / FILE).unlink()
        if counts.computed:
            run = Run(
                fixed["digest"], started, ended, round(seconds, 3), **counts_of(counts), workers=workers,
                host=fixed["host"], times=counts.times.split(seconds), pace=sorted(counts.times.pace.items()),
                versions=versions,
            )  # fmt: skip  # a row
            with contextlib.suppress(AugcacheError):  # a full disk: the build's own error is the one to show
                _add(store, recipe, run)
        log.info("%s: %s after %.1f s: %s", store.path, ended, seconds, counts_of(counts))


def _add(store: Store, recipe: Recipe, run: Run) -> None:
    _put(store, {_ROW + run.started.to_bytes(8, "big") + recipe.digest: seal(json.dumps(asdict(run)).encode())})


def copy_runs(source: Store, into: Store) -> None:
    """Add the notes of one store to those of another."""
    _put(into, {key: row for key, row in source.scan(b"meta", _ROW) if parse_run(row) is not None})


def _put(store: Store, rows: dict[bytes, bytes]) -> None:
    keys = sorted({*rows, *(key for key, _ in store.scan(b"meta", _ROW, values=False))})
    old = keys[:-MOST_ROWS]  # they start with their time

    def work(transaction: Transaction, databases: Databases) -> None:
        for key, row in rows.items():
            transaction.put(key, row, db=databases[b"meta"])
        for key in old:
            transaction.delete(key, db=databases[b"meta"])

    store.write(work)


def runs(store: Store, recipe: Recipe | None = None) -> list[Run]:
    """Return the runs that added to a store, oldest first.

    Parameters
    ----------
    store : Store
        Where.
    recipe : Recipe, optional
        Only this one's.

    Raises
    ------
    CorruptError
        If a row is malformed.
    """
    found = [parse_run(row) for key, row in run_rows(store) if recipe is None or key.endswith(recipe.digest)]
    if None in found:
        raise CorruptError(f"{store.path}: the note of a run is malformed; see 'augcache verify {store.path}'")
    return [run for run in found if run is not None]


def run_rows(store: Store) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the notes, as they are stored."""
    return store.scan(b"meta", _ROW)


def parse_run(row: bytes) -> Run | None:
    """Read a note; None where it is malformed."""
    try:
        raw = json.loads(unseal(row))
        pace = [(int(number), int(count)) for number, count in raw.pop("pace")]
        run = Run(**raw, pace=pace)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    numbers = (run.started, run.seconds, run.total, run.computed, run.reused, run.failed, run.workers)
    tables = isinstance(run.times, dict) and isinstance(run.versions, dict)
    # Bounded, since a stranger's store may say anything: a century in nanoseconds, and no more than that of anything.
    sound = tables and all(map(is_number, (*numbers, *run.times.values())))
    return run if sound and all(abs(number) < 200 and 0 < count < 1 << 40 for number, count in pace) else None
