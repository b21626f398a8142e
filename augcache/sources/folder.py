"""Folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from augcache.errors import SourceError
from augcache.images import SUFFIXES, looks_like_picture
from augcache.sources.items import FileItem, Pictures


class Folder(Pictures):
    """Every picture under a folder, sorted by name; the label is the first-level subfolder.

    Files count by their suffix, files without one by their first bytes. Hidden files and stores are passed over;
    links to folders are followed, each folder once.

    Parameters
    ----------
    root : path-like
        The folder.

    Raises
    ------
    SourceError
        If there is no such folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._files = [FileItem(*file) for file in walk(self.root, _is_picture)]
        if not self._files:
            raise SourceError(
                f"{self.root}: no pictures in this folder or below it; files count by their suffix (.jpg, .png ...)"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileItem]:
        return iter(self._files)

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r})"


def walk(root: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[tuple[str, str, int, int, str]]:
    """List the files under a folder: name relative to it, first-level subfolder, size, mtime in ns, and path.

    Sorted as the manifest sorts them, so that "the first ten" means the same everywhere. Hidden files and stores are
    passed over; links to folders are followed, each folder once. Raises `SourceError` where there is no folder.
    """
    if not root.exists():
        raise SourceError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise SourceError(f"{root}: a file, not a folder; give the folder that it is in")
    found: list[tuple[str, str, int, int, str]] = []
    visited: set[tuple[int, int]] = set()
    pending = [(str(root), "")]
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
            elif wanted(entry):
                status = _status(entry)
                label = prefix.split("/", 1)[0]
                found.append((prefix + entry.name, label, status.st_size, status.st_mtime_ns, entry.path))
    return sorted(found, key=lambda file: os.fsencode(file[0]))


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES:
        return True
    if suffix or not entry.is_file():
        return False
    try:
        with open(entry.path, "rb") as file:
            return looks_like_picture(file.read(16))
    except OSError:
        return False  # unreadable and nameless: nothing says that it is a picture


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)  # a dead link: listed, and fails when it is read
