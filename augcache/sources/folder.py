"""Folders of pictures, on this machine or by URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from augcache.errors import SourceError
from augcache.images import SUFFIXES, looks_like_picture
from augcache.sources.items import FileItem, Pictures
from augcache.sources.remote import File, root_of, walk_url


class Folder(Pictures):
    """Every picture under a folder, sorted by name; the label is the first-level subfolder.

    Files count by their suffix, files without one by their first bytes. Hidden files and stores are passed over;
    links to folders are followed, each folder once.

    Parameters
    ----------
    root : path-like
        The folder; or the URL of one, such as ``s3://bucket/prefix``, for which fsspec has a file system.

    Raises
    ------
    SourceError
        If there is no such folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root_of(root)
        self._files = [FileItem(*file) for file in walk(self.root, _is_picture)]
        if not self._files:
            raise SourceError(
                f"{self.root}: no pictures in this folder or below it (files named .jpg, .png ...); "
                "of videos, take frames first: augcache extract-frames"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileItem]:
        return iter(self._files)

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r})"


Head = Callable[[], bytes]  # gives a file's first bytes


def walk(root: Path | str, wanted: Callable[[str, Head], bool]) -> list[File]:
    """List the files under a folder: name relative to it, first-level subfolder, size, mtime in ns, and path or URL.

    `wanted` is called with a file's name and a function that gives its first bytes; of a URL, see `remote.stamp` for
    what stands for the time.
    Sorted as the manifest sorts them, so that "the first ten" means the same everywhere. Hidden files and stores are
    passed over; links to folders are followed, each folder once. Raises `SourceError` where there is no folder.
    """
    if isinstance(root, str):
        return walk_url(root, wanted)
    if not root.exists():
        raise SourceError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise SourceError(f"{root}: a file, not a folder; give the folder that it is in")
    found: list[File] = []
    visited: set[tuple[int, int]] = set()
    pending = [(os.path.abspath(root), "")]  # a worker may have another current folder
    while pending:
        folder, prefix = pending.pop()
        try:
            own = os.stat(folder)
            entries = list(os.scandir(folder))
        except OSError as error:
            raise SourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
        if (own.st_dev, own.st_ino) in visited:
            continue
        visited.add((own.st_dev, own.st_ino))
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(".augcache"):
                continue
            if entry.is_dir():
                pending.append((entry.path, f"{prefix}{entry.name}/"))
            elif wanted(entry.name, partial(_head, entry)):
                status = _status(entry)
                label = prefix.split("/", 1)[0]
                found.append((prefix + entry.name, label, status.st_size, status.st_mtime_ns, entry.path))
    return sorted(found, key=lambda file: os.fsencode(file[0]))


def _is_picture(name: str, head: Head) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return True
    return not suffix and looks_like_picture(head())


def _head(entry: os.DirEntry[str]) -> bytes:
    if not entry.is_file():
        return b""
    try:
        with open(entry.path, "rb") as file:
            return file.read(16)
    except OSError:
        return b""  # unreadable and nameless: nothing says that it is a picture


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)  # a dead link: listed, and fails when it is read
