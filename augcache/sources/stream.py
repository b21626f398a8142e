"""Datasets that can only be read from one end to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import xxhash

from augcache.errors import SourceError
from augcache.sources.dataset_classes import Taker, class_names
from augcache.sources.items import ArrayItem, BrokenItem, Images, Item
from augcache.user_code import call

_END = object()


class Streamed(Images):
    """The images of an iterable, such as torch's ``IterableDataset``, a Hugging Face stream or a WebDataset.

    Parameters
    ----------
    dataset : iterable
        Of images, tuples that start with one, or dicts.
    image_key, label_key : str, optional
        As for `MapDataset`.

    Notes
    -----
    It is read once, in order, in this process, and no further than its images are asked for; `len` raises TypeError,
    also where the iterable has a length, which is often a guess. The name of an item is its ``__key__`` or ``id``,
    else its place in the stream.
    """

    def __init__(self, dataset: Any, image_key: str | None = None, label_key: str | None = None) -> None:
        self.dataset, self._begun = dataset, False
        self._taker = Taker(repr(self), class_names(dataset, label_key), image_key, label_key)

    def __len__(self) -> int:
        raise TypeError(f"how many items {self!r} has is known at its end")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names that the dataset has for its numbers."""
        return self._taker.names

    def __iter__(self) -> Iterator[Item]:
        stream = call(SourceError, "the dataset", iter, self.dataset)
        if self._begun and stream is self.dataset:
            raise SourceError(f"{self!r} can be read once, and has been; make it anew")
        self._begun = True
        named: set[int] = set()
        for place in count():
            item = call(SourceError, "the dataset", next, stream, _END)
            if item is _END:
                return
            name = _name(item, place)
            digest = xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))
            if digest in named:
                raise SourceError(f"{self!r}: two of its items are named {name!a}; give each a name of its own")
            named.add(digest)
            yield self._item(name, item, place)

    def _item(self, name: str, item: Any, place: int) -> Item:
        try:
            image, label, target, _ = self._taker.take(item)
        except SourceError as error:
            if not place:
                raise  # so will all the others
            return BrokenItem(name, reason=str(error))
        return ArrayItem(name, label, image=image, target=target)

    def __repr__(self) -> str:
        return f"Streamed({type(self.dataset).__name__})"


def _name(item: Any, place: int) -> str:
    if isinstance(item, Mapping):
        for key in ("__key__", "id"):
            if isinstance(item.get(key), str | int) and item[key] != "":
                return str(item[key])
    return f"{place:09d}"
