"""torch datasets over a store. This file and what stands on it are all that imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

import augcache.records.expand  # noqa: F401  # here, so that forked workers need not load the compiled loop, each in every epoch
from augcache.errors import MissError, RecipeError, SourceError
from augcache.images.decode import as_pixels, decode_views
from augcache.images.keys import ContentKey, content_key
from augcache.paths import home_expanded
from augcache.recipe import Recipe
from augcache.sources import read_regular
from augcache.sources.stored import is_store
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.storage.store_path import store_path
from augcache.training.listing import Listing, from_folder, from_manifest
from augcache.training.lookup import Lookup, choose_recipe, key_of
from augcache.training.misses import Misses
from augcache.training.recolour import PaletteJitter
from augcache.training.sample import OUTPUTS, Sample, output_of


class SaliencyLookup:
    """Replace an image by its stored view; a callable for any ``Compose`` list, before crops and colour changes.

    Parameters
    ----------
    store : path-like or Store
        Where the records are.
    recipe : Recipe or str, optional
        Which, where several would fit: the recipe, the name of its transform, or the start of its digest in hex.
    view : {"segments", "saliency", "cut", "cutout"}
        See `augcache.training.views.render`.
    p : float
        Chance of the stored view; else the image comes back as it is.
    jitter : PaletteJitter or None
        How "segments" is re-coloured; None keeps each region's mean colour.
    on_miss : {"error", "original", "compute"}
        What to do for an image that has no record.

    Raises
    ------
    StoreError
        If there is no such store or recipe.

    Notes
    -----
    Called with a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W), it gives back the same type.
    It raises `SourceError` for anything else and `MissError` for a miss with ``on_miss="error"``.

    Examples
    --------
    >>> lookup = SaliencyLookup("images.augcache", p=0.8)
    >>> lookup(Image.open("images/cat/1.png")).size
    (80, 60)
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        recipe: Recipe | str | None = None,
        view: str = "segments",
        p: float = 1.0,
        jitter: PaletteJitter | None = PaletteJitter(),  # noqa: B008  # holds no state, so sharing it is safe
        on_miss: str = "error",
    ) -> None:
        store = open_store(store)
        rule = None if jitter is None else jitter.rule
        chosen = choose_recipe(store, view, recipe)
        self.lookup = Lookup(store, chosen, view, p, rule, on_miss, is_named=isinstance(recipe, Recipe))
        self._misses = Misses()

    def __call__(self, image: Any) -> Any:
        """Return the image or its view."""
        return self.sample(image).draw()

    def sample(self, image: Any, output: str | None = None) -> Sample:
        """Return what draws from one image, in the form it came in or another."""
        return Sample(
            self.lookup, output or output_of(image), "this image", lambda: as_pixels(image), None, image, self._misses
        )

    def __repr__(self) -> str:
        lookup = self.lookup
        return f"SaliencyLookup({str(lookup.store.path)!r}, view={lookup.view!r}, p={lookup.p}, jitter={lookup.jitter})"


class HashedSaliencyDataset(Dataset[Any]):
    """The items of a folder, of another dataset or of a store, with images replaced by their stored views.

    Parameters
    ----------
    base : path-like or map-style dataset, optional
        A folder, whose store's manifest gives the keys, so that with ``p=1`` no original is read; or a dataset,
        whose images are hashed. Without it, the store alone is read, in manifest order.
    store : path-like or Store, optional
        Default for a folder: ``$AUGCACHE_STORE``, else the folder's name with ``.augcache`` beside it.
    recipe, view, p, jitter, on_miss
        As for `SaliencyLookup`.
    output : {"pil", "array", "tensor", "indexed", "masks"}, optional
        Type of the images of a folder or store: PIL image (the default), uint8 (H, W, 3) array or uint8 (3, H, W)
        tensor; those of a wrapped dataset keep the type they come in. "indexed": the index map and palette, for
        `PaletteJitter` to colour a whole batch on its device, which sends a third of the bytes to the training
        process (needs ``view="segments"`` and ``p=1``; `jitter` is then not used here). "masks": a dict of the
        image and its maps, which torchvision's v2 transforms crop and turn as one; see
        `augcache.training.sample.masks`.
    transform : callable or sequence of callables, optional
        Applied to the image after the replacement. With a sequence the image becomes a list of views, one for
        each: original or stored view and its colours are drawn anew for every one of them, and read once.
    check : bool
        Whether a folder is compared with the manifest when the dataset opens. False trusts the manifest.

    Attributes
    ----------
    classes : list of str
        Sorted class names; those of the wrapped dataset, where it has them.

    Notes
    -----
    A folder's or store's items are ``(image, target)``; a wrapped dataset's items keep their shape, and the
    image is the item itself, its first element, or its ``"image"``. Safe with fork and spawn workers.

    Examples
    --------
    >>> dataset = HashedSaliencyDataset("images", p=0.5, output="array")
    >>> image, target = dataset[0]
    >>> image.shape, dataset.classes
    ((60, 80, 3), ['cat', 'dog'])
    """

    def __init__(
        self,
        base: Any = None,
        *,
        store: str | os.PathLike[str] | Store | None = None,
        recipe: Recipe | str | None = None,
        view: str = "segments",
        p: float = 1.0,
        jitter: PaletteJitter | None = PaletteJitter(),  # noqa: B008  # holds no state, so sharing it is safe
        on_miss: str = "error",
        output: str | None = None,
        transform: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        check: bool = True,
    ) -> None:
        if is_store(base):
            raise SourceError(f"{base}: a store, not a folder of images: give it as store=")
        if output not in (None, *OUTPUTS):
            raise RecipeError(f"output={output!r}: give one of {', '.join(OUTPUTS)}")
        self.folder = Path(home_expanded(base)) if isinstance(base, str | os.PathLike) else None
        self.base: Any = None if self.folder is not None else base
        if self.base is not None and output in ("pil", "array", "tensor"):
            raise RecipeError(
                f"output={output!r} is for folders and stores; a wrapped dataset's images keep their type"
            )
        if output == "indexed" and (view != "segments" or p < 1 or on_miss == "original"):
            raise RecipeError("output='indexed' needs view='segments', p=1 and on_miss other than 'original'")
        if output == "masks" and on_miss == "original":
            raise RecipeError("output='masks' needs on_miss other than 'original': an image without record has no maps")
        if store is None and self.folder is None:
            raise SourceError("give store=: without a folder there is no default for it")
        opened = open_store(store_path(self.folder or "") if store is None else store)
        self.lookup_transform = SaliencyLookup(opened, recipe=recipe, view=view, p=p, jitter=jitter, on_miss=on_miss)
        self.lookup: Lookup = self.lookup_transform.lookup
        self.output = output if self.base is not None else output or "pil"
        self.transform = transform
        if self.folder is not None and p < 1:
            Image.init()  # once here and not in every worker of every epoch: it loads fifty modules
        self.listing: Listing | None = None
        if self.folder is not None and check:
            self.listing = from_folder(self.folder, opened, self.lookup.recipe)
        elif self.base is None:
            self.listing = from_manifest(opened, self.lookup.recipe)
        self.classes = getattr(self.base, "classes", []) if self.listing is None else self.listing.classes

    @property
    def targets(self) -> list[Any]:
        """Class index of each item; those of the wrapped dataset, where it has them."""
        return getattr(self.base, "targets", []) if self.listing is None else self.listing.targets.tolist()

    def __len__(self) -> int:
        return len(self.base) if self.listing is None else len(self.listing.names)

    def __getitem__(self, index: int) -> Any:
        if self.listing is None:
            return self._wrapped(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")  # ends a plain for loop
        return self._item(self._sample(self.listing, index), index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Give a batch, as a DataLoader asks for it; its records are read in one transaction."""
        listing = self.listing
        if listing is None or self.lookup.p < 1 or self.lookup.view == "cutout":
            return [self[index] for index in indices]
        keys = [listing.key(index) for index in indices]
        records = self.lookup.store.get_many(self.lookup.recipe, [key for key in keys if key is not None])
        records.reverse()  # popped one by one, so that no more than one decoded index map is held
        items = []
        for index, key in zip(indices, keys, strict=True):
            sample = self._sample(listing, index)
            record = None if key is None else records.pop()
            if record is not None:
                sample.record = record
            items.append(self._item(sample, index))
        return items

    def key(self, index: int) -> ContentKey:
        """Content key of an item's image, the original's; a known file is not read for it."""
        if self.listing is None:
            return key_of(self.base, index)
        known = self.listing.key(index)
        return content_key(self._original(self.listing, index)) if known is None else known

    def _sample(self, listing: Listing, index: int) -> Sample:
        """Return what draws from one image of the folder or store; one that is new or changed has no key yet."""
        name = listing.names[index]
        return Sample(
            self.lookup, self.output or "pil", name, lambda: self._original(listing, index), listing.key(index)
        )

    def _item(self, sample: Sample, index: int) -> tuple[Any, int]:
        assert self.listing is not None
        return self._views(sample), int(self.listing.targets[index])

    def _views(self, sample: Sample) -> Any:
        """Draw once, or once for each of several transforms."""
        if self.transform is None:
            return sample.draw()
        if isinstance(self.transform, Sequence):
            return [transform(sample.draw()) for transform in self.transform]
        return self.transform(sample.draw())

    def _wrapped(self, index: int) -> Any:
        item = self.base[index]
        name: Any = None if not isinstance(item, tuple | list | dict) else "image" if isinstance(item, dict) else 0
        if isinstance(item, dict) and name not in item:
            raise SourceError(f"item {index} is a dict without 'image'; it has: {', '.join(map(str, item))}")
        sample = self.lookup_transform.sample(item if name is None else item[name], self.output)
        try:
            image = self._views(sample)
        except (MissError, SourceError) as error:
            raise type(error)(f"item {index}: {error}") from error
        return image if name is None else replaced(item, name, image)

    def _original(self, listing: Listing, index: int) -> np.ndarray:
        name = listing.names[index]
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

    def __repr__(self) -> str:
        source = self.folder or (type(self.base).__name__ if self.base is not None else self.lookup.store.path)
        lookup = self.lookup
        return (
            f"HashedSaliencyDataset({str(source)!r}, {len(self)} items, view={lookup.view!r}, p={lookup.p}, "
            f"jitter={lookup.jitter}, store={str(lookup.store.path)!r})"
        )


def replaced(item: Any, name: Any, image: Any) -> Any:
    """Copy of an item with another image, of the same type."""
    if isinstance(item, dict):
        return {**item, name: image}
    if hasattr(item, "_replace"):  # a named tuple
        return item._replace(**{item._fields[0]: image})
    return type(item)([image, *item[1:]])
