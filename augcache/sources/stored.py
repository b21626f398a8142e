"""The images that a store holds, video frames and resized copies, as a source for a further build."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from augcache.errors import SourceError
from augcache.images.decode import MAX_PIXELS
from augcache.images.keys import ContentKey
from augcache.recipe import Recipe
from augcache.sources import Images, Item, Views, open_source
from augcache.sources.items import check_size
from augcache.storage.choose_recipe import choose
from augcache.storage.manifest import Source
from augcache.storage.store import Store


@dataclass(frozen=True, slots=True)
class StoredItem(Item):
    """An image in a store."""

    # Its row stands in the manifest already, under the recipe that made it.
    has_row: ClassVar[bool] = False

    store: str = ""
    recipe: Recipe | None = None
    key: bytes = b""

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:
        """Read the image from its store."""
        from augcache.transforms.resize import pixels  # cv2, and only workers come here

        assert self.recipe is not None  # every field is given
        record = Store(self.store).get(self.recipe, ContentKey(self.key))
        if record is None:
            raise SourceError("its record is no longer in the store")
        image = pixels(record)
        check_size(image, max_pixels)
        return Views(image, image, bytes(16))


class StoredImages(Images):
    """Frames or resized copies of a store, in manifest order.

    Parameters
    ----------
    store : path-like
        The store.
    recipe : Recipe or str, optional
        Which of its images, where it holds several kinds.

    Raises
    ------
    StoreError
        If it holds none, or several kinds.
    """

    def __init__(self, store: str | os.PathLike[str], recipe: Recipe | str | None = None) -> None:
        self.store = Store(store)
        self.recipe = choose(self.store, recipe, lambda each: lists_images(self.store, each), "frames or copies")
        self._count = sum(1 for _ in self.store.sources(self.recipe.digest))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[StoredItem]:
        for row in self.store.sources(self.recipe.digest):
            name = row.name if row.frame is None else f"{row.name}#{row.frame}"
            yield StoredItem(name, row.label, store=os.path.abspath(self.store.path), recipe=self.recipe, key=row.key)

    def __repr__(self) -> str:
        return f"StoredImages({str(self.store.path)!r}, {self._count} images)"


def is_image(record: Mapping[str, np.ndarray]) -> bool:
    """Whether a record is of a frame or copy, of which `augcache.transforms.resize.pixels` makes the image."""
    return "image" in record or "encoded" in record


def lists_images(store: Store, recipe: Recipe) -> bool:
    """Whether the manifest lists frames or copies under a recipe."""
    row: Source | None = next(store.sources(recipe.digest), None)
    record = None if row is None else store.get(recipe, row.key)
    return record is not None and is_image(record)


def is_store(path: Any) -> bool:
    """Whether a path is of a store."""
    return isinstance(path, str | os.PathLike) and os.path.isfile(os.path.join(path, "data.mdb"))


def open_images(source: Any, **options: Any) -> Images:
    """Open a source as `augcache.sources.open_source` does, or the images that a store holds."""
    if is_store(source):
        if any(options.values()):
            raise SourceError(f"{source}: a store takes no options of a source; leave them out")
        return StoredImages(source)
    return open_source(source, **options)
