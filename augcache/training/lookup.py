"""From a content key to the image of a view: the path that every training sample takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from augcache.errors import MissError, RecipeError, StoreError
from augcache.images.decode import as_pixels
from augcache.images.keys import ContentKey, content_key
from augcache.recipe import Recipe, Record, is_installed
from augcache.records.codec import StoredRecord
from augcache.sources.dataset_items import image_key, value_at
from augcache.sources.stored import is_image
from augcache.storage.choose_recipe import choose
from augcache.storage.store import Store
from augcache.training.jitter import Jitter
from augcache.training.misses import Misses
from augcache.training.reused_memory import ReusedMemory
from augcache.training.views import NEEDS, check_view, fill_segments, index_map, render, segments, segments_image

ON_MISS = ("error", "original", "compute")


@dataclass(frozen=True)
class Lookup:
    """What to make of an image: which store, recipe and view, how often, in which colours, and what on a miss."""

    store: Store
    recipe: Recipe
    view: str
    p: float
    jitter: Jitter | None
    on_miss: str
    is_named: bool = False  # whether the recipe is the caller's, and not one that the store names
    reused: ReusedMemory = field(default_factory=ReusedMemory, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_view(self.view)
        if not 0 <= self.p <= 1:
            raise RecipeError(f"p={self.p}: give a chance from 0 to 1")
        if self.on_miss not in ON_MISS:
            raise RecipeError(f"on_miss={self.on_miss!r}: give one of {', '.join(ON_MISS)}")
        if self.on_miss == "compute" and not (self.is_named or is_installed(self.recipe.transform)):
            raise RecipeError(
                f"on_miss='compute' would run {self.recipe.transform}, which {self.store.path} names and which is no "
                f"installed transform; if you trust it, give recipe=Recipe({self.recipe.transform!r}, ...)"
            )

    def record(
        self, key: ContentKey, what: str, pixels: Callable[[], np.ndarray], misses: Misses | None = None
    ) -> StoredRecord | Record | None:
        """Return the record of an image, or None where it is to be left as it is.

        Parameters
        ----------
        key : ContentKey
            The image's.
        what : str
            Names the image in an error.
        pixels : callable
            Gives uint8 (H, W, 3); called only for a missing record.
        misses : Misses, optional
            Counts, and watches over images that come from outside.
        """
        record = self.store.get(self.recipe, key)
        if record is not None:
            if misses is not None:
                misses.hit()
            return record
        if misses is not None:
            array, error = NEEDS[self.view][0], self.on_miss == "error"
            misses.miss(self.store, self.recipe, array, pixels, error=error)
        if self.on_miss == "original":
            return None
        if self.on_miss == "compute":
            return self.recipe.bind()(pixels())
        raise MissError(
            f"{what} (key {key.hex()}) is not in {self.store.path} under {self.recipe.name} "
            f"{self.recipe.digest.hex()[:8]}: run the build again if the image is new or changed; look it up before "
            "any crop, resize or colour change; or set on_miss='original' or 'compute'"
        )

    def rendered(
        self,
        record: StoredRecord | Record,
        image: np.ndarray | None,
        uniform: Callable[[tuple[int, int]], np.ndarray],
        output: str = "array",
    ) -> Any:
        """Return the view, re-coloured with numbers from `uniform`.

        As `output` says: "array", uint8 (H, W, 3); "planes", uint8 (3, H, W), to be held whole, see `ReusedMemory`;
        "pil", a PIL image.
        """
        if self.view == "segments":
            labels, palette = index_map(record), record["palette"]
            if self.jitter is not None:
                palette = self.jitter(palette, uniform(self.jitter.draws(len(palette))))
            if output == "pil":
                return segments_image(labels, palette)
            if output == "planes":
                planes = self.reused.empty((3, *labels.shape))
                fill_segments(planes, labels, palette)
                return planes
            return segments(labels, palette)
        made = render(record, self.view, image=image, planar=output == "planes")
        return Image.fromarray(made) if output == "pil" else made


def choose_recipe(store: Store, view: str, recipe: Recipe | str | None) -> Recipe:
    """Return the one recipe of a store that a look-up means.

    Parameters
    ----------
    store : Store
        Where to look.
    view : str
        Which arrays the records must hold.
    recipe : Recipe or str, optional
        See `augcache.storage.choose_recipe.choose`.

    Raises
    ------
    StoreError
        If the store holds no such recipe, or none or several that fit.
    """
    check_view(view)
    chosen = choose(store, recipe, lambda each: gives(store, each, view), f"the view {view!r}")
    record = None if recipe is None else _any_record(store, chosen)
    if record is not None and not gives(store, chosen, view):
        raise StoreError(
            f"{store.path}: the view {view!r} needs {' and '.join(NEEDS[view])}, and records of {chosen.name} "
            f"{chosen.digest.hex()[:8]} hold {', '.join(record)}: choose another view or recipe"
        )
    return chosen


def gives(store: Store, recipe: Recipe, view: str) -> bool:
    """Whether a recipe's records hold what a view needs; the view "image" is a frame or copy itself."""
    record = _any_record(store, recipe)
    if record is None:
        return False
    return is_image(record) if view == "image" else all(name in record for name in NEEDS[view])


def _any_record(store: Store, recipe: Recipe) -> StoredRecord | None:
    key = next(store.keys(recipe), None)
    return None if key is None else store.get(recipe, key)


def key_of(dataset: Any, index: int, wanted: Any = None) -> ContentKey:
    """Content key of an item's image: by the dataset's ``key(index)`` where it has one, else by its pixels.

    See `augcache.sources.dataset_items.image_key` for which part of an item is its image.
    """
    if hasattr(dataset, "key"):
        return ContentKey(dataset.key(index))
    item = dataset[index]
    return content_key(as_pixels(value_at(item, image_key(item, wanted))))
