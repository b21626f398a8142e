"""Tells a look-up in the wrong place, after a crop or in another dataset's store, from an image that is just new."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

from augcache.errors import MissError
from augcache.recipe import Recipe
from augcache.storage.store import Store

PATIENCE = 100  # misses without a hit that are put up with where misses are no errors
_SAMPLED = 200  # entries whose sizes stand for all

Size = tuple[int, ...]


class Misses:
    """Watches the look-ups of one process until the first hit."""

    def __init__(self) -> None:
        self._hit, self._count = False, 0
        self._sizes: set[Size] = set()  # of the images that missed

    def hit(self) -> None:
        """Note an image that has a record; nothing is suspected from then on."""
        self._hit = True

    def miss(self, store: Store, recipe: Recipe, array: str, size: Callable[[], Size], *, error: bool) -> None:
        """Note an image without a record.

        Parameters
        ----------
        store, recipe
            Where it was looked for.
        array : str
            An array of the records that is as large as their images.
        size : callable
            Gives the image's height and width.
        error : bool
            Whether a miss is an error anyhow, so that nothing is gained by waiting for more of them.

        Raises
        ------
        MissError
            If all images so far missed and were of one size that the store does not have.

        Warns
        -----
        UserWarning
            If `PATIENCE` images missed, and their sizes say nothing.
        """
        if self._hit:
            return
        self._count += 1
        self._sizes.add(size())
        if not error and self._count != PATIENCE:
            return
        if len(self._sizes) == 1 and not self._sizes & (known := _sizes_of(store, recipe, array)):
            some = ", ".join(_text(each) for each in sorted(known)[:3]) + (", ..." if len(known) > 3 else "")
            raise MissError(
                f"{store.path}: every image so far missed ({self._count} of {_text(*self._sizes)}; the store's are "
                f"{some}); is a crop or resize applied before the look-up? Look up before "
                "any crop, resize or colour change, or build the store of these images"
            )
        if not error:
            warnings.warn(
                f"{store.path}: every image so far missed ({self._count}); is a crop, resize or colour change "
                "applied before the look-up, or is it the store of other images?",
                stacklevel=2,
            )


def _sizes_of(store: Store, recipe: Recipe, array: str) -> set[Size]:
    some = list(itertools.islice(store.keys(recipe), _SAMPLED))
    records = store.get_many(recipe, some)
    return {record.shape(array)[:2] for record in records if record is not None and array in record}


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
