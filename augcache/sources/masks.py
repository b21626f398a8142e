"""Pictures with label images of the same names beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from augcache.errors import SourceError
from augcache.images import Least, decode_labels
from augcache.sources.folder import Folder
from augcache.sources.items import FileItem, Pictures, Small


@dataclass(frozen=True, slots=True)
class MaskedItem(FileItem):
    """A picture and its mask; `size` and `mtime_ns` are those of both, so that a change of either is noticed."""

    mask: str = ""

    def load_small(self, least: Least, max_pixels: int) -> Small:
        """Read both files."""
        if not self.mask:
            raise SourceError("there is no mask of its name; see --masks")
        small = super(MaskedItem, self).load_small(least, max_pixels)
        data = FileItem("", path=self.mask).read()
        try:
            mask = decode_labels(data, max_pixels=max_pixels)
        except SourceError as error:
            raise SourceError(f"its mask {self.mask}: {error}") from error
        width, height = small.picture.size
        if mask.shape != (height, width):
            raise SourceError(
                f"its mask {self.mask} is {mask.shape[1]} x {mask.shape[0]}, the picture {width} x {height}"
            )
        digest = xxhash.xxh3_128_digest(small.digest + xxhash.xxh3_128_digest(data))
        return Small(small.picture, digest, small.label, mask)


class Masked(Pictures):
    """The pictures of files, each with the mask of its name.

    Parameters
    ----------
    pictures : Pictures
        A source of `FileItem`, such as a `Folder`.
    folder : path-like
        Label images by the same relative path, whatever their suffix. Where it lies inside the pictures' folder, the
        masks themselves do not count as pictures.

    Raises
    ------
    SourceError
        If there is no such folder, it holds two masks of one name, or the pictures are no files.
    """

    def __init__(self, pictures: Pictures, folder: str | os.PathLike[str]) -> None:
        masks = Folder(folder)
        root = masks.root
        self._masks: dict[str, FileItem] = {}
        for mask in masks:
            other = self._masks.setdefault(os.path.splitext(mask.name)[0], mask)
            if other is not mask:
                raise SourceError(f"{root}: two masks of one name, {other.name} and {mask.name}; move one away")
        within = os.path.join(root if isinstance(root, str) else os.path.abspath(root), "")
        self._items: list[FileItem] = []
        for item in pictures:
            if not isinstance(item, FileItem):
                raise SourceError(f"{pictures!r}: masks are for pictures in files of their own")
            if not item.path.startswith(within):
                self._items.append(item)
        self._repr = f"Masked({pictures!r}, {str(root)!r})"

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[MaskedItem]:
        for item in self._items:
            mask = self._masks.get(os.path.splitext(item.name)[0])
            if mask is None:
                yield MaskedItem(item.name, item.label, item.size, item.mtime_ns, item.path)
            else:
                newest, size = max(item.mtime_ns, mask.mtime_ns), item.size + mask.size
                yield MaskedItem(item.name, item.label, size, newest, item.path, mask.path)

    def __repr__(self) -> str:
        return self._repr
