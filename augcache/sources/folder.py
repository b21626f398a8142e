"""Folders of images, on this machine or by URL."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from augcache.errors import SourceError
from augcache.images.decode import SUFFIXES, looks_like_image
from augcache.paths import is_folder, is_there
from augcache.sources.items import BrokenItem, FileItem, Images
from augcache.sources.regular import open_regular
from augcache.sources.remote import File, root_of, walk_url


class Folder(Images):
    """Every image under a folder, sorted by name; the label is the first-level subfolder.

    Files count by their suffix, files without one by their first bytes. Hidden files and stores are passed over;
    links to folders are followed, each folder once. A subfolder that cannot be listed is a `BrokenItem`.

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
        self._files: list[FileItem | BrokenItem] = [
            BrokenItem(file.name, file.label, reason=file.reason) if file.reason else FileItem(*file[:5])
            for file in walk(self.root, _is_image)
        ]
        if not any(isinstance(file, FileItem) for file in self._files):
            for broken in self.broken:
                raise SourceError(f"{self.root}: no images in what can be listed of it; {broken.name} {broken.reason}")
            raise SourceError(
                f"{self.root}: no images in this folder or below it (files named .jpg, .png ...); "
                "of videos, take frames first: augcache extract-frames"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileItem | BrokenItem]:
        return iter(self._files)

    @property
    def broken(self) -> list[BrokenItem]:
        """What cannot be listed."""
        return [file for file in self._files if isinstance(file, BrokenItem)]

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r})"


Head = Callable[[], bytes]  # gives a file's first bytes


def walk(root: Path | str, wanted: Callable[[str, Head], bool]) -> list[File]:
    """List the files under a folder: name relative to it, first-level subfolder, size, mtime in ns, and path or URL.

    `wanted` is called with a file's name and a function that gives its first bytes; of a URL, see `remote.stamp` for
    what stands for the time. A subfolder that cannot be listed stands in the list with its reason, without size or
    path.
    Sorted as the manifest sorts them, so that "the first ten" means the same everywhere. Hidden files and stores are
    passed over; links to folders are followed, each folder once. Raises `SourceError` where there is no folder, or it
    cannot be listed itself.
    """
    if isinstance(root, str):
        return walk_url(root, wanted)
    if not is_there(root, SourceError):
        raise SourceError(f"{root}: no such folder; check the path")
    if not is_folder(root, SourceError):
        raise SourceError(f"{root}: a file, not a folder; give the folder that it is in")
    found: list[File] = []
    visited: set[tuple[int, int]] = set()
    pending = [(os.path.abspath(root), "")]  # a worker may have another current folder
    while pending:
        folder, prefix = pending.pop()
        try:
            files, folders = _inside(folder, prefix, wanted, visited)
        except OSError as error:
            if not prefix:
                raise SourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
            if not isinstance(error, FileNotFoundError):  # else it went while its parent was listed
                found.append(_broken(prefix, f"cannot be listed: {error.strerror or error}"))
            continue
        found += files
        pending += folders
    return sorted(found, key=lambda file: os.fsencode(file.name))


def _inside(
    folder: str, prefix: str, wanted: Callable[[str, Head], bool], visited: set[tuple[int, int]]
) -> tuple[list[File], list[tuple[str, str]]]:
    """Files of a folder, and path and prefix of its subfolders; raises OSError where these cannot be told."""
    files: list[File] = []
    folders: list[tuple[str, str]] = []
    own = os.stat(folder)
    if (own.st_dev, own.st_ino) in visited:
        return files, folders
    with os.scandir(folder) as entries:
        listed = [each for each in entries if not each.name.startswith(".") and not each.name.endswith(".augcache")]
    visited.add((own.st_dev, own.st_ino))
    for entry in listed:
        reason = ""
        try:
            below = entry.is_dir()
        except OSError as error:  # a link; behind one to itself there is nothing
            below, reason = False, "" if error.errno == errno.ELOOP else f"cannot be followed: {error.strerror}"
        if below:
            folders.append((entry.path, f"{prefix}{entry.name}/"))
        elif wanted(entry.name, partial(_head, entry)):
            status = _status(entry)
            if status is not None:
                label = prefix.split("/", 1)[0]
                files.append(File(prefix + entry.name, label, status.st_size, status.st_mtime_ns, entry.path))
        elif reason:
            files.append(_broken(f"{prefix}{entry.name}/", reason))
    return files, folders


def _broken(name: str, reason: str) -> File:
    return File(name, name.split("/", 1)[0], 0, 0, "", reason)


def _is_image(name: str, head: Head) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return True
    return not suffix and looks_like_image(head())


def _head(entry: os.DirEntry[str]) -> bytes:
    try:
        with open_regular(entry.path) as file:
            return file.read(16)
    except (OSError, SourceError):
        return b""  # unreadable and nameless: nothing says that it is an image


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """State of a file; of a link that leads nowhere its own, for it is listed and fails when it is read."""
    try:
        return entry.stat()
    except OSError:
        try:
            return entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # it went while the folder was listed
