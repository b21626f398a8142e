"""Images made of images, such as resized copies, under the keys of their own pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from augcache.building.batches import Made
from augcache.building.by_input import computed
from augcache.errors import RecipeError
from augcache.images.decode import Least, Reduced
from augcache.images.keys import content_key
from augcache.recipe import Recipe, Record
from augcache.records import codec
from augcache.sources import Item
from augcache.storage.manifest import Source


def copier(recipe: Recipe, level: int) -> Callable[[Item, int], Made]:
    """Return what a worker makes copies with; the transform is looked up here, and not for every item."""
    return partial(_copy_item, recipe.bind(), recipe.reduced, level)


def _copy_item(
    compute: Callable[[Any], Record],
    reduced: Callable[[Any], tuple[Record, np.ndarray]] | None,
    level: int,
    item: Item,
    most: int,
) -> Made:
    if reduced is None:
        views = item.load(most)
        record = computed(compute, views.seen)
        pixels, digest, label = _image_of(record), views.digest, views.label
    else:
        small: Any = None

        def load(least: Least) -> tuple[Reduced, np.ndarray | None]:
            nonlocal small
            small = item.load_small(least, most)
            return small.image, small.mask

        record, pixels = reduced(load)
        digest, label = small.digest, small.label
    key = content_key(pixels)
    row = Source(item.name, key, item.size, item.mtime_ns, digest, label or item.label)
    return Made([row], {key: _encode(record, level)})


def _image_of(record: Record) -> np.ndarray:
    image = record.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RecipeError("the transform is of kind image: it must give an 'image', uint8 (H, W, 3)")
    return image


def _encode(record: Record, level: int) -> bytes:
    """Compress a copy where that saves an eighth; photographs this small rarely do, and read faster as they are."""
    plain = codec.encode(record, level=0)
    packed = codec.encode(record, level=level)
    return packed if len(packed) < len(plain) * 7 / 8 else plain
