"""CachedImages: the resized copies of a store as a torch dataset. Imports torch, as `dataset` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from augcache.errors import CorruptError, RecipeError, SourceError
from augcache.images.keys import KEY_BYTES, ContentKey
from augcache.recipe import Recipe
from augcache.sources.stored import lists_images
from augcache.storage.choose_recipe import choose
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.training.apply import applied, check_transform_form
from augcache.training.indices import checked_index
from augcache.training.output_forms import OUTPUTS, as_output
from augcache.transforms.resize import pixels

TARGETS = ("label", "mask", "both")


class CachedImages(Dataset[Any]):
    """Images, masks and labels of resized copies, from the store alone, in manifest order.

    Parameters
    ----------
    store : path-like or Store
        A store that `augcache resize` made.
    recipe : Recipe or str, optional
        Which copies, where the store holds several: the recipe, its name ("resize"), or the start of its digest.
    transform : callable, optional
        Applied to each image; one of Albumentations needs ``output="array"``.
    output : {"pil", "array", "tensor"}
        Type of an image: PIL image, uint8 (H, W, 3) array or uint8 (3, H, W) tensor. A mask is then a PIL image of
        mode L, a uint8 (H, W) array or a uint8 (H, W) tensor.
    target : {"label", "mask", "both"}
        Items are ``(image, label)``, ``(image, mask)`` or ``(image, (label, mask))``.

    Attributes
    ----------
    classes : list of str
        Sorted class names; numbers in the order of their values where they came from a dataset of no files.
    class_to_idx : dict of str to int
        Index of each class name.
    targets, samples : list of int, of (str, int)
        Class index of each item; its name and class index. Made once, when first asked for.

    Raises
    ------
    StoreError
        If there is no such store or recipe.
    SourceError
        If masks are asked for and the copies have none.

    Notes
    -----
    Pickles as the store's path and the list of keys; safe with fork and spawn workers, and while another process
    writes to the store. A DataLoader gets a batch in one read transaction.

    Examples
    --------
    >>> image, label = CachedImages("images.augcache")[0]
    >>> image.size, label
    ((16, 16), 0)
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Store,
        recipe: Recipe | str | None = None,
        transform: Callable[[Any], Any] | None = None,
        *,
        output: str = "pil",
        target: str = "label",
    ) -> None:
        for name, value, choices in (("output", output, OUTPUTS), ("target", target, TARGETS)):
            if value not in choices:
                raise RecipeError(f"{name}={value!r}: give one of {', '.join(choices)}")
        check_transform_form(transform, output)
        self.store = opened = open_store(store)
        self.recipe = choose(opened, recipe, lambda each: lists_images(opened, each), "resized copies")
        self.transform, self.output, self.target = transform, output, target
        keys, labels, self.classes = _read_manifest(opened, self.recipe)
        # Two flat arrays: a list of millions of objects would be copied page by page into every forked worker.
        self._keys = np.frombuffer(keys, np.dtype((np.void, KEY_BYTES)))
        self._labels = labels
        if target != "label" and "mask" not in self._record(0):
            raise SourceError(
                f"{opened.path}: these copies have no masks; make them with 'augcache resize --masks DIR'"
            )

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Index of each class name."""
        return {name: index for index, name in enumerate(self.classes)}

    @cached_property
    def targets(self) -> list[int]:
        """Class index of each item."""
        return self._labels.tolist()  # type: ignore[no-any-return]  # ints

    @cached_property
    def samples(self) -> list[tuple[str, int]]:
        """Source name and class index of each item."""
        return list(zip(self.names, self.targets, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """All but the lists that can be made again: a spawned worker needs none of them."""
        return {name: value for name, value in self.__dict__.items() if name not in ("targets", "samples")}

    @property
    def names(self) -> list[str]:
        """Source name of each item: a path relative to the folder that was resized."""
        return [row.name for row in self.store.sources(self.recipe.digest)]

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._item(index, self._record(index))

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        """Give a batch, as a DataLoader asks for it; its records are read in one transaction."""
        keys = [self.key(index) for index in indices]
        records = self.store.get_many(self.recipe, keys)
        return [self._item(index, self._found(record, index)) for index, record in zip(indices, records, strict=True)]

    def key(self, index: int) -> ContentKey:
        """Content key of an item's image, under which whatever is computed from it is found."""
        return ContentKey(self._keys[checked_index(index, len(self))].tobytes())

    def _record(self, index: int) -> Mapping[str, np.ndarray]:
        return self._found(self.store.get(self.recipe, self.key(index)), index)

    def _found(self, record: Mapping[str, np.ndarray] | None, index: int) -> Mapping[str, np.ndarray]:
        if record is None:
            raise CorruptError(
                f"{self.store.path}: item {index} (key {self.key(index).hex()}) has a manifest row and no record; "
                "was its recipe pruned? Run 'augcache resize' again"
            )
        return record

    def _item(self, index: int, record: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        image: Any = as_output(pixels(record), self.output)
        if self.transform is not None:
            image = applied(self.transform, image)
        label = int(self._labels[index])
        if self.target == "label":
            return image, label
        mask = as_output(record["mask"], self.output)
        return image, mask if self.target == "mask" else (label, mask)

    def __repr__(self) -> str:
        return f"CachedImages({str(self.store.path)!r}, {len(self)} images of {len(self.classes)} classes)"


def _read_manifest(store: Store, recipe: Recipe) -> tuple[bytearray, np.ndarray, list[str]]:
    """Keys one after the other, the class index of each, and the class names."""
    keys, numbers, seen, of_files = bytearray(), [], dict[str, int](), False
    for row in store.sources(recipe.digest):
        keys += row.key
        numbers.append(seen.setdefault(row.label, len(seen)))
        of_files = of_files or row.mtime_ns != 0
    if not keys:
        raise SourceError(f"{store.path}: recipe {recipe.digest.hex()[:8]} has no copies; run 'augcache resize'")
    counted = not of_files and all(label.isdecimal() for label in seen)
    classes = sorted(seen, key=int) if counted else sorted(seen)
    ranks = np.empty(len(seen), np.int32)
    for rank, label in enumerate(classes):
        ranks[seen[label]] = rank
    return keys, ranks[np.array(numbers, np.int32)], classes
