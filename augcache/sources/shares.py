"""A source in n shares, for n machines that know nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import xxhash

from augcache.errors import SourceError
from augcache.sources.items import Images, Item, has_length


class Named(Protocol):
    """A source of which the names can be had without the items, and the items of some names."""

    def names(self) -> Iterable[str]:
        """Name of every item, in order."""

    def some(self, wanted: Any) -> Iterator[Any]:
        """Items whose name is wanted, in order."""


Source = TypeVar("Source", bound=Named)


class Sharded(Images):
    """The i-th of n shares of a source.

    An item's share follows from its name alone (xxh3-64 of it, modulo n), so that it stays the same when other files
    come and go, and no file is read to find it. Two shares may hold copies of one image under two names; `merge`
    makes one entry of them.

    Parameters
    ----------
    source : Images
        The whole.
    index : int
        From 1 to `count`.
    count : int
        Number of shares.

    Raises
    ------
    SourceError
        If there is no such share, or it is empty.
    """

    def __init__(self, source: Any, index: int, count: int) -> None:
        if not 1 <= index <= count:
            raise SourceError(f"shard {index}/{count}: give I/N with I from 1 to N, such as 1/16 ... 16/16")
        self.source, self.index, self.count = source, index, count
        self._wanted = partial(is_in_share, index=index, count=count)
        self._length = sum(map(self._wanted, source.names())) if has_length(source) else None
        if self._length == 0:
            raise SourceError(f"shard {index}/{count} of {source!r} is empty; give fewer shards")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Those of the whole: all shares have the same numbers."""
        found: tuple[str, ...] | None = getattr(self.source, "classes", None)  # videos have none
        return found

    def __len__(self) -> int:
        if self._length is None:
            return len(self.source)  # raises
        return self._length

    def __iter__(self) -> Iterator[Item]:
        return iter(self.source.some(self._wanted))

    def __repr__(self) -> str:
        return f"Sharded({self.source!r}, {self.index}, {self.count})"


def is_in_share(name: str, *, index: int, count: int) -> bool:
    """Whether an item is in the `index`-th of `count` shares, counted from 1."""
    return xxhash.xxh3_64_intdigest(os.fsencode(name)) % count == index - 1


def sharded(source: Any, shard: tuple[int, int] | None) -> Any:
    """Return a share of a source, or, without `shard`, the source."""
    return source if shard is None else Sharded(source, *shard)
