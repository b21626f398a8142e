"""Results under the key of their input: each distinct image of a source is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from augcache.building.batches import Made
from augcache.errors import RecipeError
from augcache.images.keys import ContentKey, content_key
from augcache.recipe import Record
from augcache.records import codec
from augcache.sources import Item
from augcache.storage.manifest import Source
from augcache.user_code import call


@dataclass(frozen=True)
class Job:
    """One distinct image to compute: of which item, and the key that its pixels must have."""

    item: Item
    key: ContentKey

    @property
    def name(self) -> str:
        """Name of the item."""
        return self.item.name


def look(item: Item, most: int) -> Made:
    """Worker: an item's row, and the keys of its pixels as seen, and as a plain loader reads them where they differ."""
    views = item.load(most)
    seen = content_key(views.seen)
    plain = seen if views.plain is views.seen else content_key(views.plain)
    row = Source(item.name, seen, item.size, item.mtime_ns, views.digest, views.label or item.label)
    return Made([row] if item.has_row else [], keys=[seen] if plain == seen else [seen, plain])


def compute_job(compute: Callable[[Any], Record], level: int, job: Job, most: int) -> Made:
    """Worker: the record of one image; its seconds are the transform's alone."""
    views = job.item.load(most)
    images = (views.seen,) if views.plain is views.seen else (views.seen, views.plain)
    image = next((image for image in images if content_key(image) == job.key), None)
    if image is None:
        return Made(reason="changed while the build ran; run the same command again")
    started = time.perf_counter()
    record = computed(compute, image)
    spent = time.perf_counter() - started
    return Made(records={job.key: codec.encode(record, level=level)}, seconds=spent)


def computed(compute: Callable[[Any], Record], image: np.ndarray) -> Record:
    """Call a transform, which may raise and give anything; raises `RecipeError`."""
    return call(RecipeError, "the transform gave what", _as_record, call(RecipeError, "the transform", compute, image))  # type: ignore[no-any-return]  # what `_as_record` gives


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
