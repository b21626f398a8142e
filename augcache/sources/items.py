"""One image of a source, before it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import xxhash
from PIL import Image

from augcache.errors import SourceError, TooLargeError
from augcache.images.decode import MAX_PIXELS, Least, Reduced, as_pixels, decode_small, decode_views
from augcache.sources.regular import read_regular
from augcache.sources.remote import is_url, read_url


@dataclass(frozen=True, slots=True)
class Views:
    """One item, read.

    Attributes
    ----------
    seen, plain : ndarray
        uint8 (H, W, 3): the pixels as a viewer shows them, and as a plain loader reads them; see
        `images.decode_views`.
    digest : bytes
        16 bytes, xxh3-128 of the file's bytes; zeros for no file.
    label : str
        Class name, where it is known only once the item is read.
    target : int or None
        Class number, likewise.
    """

    seen: np.ndarray
    plain: np.ndarray
    digest: bytes
    label: str = ""
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Small:
    """One item, read to be made small: digest, label and target as in `Views`, and its mask where it has one.

    Attributes
    ----------
    image : Reduced
        As a viewer shows it.
    mask : ndarray or None
        uint8 (H, W): a class of each pixel of the whole image.
    """

    image: Reduced
    digest: bytes
    label: str = ""
    mask: np.ndarray | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Item(ABC):
    """One image of a source, small enough to send to a worker, which loads it.

    Attributes
    ----------
    name : str
        What names it in its source; a folder-relative path with ``/`` for a file.
    label : str
        Class name; empty where there is none.
    size, mtime_ns : int
        State of the file; 0 where there is no file. See `remote.stamp` for the time of an object.
    target : int or None
        The one integer that is its class, as the source gives it or, where that only names classes, the place of its
        label in `Images.classes`; None where there is none, or where it is known only once the item is read.
    """

    # Whether a build notes where it came from.
    has_row: ClassVar[bool] = True

    name: str
    label: str = ""
    size: int = 0
    mtime_ns: int = 0
    target: int | None = field(default=None, kw_only=True)

    @abstractmethod
    def load(self, max_pixels: int = MAX_PIXELS) -> Views:
        """Read and decode the image; raises `SourceError`, for one of more pixels `TooLargeError`."""

    def load_small(self, least: Least, max_pixels: int) -> Small:  # noqa: ARG002  # for those that can
        """Read the image as a viewer shows it, with fewer pixels where its format can; see `images.decode_small`."""
        views = self.load(max_pixels)
        height, width = views.seen.shape[:2]
        reduced = Reduced(Image.fromarray(views.seen), (0, 0, width, height), (width, height))
        return Small(reduced, views.digest, views.label, target=views.target)


@dataclass(frozen=True, slots=True)
class FileItem(Item):
    """An image in a file; `path` may be a URL."""

    path: str = ""

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:
        """Read the file once, for its digest and its pixels."""
        data = self.read()
        seen, plain = decode_views(data, max_pixels=max_pixels)
        return Views(seen, plain, xxhash.xxh3_128_digest(data))

    def load_small(self, least: Least, max_pixels: int) -> Small:
        """Read the file once, and decode no more of it than is needed."""
        data = self.read()
        return Small(decode_small(data, least, max_pixels=max_pixels), xxhash.xxh3_128_digest(data))

    def read(self) -> bytes:
        """Bytes of the file; raises `SourceError`."""
        return read_url(self.path, self.size) if is_url(self.path) else read_regular(self.path)


@dataclass(frozen=True, slots=True)
class BrokenItem(Item):
    """A part of a source that cannot be listed, such as a folder that may not be read: what is in it is not known.

    Its name is that of the folder, with a ``/`` at its end.
    """

    reason: str = ""

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:  # noqa: ARG002  # there are none
        """Raise `SourceError` with the reason."""
        raise SourceError(self.reason)


@dataclass(frozen=True, slots=True)
class ArrayItem(Item):
    """An image that is in memory, and travels to the worker as it is."""

    image: Any = None

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:
        """Take the pixels."""
        return views_of(self.image, max_pixels)


def views_of(image: Any, max_pixels: int) -> Views:
    """Return an image that is in memory, decoded or as the bytes of a file; raises as `Item.load`."""
    if isinstance(image, bytes):
        return Views(*decode_views(image, max_pixels=max_pixels), xxhash.xxh3_128_digest(image))
    pixels = as_pixels(image)
    check_size(pixels, max_pixels)
    return Views(pixels, pixels, bytes(16))


def check_size(pixels: np.ndarray, most: int) -> None:
    """Raise `TooLargeError` for an image in memory of more pixels."""
    height, width = pixels.shape[:2]
    if width * height > most:
        raise TooLargeError(width, height, most)


class Images(ABC):
    """A source: a number of items, in an order that is the same on every run."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the items; raises TypeError where that is known only when all have been read, as of a stream."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item]: ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Every class that the source knows of, by number, also those without an image.

        None where the numbers have no names, or where there is no one integer for each image.
        """
        return None

    def names(self) -> Iterator[str]:
        """Name of every item, in order."""
        return (item.name for item in self)

    def some(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        """Items of the wanted names, in order; no other is looked at, where a source can tell."""
        return (item for item in self if wanted(item.name))


def has_length(source: Any) -> bool:
    """Whether it is known how many items a source has before all are read."""
    try:
        len(source)
    except TypeError:
        return False
    return True
