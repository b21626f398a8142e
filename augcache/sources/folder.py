"""Folders of images, on this machine or by URL."""

from __future__ import annotations

import errno
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from augcache.errors import SourceError, SourceWarning
from augcache.images.decode import SUFFIXES, looks_like_image
from augcache.paths import is_folder, is_there
from augcache.sources.items import BrokenItem, FileItem, Images
from augcache.sources.passed_over import is_passed_over
from augcache.sources.regular import open_regular
from augcache.sources.remote import File, Listed, list_url, root_of
from augcache.text import printable

# Folders that all link to one another have more names than could ever be listed.
MOST_WAYS = 100_000


class Folder(Images):
    """Every image under a folder, sorted by name; the label is the first-level subfolder.

    Files count by their suffix, files without one by their first bytes. Hidden files, stores and what systems leave in
    folders (``@eaDir``, ``__MACOSX``) are passed over; links to folders are followed, but not back to a folder that
    they lie in. A subfolder that cannot be listed is a `BrokenItem`.

    Parameters
    ----------
    root : path-like
        The folder; or the URL of one, such as ``s3://bucket/prefix``, for which fsspec has a file system.

    Raises
    ------
    SourceError
        If there is no such folder.

    Notes
    -----
    The classes are the subfolders of the first level, also empty ones, sorted: those of torchvision's
    ``ImageFolder(allow_empty=True)``, with the same numbers. Images that lie beside such subfolders, or where there
    are none, are of one more class, the last, whose name is empty.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root_of(root)
        listed = list_folder(self.root, _is_image)
        beside = any(not file.reason and "/" not in file.name for file in listed.files)
        self._classes = (*listed.folders, "") if beside else tuple(listed.folders)
        _warn_of_twins(self.root, self._classes)
        number = {name: index for index, name in enumerate(self._classes)}
        self._files: list[FileItem | BrokenItem] = [
            BrokenItem(file.name, file.label, reason=file.reason, target=number.get(file.label))
            if file.reason
            else FileItem(*file[:5], target=number[file.label])
            for file in listed.files
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
    def classes(self) -> tuple[str, ...]:
        """Names of the subfolders."""
        return self._classes

    @property
    def broken(self) -> list[BrokenItem]:
        """What cannot be listed."""
        return [file for file in self._files if isinstance(file, BrokenItem)]

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r})"


Head = Callable[[], bytes]  # gives a file's first bytes


def walk(root: Path | str, wanted: Callable[[str, Head], bool]) -> list[File]:
    """List the files under a folder; see `list_folder`."""
    return list_folder(root, wanted).files


def list_folder(root: Path | str, wanted: Callable[[str, Head], bool]) -> Listed:
    """List the files under a folder: name relative to it, first-level subfolder, size, mtime in ns, and path or URL.

    `wanted` is called with a file's name and a function that gives its first bytes; of a URL, see `remote.stamp` for
    what stands for the time. A subfolder that cannot be listed stands in the list with its reason, without size or
    path.
    Sorted as the manifest sorts them, so that "the first ten" means the same everywhere. For what is left out, see
    `passed_over`; links to folders are followed, as often as a folder is linked, but for those to a folder that they
    lie in. Raises `SourceError` where there is no folder, or it cannot be listed itself.
    """
    if isinstance(root, str):
        return list_url(root, wanted)
    if not is_there(root, SourceError):
        raise SourceError(f"{root}: no such folder; check the path")
    if not is_folder(root, SourceError):
        raise SourceError(f"{root}: a file, not a folder; give the folder that it is in")
    found: list[File] = []
    first: list[str] = []
    times: Counter[_Identity] = Counter()
    pending: list[_Folder] = [(os.path.abspath(root), "", ())]  # a worker may have another current folder
    while pending:
        folder, prefix, above = pending.pop()
        try:
            files, folders = _inside(folder, prefix, above, wanted, times)
        except OSError as error:
            if not prefix:
                raise SourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
            if not isinstance(error, FileNotFoundError):  # else it went while its parent was listed
                found.append(_broken(prefix, f"cannot be listed: {error.strerror or error}"))
            continue
        found += files
        pending += folders
        first += [below for _, below, _ in folders if not prefix]
    return Listed(sorted(found, key=lambda file: os.fsencode(file.name)), sorted(name[:-1] for name in first))


_Identity = tuple[int, int]  # device and number
_Folder = tuple[str, str, tuple[_Identity, ...]]  # path, prefix, and the folders that it lies in


def _inside(
    folder: str,
    prefix: str,
    above: tuple[_Identity, ...],
    wanted: Callable[[str, Head], bool],
    times: Counter[_Identity],
) -> tuple[list[File], list[_Folder]]:
    """Files of a folder, and its subfolders; raises OSError where these cannot be told."""
    files: list[File] = []
    folders: list[_Folder] = []
    own = os.stat(folder)
    identity = own.st_dev, own.st_ino
    within = (*above, identity)
    times[identity] += 1
    if times[identity] > MOST_WAYS:
        raise SourceError(f"{folder}: links lead to this folder in more than {MOST_WAYS} ways; take some away")
    with os.scandir(folder) as entries:
        listed = [each for each in entries if not is_passed_over(each.name)]
    for entry in listed:
        reason = ""
        try:
            below = entry.is_dir()
        except OSError as error:  # a link; behind one to itself there is nothing
            below, reason = False, "" if error.errno == errno.ELOOP else f"cannot be followed: {error.strerror}"
        if below:
            if not _is_loop(entry, within):
                folders.append((entry.path, f"{prefix}{entry.name}/", within))
        elif wanted(entry.name, partial(_head, entry)):
            status = _status(entry)
            if status is not None:
                label = prefix.split("/", 1)[0]
                files.append(File(prefix + entry.name, label, status.st_size, status.st_mtime_ns, entry.path))
        elif reason:
            files.append(_broken(f"{prefix}{entry.name}/", reason))
    return files, folders


def _warn_of_twins(root: Path | str, classes: tuple[str, ...]) -> None:
    """Warn of classes whose names look alike: one accent in two Unicode forms, as macOS and others write it."""
    form = partial(unicodedata.normalize, "NFC")
    alike = [list(names) for _, names in groupby(sorted(classes, key=form), key=form)]
    twins = [" and ".join(map(ascii, names)) for names in alike if len(names) > 1]
    if twins:
        warnings.warn(
            f"{printable(str(root))}: {', '.join(twins)} differ only in their Unicode form, and are classes of their "
            "own; where they are meant to be one, give both the same name",
            SourceWarning,
            stacklevel=3,
        )


def _is_loop(entry: os.DirEntry[str], within: tuple[_Identity, ...]) -> bool:
    """Whether a folder is one that it lies in itself, by a link or a mount."""
    try:
        status = entry.stat()
    except OSError:
        return False  # why it cannot be followed is told when it is listed
    return (status.st_dev, status.st_ino) in within


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
