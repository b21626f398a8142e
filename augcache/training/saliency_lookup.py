"""SaliencyLookup: the stored view of an image in hand, for any list of transforms. Imports torch."""

from __future__ import annotations

import os
from typing import Any

import augcache.records.expand  # noqa: F401  # here, so that forked workers need not load the compiled loop, each in every epoch
from augcache.images.decode import as_pixels
from augcache.recipe import Recipe
from augcache.sources.dataset_items import image_key, replaced, value_at
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.training.lookup import Lookup, choose_recipe
from augcache.training.misses import Misses
from augcache.training.recolour import PaletteJitter
from augcache.training.sample import Sample, output_of
from augcache.training.shared_counts import SharedCounts


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
    Called with a PIL image, a uint8 array (H, W, 3), a uint8 tensor (3, H, W) or a ``tv_tensors.Image``, it gives back
    the same type. A tuple that starts with the image, several arguments of which it is the first (as torchvision's v2
    transforms are called), or a dict with one of the keys "image", "img" and "pixel_values" come back with the
    image replaced and all else as it was.
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
        self.watch = Misses(SharedCounts())

    def __call__(self, *inputs: Any) -> Any:
        """Return the image or its view, in what it came in."""
        item = inputs[0] if len(inputs) == 1 else inputs
        is_batch = isinstance(item, list) and len({type(each) for each in item}) < 2
        key = None if is_batch else image_key(item)
        return replaced(item, key, self.sample(value_at(item, key)).draw())

    @property
    def misses(self) -> int:
        """Look-ups that found no record so far, in all processes of a DataLoader together."""
        return self.watch.counts.totals()[1]

    def sample(self, image: Any, output: str | None = None) -> Sample:
        """Return what draws from one image, in the form it came in or another."""
        return Sample(
            self.lookup, output or output_of(image), "this image", lambda: as_pixels(image), None, image, self.watch
        )

    def __repr__(self) -> str:
        lookup = self.lookup
        return f"SaliencyLookup({str(lookup.store.path)!r}, view={lookup.view!r}, p={lookup.p}, jitter={lookup.jitter})"
