"""Where pictures come from: a folder, or a data set in memory; each picture becomes an `Item`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from augcache.errors import SourceError
from augcache.images import SUFFIXES, Least, as_pixels, decode_small, decode_views, looks_like_picture


@dataclass(frozen=True, slots=True)
class Views:
    """The pixels of one item: as a viewer shows them, as a plain loader reads them, and the file's digest."""

    seen: np.ndarray
    plain: np.ndarray
    digest: bytes


@dataclass(frozen=True, slots=True)
class Item(ABC):
    """One picture of a source, small enough to send to a worker, which loads it.

    Attributes
    ----------
    name : str
        What names it in its source; a folder-relative path with ``/`` for a file.
    label : str
        Class name; empty where there is none.
    size, mtime_ns : int
        State of the file; 0 where there is no file.
    """

    name: str
    label: str = ""
    size: int = 0
    mtime_ns: int = 0

    @abstractmethod
    def load(self) -> Views:
        """Read and decode the picture; raises `SourceError`."""

    def load_small(self, least: Least, max_pixels: int) -> tuple[np.ndarray, bytes]:  # noqa: ARG002  # for those who can
        """Pixels as a viewer shows them, perhaps fewer (`images.decode_small`), and the file's digest."""
        views = self.load()
        height, width = views.seen.shape[:2]
        if width * height > max_pixels:
            raise SourceError(f"{width} x {height} pixels; the most is {max_pixels}")
        return views.seen, views.digest


@dataclass(frozen=True, slots=True)
class FileItem(Item):
    """A picture in a file."""

    path: str = ""

    def load(self) -> Views:
        """Read the file once, for its digest and its pixels."""
        data = self.read()
        seen, plain = decode_views(data)
        return Views(seen, plain, xxhash.xxh3_128_digest(data))

    def load_small(self, least: Least, max_pixels: int) -> tuple[np.ndarray, bytes]:
        """Read the file once, and decode no more of it than is needed."""
        data = self.read()
        return decode_small(data, least, max_pixels=max_pixels), xxhash.xxh3_128_digest(data)

    def read(self) -> bytes:
        """Bytes of the file; raises `SourceError`."""
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class ArrayItem(Item):
    """A picture that is in memory, and travels to the worker as it is."""

    image: Any = None

    def load(self) -> Views:
        """Take the pixels."""
        pixels = as_pixels(self.image)
        return Views(pixels, pixels, bytes(16))


class Folder:
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
        if not self.root.exists():
            raise SourceError(f"{self.root}: no such folder; check the path")
        if not self.root.is_dir():
            raise SourceError(f"{self.root}: a file, not a folder; give the folder that the pictures are in")
        # Sorted as the manifest sorts them, so that "the first ten" means the same everywhere.
        self._files = sorted(self._walk(), key=lambda file: os.fsencode(file.name))
        if not self._files:
            raise SourceError(
                f"{self.root}: no pictures in this folder or below it; files count by their suffix (.jpg, .png ...)"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileItem]:
        return iter(self._files)

    def _walk(self) -> Iterator[FileItem]:
        visited: set[tuple[int, int]] = set()
        pending = [(str(self.root), "")]
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
                elif _is_picture(entry):
                    status = _status(entry)
                    yield FileItem(
                        prefix + entry.name, prefix.split("/", 1)[0], status.st_size, status.st_mtime_ns, entry.path
                    )

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r})"


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


class MapDataset:
    """The pictures of a map-style data set: ``dataset[i]`` is a picture, or a tuple that starts with one.

    Parameters
    ----------
    dataset : object
        With ``__len__`` and ``__getitem__``, such as a torchvision data set without a transform, or a list of arrays.
    """

    def __init__(self, dataset: Any) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise SourceError(
                f"a {type(dataset).__name__} is no source of pictures: give a folder, or a data set with "
                "__len__ and __getitem__"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Item]:
        for index in range(len(self.dataset)):
            image = self.dataset[index]
            label = ""
            if isinstance(image, tuple | list):
                label = str(image[1]) if len(image) > 1 and isinstance(image[1], int | str) else ""
                image = image[0]
            yield ArrayItem(f"{index:09d}", label, image=image)

    def __repr__(self) -> str:
        return f"MapDataset({type(self.dataset).__name__})"


def open_source(source: Any) -> Folder | MapDataset:
    """Return the source for a folder's path, or for a data set."""
    if isinstance(source, Folder | MapDataset):
        return source
    return Folder(source) if isinstance(source, str | os.PathLike) else MapDataset(source)
