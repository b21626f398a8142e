"""One walk over all records of a recipe: what there is to count, and which of them to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from augcache.errors import CorruptError
from augcache.images.keys import ContentKey
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.records import codec
from augcache.storage import entries
from augcache.storage.manifest import DECODED, Source
from augcache.storage.store import Store

DAMAGED = "damaged"


@dataclass
class Survey:
    """What a walk over a recipe's records found.

    Attributes
    ----------
    recipe : Recipe
        Whose records.
    total : int
        How many.
    statuses : dict of str to int
        How many of each status; "ok" where a transform gives none.
    areas, regions, sizes : list of float, int, int
        Share of the image that is salient, number of regions, bytes; of each record that has such.
    shown : dict of ContentKey to str
        The records to draw, with their status.
    """

    recipe: Recipe
    total: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    areas: list[float] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    shown: dict[ContentKey, str] = field(default_factory=dict)


def survey(
    store: Store, recipe: Recipe, count: int, counts: Progress, progress: Callable[[Progress], None] | None
) -> Survey:
    """Look at every record of a recipe, and choose at most `count` of them to draw."""
    found = Survey(recipe)
    keys: dict[str, list[ContentKey]] = {}
    index, malformed = entries.rows(store, recipe.digest)
    for key in malformed:
        _note(found, keys, ContentKey(key), DAMAGED)
    for piece in entries.batches(index):
        for key, data in entries.read(store, recipe.digest, piece):
            if data is not None:
                _note(found, keys, key, _look(found, data))
        # A content key is a hash: the smallest are as good as drawn at random, and the same on every run.
        keys = {status: sorted(some)[:count] for status, some in keys.items()}
        counts.computed += len(piece)
        if progress is not None:
            progress(counts)
    found.shown = _shared_out(keys, count)
    return found


def _note(found: Survey, keys: dict[str, list[ContentKey]], key: ContentKey, status: str) -> None:
    found.total += 1
    found.statuses[status] = found.statuses.get(status, 0) + 1
    keys.setdefault(status, []).append(key)


def _look(found: Survey, data: bytes | CorruptError) -> str:
    """Count one record, and return its status."""
    if isinstance(data, CorruptError):
        return DAMAGED
    try:
        record = codec.decode(data)
        status = str(record["status"]) if "status" in record else "ok"
        cut = record.get("cut")
        record.check()
    except CorruptError:
        return DAMAGED
    found.sizes.append(len(data))
    if cut is not None and cut.dtype == bool and cut.size:
        found.areas.append(float(cut.mean()))
    if "palette" in record and len(record.shape("palette")) == 2:
        found.regions.append(record.shape("palette")[0])
    return status


def _shared_out(keys: dict[str, list[ContentKey]], count: int) -> dict[ContentKey, str]:
    """Choose among the statuses: a quarter of the places for each rare one, the rest for the most frequent."""
    chosen: dict[ContentKey, str] = {}
    by_size = sorted(keys, key=lambda status: len(keys[status]))
    for number, status in enumerate(by_size):
        places = count - len(chosen) if number == len(by_size) - 1 else min(count // 4, count - len(chosen))
        chosen |= dict.fromkeys(keys[status][:places], status)
    return chosen


def names_of(store: Store, keys: set[ContentKey]) -> dict[ContentKey, Source]:
    """Find the first manifest row of each of some keys."""
    rows: dict[ContentKey, Source] = {}
    for prefix in (DECODED, *(recipe.digest for recipe in store.recipes())):
        for row in store.sources(prefix):
            if row.key in keys:
                rows.setdefault(row.key, row)
    return rows
