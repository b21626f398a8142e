"""What stands behind a HashedSaliencyDataset: a folder or a store, whose images are listed, or another dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from augcache.errors import MissError, RecipeError, SourceError
from augcache.images.decode import decode_views
from augcache.images.keys import ContentKey, content_key
from augcache.sources import read_regular
from augcache.sources.dataset import is_map_style
from augcache.sources.dataset_items import image_key, label_key, replaced, value_at
from augcache.training.labels import of_dataset, of_items
from augcache.training.listing import Listing, from_folder, from_manifest
from augcache.training.lookup import key_of
from augcache.training.misses import Misses
from augcache.training.saliency_lookup import SaliencyLookup
from augcache.training.sample import Sample

Views = Callable[[Sample], Any]  # draws the image or images of an item
Change = Callable[[Any], Any]


class ListedImages:
    """The images of a folder, or of a store alone; an item is (image, target)."""

    def __init__(self, transform: SaliencyLookup, output: str, listing: Listing, folder: Path | None) -> None:
        self.lookup, self.output, self.listing, self.folder = transform.lookup, output, listing, folder
        self.classes: list[str] = listing.classes
        self.class_to_idx = {name: index for index, name in enumerate(listing.classes)}
        self.misses = Misses(transform.watch.counts, watched=False)

    @cached_property
    def targets(self) -> list[int]:
        """Class index of each image."""
        return self.listing.targets.tolist()  # type: ignore[no-any-return]  # ints

    @cached_property
    def samples(self) -> list[tuple[str, int]]:
        """Path in the folder, or name in the store, and class index of each image."""
        names = self.listing.names
        paths = names if self.folder is None else [os.path.join(self.folder, name) for name in names]
        return list(zip(paths, self.targets, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """All but the lists that can be made again: a spawned worker needs none of them."""
        return {name: value for name, value in self.__dict__.items() if name not in ("targets", "samples")}

    def __len__(self) -> int:
        return len(self.listing.names)

    def items(self, indices: list[int], views: Views, target: Change | None) -> Iterator[Any]:
        """Give items; where none needs its original, their records are read in one transaction."""
        keys = [self.listing.key(index) for index in indices]
        together = len(indices) > 1 and self.lookup.p == 1 and self.lookup.view != "cutout"
        known = [key for key in keys if key is not None and together]
        records = self.lookup.store.get_many(self.lookup.recipe, known) if known else []
        records.reverse()  # popped one by one, so that no more than one decoded index map is held
        for index, key in zip(indices, keys, strict=True):
            sample = Sample(
                self.lookup, self.output, self.listing.names[index], self._reader(index), key, misses=self.misses
            )
            record = records.pop() if together and key is not None else None
            if record is not None:
                sample.record = record
            number = int(self.listing.targets[index])
            yield views(sample), number if target is None else target(number)

    def name(self, index: int) -> str:
        """Path relative to the folder that was built."""
        return self.listing.names[index]

    def key(self, index: int) -> ContentKey:
        """Content key of an image; a known file is not read for it."""
        known = self.listing.key(index)
        return content_key(self._original(index)) if known is None else known

    def _reader(self, index: int) -> Callable[[], np.ndarray]:
        return lambda: self._original(index)

    def _original(self, index: int) -> np.ndarray:
        name = self.listing.names[index]
        if self.folder is None:
            raise SourceError(
                f"{name}: the original is asked for (p below 1, view 'cutout' or a miss), and a store holds none: "
                "give the folder as well"
            )
        path = self.folder / name
        try:
            return decode_views(read_regular(path))[0]
        except SourceError as error:
            raise SourceError(f"{path}: {error}") from error

    def __str__(self) -> str:
        return str(self.folder or self.lookup.store.path)


def of_store(transform: SaliencyLookup, output: str | None) -> ListedImages:
    """Give the images that a store lists, without a look at the sources."""
    return ListedImages(
        transform, output or "pil", from_manifest(transform.lookup.store, transform.lookup.recipe), None
    )


def of_folder(transform: SaliencyLookup, output: str | None, folder: Path, *, check: bool) -> ListedImages:
    """Give the images of a folder; `check` says whether it is compared with the store's manifest."""
    lookup = transform.lookup
    if lookup.p < 1:
        Image.init()  # once here and not in every worker of every epoch: it loads fifty modules
    listing = from_folder(folder, lookup.store, lookup.recipe) if check else from_manifest(lookup.store, lookup.recipe)
    return ListedImages(transform, output or "pil", listing, folder)


class WrappedImages:
    """The images of a map-style dataset; its items keep their shape, and all else that they hold."""

    listing = None

    def __init__(self, transform: SaliencyLookup, output: str | None, base: Any, keys: tuple[Any, Any]) -> None:
        check_map_style(base)
        if output in ("pil", "array", "tensor"):
            raise RecipeError(
                f"output={output!r} is for folders and stores; a wrapped dataset's images keep their type"
            )
        self.transform, self.output, self.base = transform, output, base
        self.image_key, self.label_key = keys
        self._joined: dict[
            str, Any
        ] = {}  # lists of a Subset's or ConcatDataset's items, each made when first asked for

    @property
    def classes(self) -> Any:
        """Those of the dataset; empty where it has none."""
        return of_dataset(self.base, "classes") or []

    @property
    def class_to_idx(self) -> Any:
        """That of the dataset, or made of its classes."""
        found = of_dataset(self.base, "class_to_idx")
        return {name: index for index, name in enumerate(self.classes)} if found is None else found

    @property
    def targets(self) -> Any:
        """Those of the dataset; empty where it has none."""
        return self._of_items("targets")

    @property
    def samples(self) -> Any:
        """Those of the dataset; empty where it has none."""
        return self._of_items("samples")

    def _of_items(self, name: str) -> Any:
        if not isinstance(self.base, Subset | ConcatDataset):
            found = of_items(self.base, name)
            return [] if found is None else found
        if name not in self._joined:
            self._joined[name] = of_items(self.base, name) or []
        return self._joined[name]

    def __getstate__(self) -> dict[str, Any]:
        """All but the lists that can be made again."""
        return {**self.__dict__, "_joined": {}}

    def __len__(self) -> int:
        return len(self.base)

    def items(self, indices: list[int], views: Views, target: Change | None) -> Iterator[Any]:
        """Give items as the dataset does, with their images replaced and their labels changed."""
        for index in indices:
            item = self.base[index]
            try:
                key = image_key(item, self.image_key)
                image = views(self.transform.sample(value_at(item, key), self.output))
                changed = replaced(item, key, image)
                yield changed if target is None else self._with_target(item, changed, target)
            except (MissError, SourceError) as error:
                raise type(error)(f"item {index}: {error}") from error

    def _with_target(self, item: Any, changed: Any, target: Change) -> Any:
        label = label_key(item, self.label_key)
        if label is None:
            raise SourceError("target_transform= changes a label, and it has none; name a dict's label with label_key=")
        return replaced(changed, label, target(item[label]))

    def key(self, index: int) -> ContentKey:
        """Content key of an item's image."""
        return key_of(self.base, index, self.image_key)

    def __str__(self) -> str:
        return type(self.base).__name__


def check_map_style(base: Any) -> None:
    """Raise `SourceError` where a dataset has no items by index."""
    if not is_map_style(base):
        raise SourceError(
            f"a {type(base).__name__} has no items by index: give a dataset with __len__ and __getitem__, or look up "
            "inside it, with a SaliencyLookup"
        )
