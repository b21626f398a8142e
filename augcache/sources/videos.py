"""Videos of a folder, before they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from augcache.errors import SourceError
from augcache.paths import is_there
from augcache.sources.folder import walk
from augcache.sources.remote import File, root_of

SUFFIXES = frozenset([
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
])  # fmt: skip  # a list of names


class Videos:
    """Every video under a folder, sorted by name; files count by their suffix.

    Parameters
    ----------
    root : path-like
        The folder, or its URL, or one video.

    Raises
    ------
    SourceError
        If there is none.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root_of(root)
        if isinstance(self.root, Path) and is_there(self.root, SourceError) and not self.root.is_dir():
            status, path = self.root.stat(), os.path.abspath(self.root)
            self._items = [File(self.root.name, "", status.st_size, status.st_mtime_ns, path)]
            return
        self._items = walk(self.root, lambda name, _: os.path.splitext(name)[1].lower() in SUFFIXES)
        if all(item.reason for item in self._items):
            for item in self._items:
                raise SourceError(f"{self.root}: no videos in what can be listed of it; {item.name} {item.reason}")
            raise SourceError(
                f"{self.root}: no videos in this folder or below it (files named .mp4, .mkv ...); "
                "for images: augcache build-saliency or resize"
            )

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[File]:
        return iter(self._items)

    def names(self) -> Iterator[str]:
        """Name of every video, in order."""
        return (item.name for item in self._items)

    def some(self, wanted: Callable[[str], bool]) -> Iterator[File]:
        """Items of the wanted names, in order."""
        return (item for item in self._items if wanted(item.name))

    def __repr__(self) -> str:
        return f"Videos({str(self.root)!r})"
