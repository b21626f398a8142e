"""resize(): copies of fixed size of every image of a source, keyed by their own pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from augcache.building.batching import check_paths, count_items, open_store
from augcache.building.build_report import Report
from augcache.building.ingest import Ingested, ingest
from augcache.building.workers import open_pool
from augcache.errors import RecipeError
from augcache.images.decode import MAX_PIXELS, Least
from augcache.images.keys import content_key
from augcache.progress import Progress
from augcache.recipe import Recipe, Record
from augcache.records import codec
from augcache.sources import Item, Masked, open_source, sharded
from augcache.storage.manifest import Source
from augcache.storage.store import Store
from augcache.transforms.resize import place, render, store_as


def resize(
    source: Any,
    recipe: Recipe,
    store: str | os.PathLike[str] | Store | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    limit: int | None = None,
    level: int = 9,
    backend: str = "local",
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Store a copy of fixed size of every image.

    Parameters
    ----------
    source : path-like, source or map-style dataset
        As for `build`.
    recipe : Recipe
        ``Recipe("resize", width=64, height=64, ...)``; see `augcache.transforms.resize`.
    store : path-like or Store, optional
        Default: ``$AUGCACHE_STORE``, else the source's name with ``.augcache`` beside it.
    max_pixels : int
        An image of more is listed as a failure.
    workers, limit, level, backend, scheduler, shard, timeout, progress
        As for `build`.

    Returns
    -------
    Report

    Raises
    ------
    SourceError, StoreError, BackendError
        As `build`.

    Notes
    -----
    A copy shows what a viewer shows: turned as the EXIF orientation asks, transparency over white, 16 bits scaled.
    It is stored under the hash of its own pixels, so a loader that reads copies and hashes them finds what was
    computed from them; with a mask, of image and mask, uint8 (H, W, 4). Large JPEGs are decoded at 1/2, 1/4 or 1/8
    by their own scaled decoding, then filtered.

    Examples
    --------
    >>> report = resize("images", Recipe("resize", width=32, height=24))
    >>> report.total, report.failed
    (4, 0)
    """
    images = open_source(source)
    items = sharded(images, shard)
    count_items(items, limit)  # before a store is made
    masks = recipe.params.get("masks")
    if bool(masks) != isinstance(images, Masked):
        raise RecipeError("a resize recipe has masks=True where the source has masks, and only there")
    if isinstance(images, Masked) and isinstance(masks, str):
        items = sharded(images.oriented(masks), shard)
    with open_pool(backend, scheduler, workers, timeout) as pool:
        check_paths(pool, items)  # before a store is made, as is the connection to the workers
        work = partial(copy_item, recipe, min(max_pixels, pool.ordinary_pixels), level=level)
        large = partial(copy_item, recipe, max_pixels, level=level)
        return ingest(
            items, recipe, open_store(source, store), work, pool, large=large, max_pixels=max_pixels, limit=limit,
            level=level, progress=progress,
        )  # fmt: skip  # what is passed on


def copy_item(recipe: Recipe, max_pixels: int, item: Item, *, level: int = 9) -> Ingested:
    """Worker: the copy of one item."""
    params = recipe.params
    into, fit = (params["width"], params["height"]), params["fit"]
    small = item.load_small(least(into, fit), max_pixels)
    image = small.image
    placement = place(*image.size, into, fit)
    copy = render(image.image, placement, into, image.region, reduced=image.reduced)
    record, pixels = store_as(copy, params["stored"])
    if small.mask is not None:
        record["mask"] = render(Image.fromarray(small.mask), placement, into)
        pixels = np.dstack([pixels, record["mask"]])
    key = content_key(pixels)
    row = Source(item.name, key, item.size, item.mtime_ns, small.digest, small.label or item.label)
    return Ingested([row], {key: _encode(record, level)})


def _encode(record: Record, level: int) -> bytes:
    """Compress a copy where that saves an eighth; photographs this small rarely do, and read faster as they are."""
    plain = codec.encode(record, level=0)
    packed = codec.encode(record, level=level)
    return packed if len(packed) < len(plain) * 7 / 8 else plain


def least(into: tuple[int, int], fit: str) -> Least:
    """Size of an image to the least size at which it may be decoded."""
    return lambda width, height: place(width, height, into, fit).least()
