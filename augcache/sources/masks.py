"""Images with label images of the same names beside them."""

from __future__ import annotations

import copy
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from augcache.errors import SourceError
from augcache.images.decode import Least, Reduced, decode_labels, read_header, stored_size, turned
from augcache.sources.folder import Folder
from augcache.sources.items import BrokenItem, FileItem, Images, Small
from augcache.sources.regular import open_regular
from augcache.sources.remote import is_url

# What masks are of, where an EXIF orientation turns the images: of the pixels as stored, as shown, or not known.
STORED, SHOWN, UNKNOWN, BOTH = "stored", "shown", "", "both"


@dataclass(frozen=True, slots=True)
class MaskedItem(FileItem):
    """An image and its mask; `size` and `mtime_ns` stand for both, so that a change of either is noticed."""

    mask: str = ""
    orientation: str = UNKNOWN
    """What masks are of that do not show it by their size."""

    def load_small(self, least: Least, max_pixels: int) -> Small:
        """Read both files; the mask is turned as the image is."""
        if not self.mask:
            raise SourceError("there is no mask of its name; see --masks")
        small = super(MaskedItem, self).load_small(least, max_pixels)
        try:
            data = FileItem("", path=self.mask).read()
            labels, turn = decode_labels(data, max_pixels=max_pixels)
        except SourceError as error:
            raise SourceError(f"its mask {self.mask}: {error}") from error
        mask = self._upright(labels, turn, small.image)
        digest = xxhash.xxh3_128_digest(small.digest + xxhash.xxh3_128_digest(data))
        return Small(small.image, digest, small.label, mask)

    def _upright(self, labels: np.ndarray, turn: int, image: Reduced) -> np.ndarray:
        """Turn the mask as its image, where it does not lie so already."""
        height, width = labels.shape
        shown, stored = image.size, stored_size(image.size, image.turn)
        possible = [SHOWN] * (shown == (width, height))
        if turn == 1 != image.turn:  # one that asks to be turned itself is as shown
            possible += [STORED] * (stored == (width, height))
        if not possible:
            raise SourceError(
                f"its mask {self.mask} is {width} x {height}, the image {shown[0]} x {shown[1]}"
                + (f" (stored as {stored[0]} x {stored[1]})" if stored != shown else "")
            )
        found = possible[0] if len(possible) == 1 else self.orientation
        if found not in (STORED, SHOWN):
            what = (
                "of others of this source the size shows both" if found == BOTH else "no other of this source shows it"
            )
            raise SourceError(
                f"its EXIF orientation {image.turn} turns the image, and its mask {self.mask} may be of the pixels "
                f"as stored or as shown ({what}): give --mask-orientation stored or shown"
            )
        return turned(labels, image.turn) if found == STORED else labels


class Masked(Images):
    """The images of files, each with the mask of its name.

    Parameters
    ----------
    images : Images
        A source of `FileItem`, such as a `Folder`.
    folder : path-like
        Label images by the same relative path, whatever their suffix. Where it lies inside the images' folder, the
        masks themselves do not count as images.

    Raises
    ------
    SourceError
        If there is no such folder, it holds two masks of one name, or the images are no files.

    Notes
    -----
    Where an EXIF orientation turns an image, its mask is turned as well if it is of the pixels as stored. An
    orientation of the mask's own, or its size, shows what it is of; where they do not, what the sizes of all other
    masks show counts, if that is one and the same. Else the pair is a failure, until `oriented` says it.
    """

    def __init__(self, images: Images, folder: str | os.PathLike[str]) -> None:
        masks = Folder(folder)
        root = masks.root
        self._masks: dict[str, FileItem] = {}
        for mask in masks:
            if isinstance(mask, FileItem) and self._masks.setdefault(_stem(mask.name), mask) is not mask:
                other = self._masks[_stem(mask.name)]
                raise SourceError(f"{root}: two masks of one name, {other.name} and {mask.name}; move one away")
        within = os.path.join(root if isinstance(root, str) else os.path.abspath(root), "")
        # Of images whose masks cannot be listed nothing is known; the folder is the failure.
        self._items: list[FileItem | BrokenItem] = [
            BrokenItem(each.name, each.label, reason=f"its masks in {root}: {each.reason}") for each in masks.broken
        ]
        for item in images:
            if not isinstance(item, FileItem | BrokenItem):
                raise SourceError(f"{images!r}: masks are for images in files of their own")
            hidden = any(_is_below(item.name, each.name) for each in masks.broken)
            if not hidden and not (isinstance(item, FileItem) and item.path.startswith(within)):
                self._items.append(item)
        self._items.sort(key=lambda item: os.fsencode(item.name))
        self._classes = images.classes
        if isinstance(images, Folder):
            self._leave_out(images.root, within)
        self._orientation: str | None = None
        self._repr = f"Masked({images!r}, {str(root)!r})"

    def _leave_out(self, root: Path | str, within: str) -> None:
        """Take the folder of the masks from the classes, where no image is in it."""
        below = os.path.join(root if isinstance(root, str) else os.path.abspath(root), "")
        first = within.removeprefix(below).split("/", 1)[0] if within.startswith(below) else ""
        if any(item.label == first for item in self._items):
            return
        self._classes = tuple(name for name in self._classes or () if name != first)
        number = {name: index for index, name in enumerate(self._classes)}
        self._items = [replace(item, target=number.get(item.label)) for item in self._items]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Those of the images, without a folder of masks among them."""
        return self._classes

    def oriented(self, orientation: str) -> Masked:
        """Return these pairs, with what masks are of that do not show it themselves: "stored" or "shown"."""
        other = copy.copy(self)
        other._orientation = orientation
        return other

    def __len__(self) -> int:
        return len(self._items)

    def names(self) -> Iterator[str]:
        """Names, without a look at the files."""
        return (item.name for item in self._items)

    def __iter__(self) -> Iterator[FileItem | BrokenItem]:
        if self._orientation is None:
            self._orientation = _shown_by_sizes(self._pairs())
        for item in self._items:
            mask = self._masks.get(_stem(item.name))
            if isinstance(item, BrokenItem):
                yield item
            elif mask is None:
                yield MaskedItem(item.name, item.label, item.size, item.mtime_ns, item.path, target=item.target)
            else:
                state = _stamp(item, mask, self._orientation)
                yield MaskedItem(
                    item.name, item.label, item.size + mask.size, state, item.path, mask.path, self._orientation,
                    target=item.target,
                )  # fmt: skip  # field by field

    def _pairs(self) -> Iterator[tuple[FileItem, FileItem]]:
        for item in self._items:
            mask = self._masks.get(_stem(item.name))
            if isinstance(item, FileItem) and mask is not None:
                yield item, mask

    def __repr__(self) -> str:
        return self._repr


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _is_below(name: str, broken: str) -> bool:
    return name.startswith(broken) if broken.endswith("/") else _stem(name) == _stem(broken)


def _stamp(item: FileItem, mask: FileItem, orientation: str) -> int:
    """Return one number for the state of both files, and for what the mask is taken for; 0 where one has none."""
    if not item.mtime_ns or not mask.mtime_ns:
        return 0
    state = struct.pack("<QqQq", item.size, item.mtime_ns, mask.size, mask.mtime_ns) + orientation.encode()
    return -2 - (xxhash.xxh3_64_intdigest(state) >> 2)


def _shown_by_sizes(pairs: Iterator[tuple[FileItem, FileItem]]) -> str:
    """Tell what all masks are of whose size shows it, from the headers of files of this machine."""
    found: set[str] = set()
    for item, mask in pairs:
        if is_url(item.path) or is_url(mask.path):
            continue  # a request for each image, before the first is read
        try:
            size, turn = _header(item.path)
            if turn < 5 or size[0] == size[1]:
                continue
            of_mask, own = _header(mask.path)
        except SourceError:
            continue  # it shows nothing; the reason is told when it is read
        if own == 1 and of_mask in (size, size[::-1]):
            found.add(STORED if of_mask == size else SHOWN)
    return BOTH if len(found) == 2 else "".join(found)


def _header(path: str) -> tuple[tuple[int, int], int]:
    with open_regular(path) as file:
        return read_header(file)
