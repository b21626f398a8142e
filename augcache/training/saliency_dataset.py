"""HashedSaliencyDataset: images replaced by their stored views. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from augcache.errors import RecipeError, SourceError
from augcache.images.keys import ContentKey
from augcache.paths import home_expanded
from augcache.recipe import Recipe
from augcache.sources.stored import is_store
from augcache.storage.store import Store
from augcache.storage.store_path import store_path
from augcache.training.apply import applied, check_transform_form
from augcache.training.dataset_images import ListedImages, WrappedImages, of_folder, of_store
from augcache.training.indices import checked_index
from augcache.training.listing import Listing
from augcache.training.lookup import Lookup
from augcache.training.recolour import PaletteJitter
from augcache.training.saliency_lookup import SaliencyLookup
from augcache.training.sample import OUTPUTS, Sample


class HashedSaliencyDataset(Dataset[Any]):
    """The items of a folder, of another dataset or of a store, with images replaced by their stored views.

    Parameters
    ----------
    base : path-like or map-style dataset, optional
        A folder (a leading ``~`` is the home folder), whose store's manifest gives the keys, so that with ``p=1`` no
        original is read; or a dataset, whose images are hashed. Without it, the store alone is read, in manifest order.
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
        each: original or stored view and its colours are drawn anew for every one of them, and read once. A transform
        of Albumentations is called with ``image=``, and needs arrays.
    target_transform : callable, optional
        Applied to the target of an item; in a wrapped dataset to its label.
    return_name : bool
        Whether the items of a folder or store are ``(image, target, name)``; the name is the path relative to the
        folder that was built.
    image_key, label_key : object, optional
        Where the items of a wrapped dataset are dicts: the keys of image and label. Default: the only one of
        "image", "img" and "pixel_values"; the only one of "label", "labels" and "target".
    check : bool
        Whether a folder is compared with the manifest when the dataset opens. False trusts the manifest.

    Attributes
    ----------
    classes, class_to_idx, targets, samples
        As torchvision's ``ImageFolder`` has them: class names, their indices, the class index of each item, and
        (path, index) of each, for a store alone (name, index); the lists are made once, when first asked for. Those of
        a wrapped dataset are its own, also through ``Subset`` and ``ConcatDataset``, and empty where it has none.
    misses : int
        Look-ups that found no record so far, in all processes of a DataLoader together.

    Notes
    -----
    A folder's or store's items are ``(image, target)``; a wrapped dataset's items keep their shape, and the
    image is the item itself, its first element, or a dict's (any mapping's) value. Safe with fork and spawn workers.
    Where nearly all of the first images miss, it is warned of once. torchdata's ``StatefulDataLoader`` resumes with
    the colours that would have come, as long as nothing else of the dataset draws from another generator than torch's.

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
        transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        return_name: bool = False,
        image_key: Any = None,
        label_key: Any = None,
        check: bool = True,
    ) -> None:
        folder = Path(home_expanded(base)) if isinstance(base, str | os.PathLike) else None
        if is_store(folder):
            raise SourceError(f"{base}: a store, not a folder of images: give it as store=")
        if store is None and folder is None:
            raise SourceError("give store=: without a folder there is no default for it")
        _check_output(output, view, p, on_miss)
        given = store_path(folder or "") if store is None else store
        lookup_transform = SaliencyLookup(given, recipe=recipe, view=view, p=p, jitter=jitter, on_miss=on_miss)
        keys = image_key, label_key
        if base is not None and folder is None:
            self._images: ListedImages | WrappedImages = WrappedImages(lookup_transform, output, base, keys)
        elif keys != (None, None):
            raise RecipeError("image_key= and label_key= are for a wrapped dataset whose items are dicts")
        elif folder is None:
            self._images = of_store(lookup_transform, output)
        else:
            self._images = of_folder(lookup_transform, output, folder, check=check)
        if return_name and isinstance(self._images, WrappedImages):
            raise RecipeError("return_name=True is for folders and stores; a wrapped dataset's items have no names")
        check_transform_form(transform, self._images.output)
        self.lookup_transform = lookup_transform
        self.transform, self.target_transform, self.return_name = transform, target_transform, return_name

    @property
    def lookup(self) -> Lookup:
        """What is made of an image."""
        return self.lookup_transform.lookup

    @property
    def output(self) -> str | None:
        """Type of the images."""
        return self._images.output

    @property
    def listing(self) -> Listing | None:
        """Names, targets and keys of a folder's or store's images."""
        return self._images.listing

    @property
    def classes(self) -> Any:
        """Class names; those of the wrapped dataset, where it has them."""
        return self._images.classes

    @property
    def class_to_idx(self) -> Any:
        """Index of each class name."""
        return self._images.class_to_idx

    @property
    def targets(self) -> Any:
        """Class index of each item; those of the wrapped dataset, where it has them."""
        return self._images.targets

    @property
    def samples(self) -> Any:
        """Path, or name in the store, and class index of each item; those of the wrapped dataset, where it has them."""
        return self._images.samples

    @property
    def misses(self) -> int:
        """Look-ups that found no record so far, in all processes of a DataLoader together."""
        return self.lookup_transform.misses

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Give a batch, as a DataLoader asks for it; its records are read in one transaction."""
        numbers = [checked_index(index, len(self)) for index in indices]
        items = list(self._images.items(numbers, self._views, self.target_transform))
        if self.return_name and isinstance(self._images, ListedImages):
            return [(*item, self._images.name(index)) for index, item in zip(numbers, items, strict=True)]
        return items

    def key(self, index: int) -> ContentKey:
        """Content key of an item's image, the original's; a known file is not read for it."""
        return self._images.key(checked_index(index, len(self)))

    def _views(self, sample: Sample) -> Any:
        """Draw once, or once for each of several transforms."""
        if self.transform is None:
            return sample.draw()
        if isinstance(self.transform, Sequence):
            return [applied(transform, sample.draw()) for transform in self.transform]
        return applied(self.transform, sample.draw())

    def state_dict(self) -> dict[str, Any]:
        """Where the random colours are, for torchdata's ``StatefulDataLoader``, which asks for it in each worker."""
        return {"torch": torch.get_rng_state().numpy().tobytes()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the colours that `state_dict` was before."""
        torch.set_rng_state(torch.from_numpy(np.frombuffer(state["torch"], np.uint8).copy()))

    def __repr__(self) -> str:
        lookup = self.lookup
        return (
            f"HashedSaliencyDataset({str(self._images)!r}, {len(self)} items, view={lookup.view!r}, p={lookup.p}, "
            f"jitter={lookup.jitter}, store={str(lookup.store.path)!r})"
        )


def _check_output(output: str | None, view: str, p: float, on_miss: str) -> None:
    if output not in (None, *OUTPUTS):
        raise RecipeError(f"output={output!r}: give one of {', '.join(OUTPUTS)}")
    if output == "indexed" and (view != "segments" or p < 1 or on_miss == "original"):
        raise RecipeError("output='indexed' needs view='segments', p=1 and on_miss other than 'original'")
    if output == "masks" and on_miss == "original":
        raise RecipeError("output='masks' needs on_miss other than 'original': an image without record has no maps")
