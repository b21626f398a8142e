"""Tells look-ups that go wrong, after a crop, in other colours or in another store, from images that are just new."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np

from augcache.errors import MissError
from augcache.images.keys import content_key
from augcache.recipe import Recipe
from augcache.storage.store import Store
from augcache.training.shared_counts import HITS, MISSES, SharedCounts

PATIENCE = 100  # misses without a hit that are put up with where misses are no errors
LATER = (1000, 4000)  # look-ups after which it is looked at again
NEARLY_ALL = 0.98  # of the look-ups
_SAMPLED = 200  # entries whose sizes stand for all
_PROBED = 20  # misses that are looked up once more, changed in ways that people's images are

Size = tuple[int, ...]

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "channels reversed (BGR for RGB)": lambda image: image[..., ::-1],
    "mirrored": lambda image: image[:, ::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "turned to the left": np.rot90,
    "turned to the right": lambda image: np.rot90(image, -1),
}


class Misses:
    """Watches the look-ups of a dataset in all its processes.

    Parameters
    ----------
    counts : SharedCounts
        Where they are counted.
    watched : bool
        Whether images come from outside, so that a miss may have another cause than that the image is new.
    """

    def __init__(self, counts: SharedCounts, *, watched: bool = True) -> None:
        self.counts, self.watched = counts, watched
        self._sizes: set[Size] = set()  # of the images that missed here
        self._found: Counter[str] = Counter()  # by which change a miss of this process is a hit
        self._probed = 0
        self._waiting = [PATIENCE, *LATER]

    def hit(self) -> None:
        """Note an image that has a record."""
        self.counts.add(HITS)

    def miss(self, store: Store, recipe: Recipe, array: str, pixels: Callable[[], np.ndarray], *, error: bool) -> None:
        """Note an image without a record.

        Parameters
        ----------
        store, recipe
            Where it was looked for.
        array : str
            An array of the records that is as large as their images.
        pixels : callable
            Gives the image, uint8 (H, W, 3).
        error : bool
            Whether a miss is an error anyhow, so that nothing is gained by waiting for more of them.

        Raises
        ------
        MissError
            If all images so far missed and were of one size that the store does not have; with `error`, also if a
            changed image has a record.

        Warns
        -----
        UserWarning
            Once in all processes, if the first `PATIENCE` images missed, or nearly all of more of them.
        """
        self.counts.add(MISSES)
        if not self.watched or not self._waiting:
            return
        self._look_at(store, recipe, pixels())
        hits, misses = self.counts.totals()
        if error:
            if not hits:
                self._raise_if_certain(store, recipe, array, misses, changed=True)
            return
        looked = hits + misses
        if looked < self._waiting[0]:
            return
        self._waiting = [each for each in self._waiting if each > looked]
        if not hits:
            self._raise_if_certain(store, recipe, array, misses, changed=False)
        if (not hits or (looked >= LATER[0] and misses > NEARLY_ALL * looked)) and self.counts.claim():
            how_many = f"of the first {looked} images nearly all" if hits else "every image so far"
            cause = "" if self._found else f"; {_cause(self._sizes, _sizes_of(store, recipe, array))}"
            warnings.warn(f"{store.path}: {how_many} missed ({misses}); {self._tried()}{cause}", stacklevel=2)

    def _look_at(self, store: Store, recipe: Recipe, image: np.ndarray) -> None:
        self._sizes.add(image.shape[:2])
        if self._probed == _PROBED:
            return
        self._probed += 1
        names = list(CHANGES)
        keys = [content_key(CHANGES[name](image)) for name in names]
        there = store.has(recipe.digest, keys)
        self._found.update(name for name, found in zip(names, there, strict=True) if found)

    def _raise_if_certain(self, store: Store, recipe: Recipe, array: str, misses: int, *, changed: bool) -> None:
        if self._found:
            if changed:
                raise MissError(f"{store.path}: every image so far missed ({misses}); {self._tried()}")
            return
        if len(self._sizes) == 1 and not self._sizes & (known := _sizes_of(store, recipe, array)):
            some = ", ".join(_text(each) for each in sorted(known)[:3]) + (", ..." if len(known) > 3 else "")
            raise MissError(
                f"{store.path}: every image so far missed ({misses} of {_text(*self._sizes)}; the store's are "
                f"{some}); is a crop or resize applied before the look-up? Look up before "
                "any crop, resize or colour change, or build the store of these images"
            )

    def _tried(self) -> str:
        """Say what the misses are when they are changed back."""
        if self._found:
            found = ", ".join(f"{change}: {count} hit" for change, count in self._found.most_common())
            return f"of {self._probed} of them, {found}; give the look-up the images as the build had them"
        return f"of {self._probed} of them none hits with {', '.join(CHANGES)} either"


def _cause(sizes: set[Size], known: set[Size]) -> str:
    """Ask for what is likely, where no change of an image helped."""
    if sizes <= known:
        return (
            "their sizes are the store's: does another decoder make them, or one with other settings (fast DCT), "
            "or is a colour change applied before the look-up?"
        )
    return "is a crop, resize or colour change applied before the look-up, or is it the store of other images?"


def _sizes_of(store: Store, recipe: Recipe, array: str) -> set[Size]:
    some = list(itertools.islice(store.keys(recipe), _SAMPLED))
    records = store.get_many(recipe, some)
    return {record.shape(array)[:2] for record in records if record is not None and array in record}


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
