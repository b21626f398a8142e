"""CIFAR-10, CIFAR-100 and STL-10 as they are downloaded: many images of one size in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from augcache.errors import SourceError
from augcache.images.decode import MAX_PIXELS
from augcache.paths import is_there
from augcache.sources.annotations import file_item
from augcache.sources.items import Images, Item, Views
from augcache.sources.pickled import read_pickled
from augcache.sources.regular import open_regular, read_regular

SPLITS = ("train", "test", "unlabeled")


@dataclass(frozen=True)
class _Batch:
    """Images that lie one after the other in a file.

    Attributes
    ----------
    path : Path
    side : int
        Pixels of an image's side; it is stored plane by plane.
    start, stride : int
        Byte at which the first image starts, and bytes from one to the next.
    numbers : list of int or None
        The class of each image, in `names`.
    names : list of str
        All classes.
    count : int
        Number of images.
    transposed : bool
        Whether a plane is stored column by column.
    rows : ndarray or None
        uint8 (N, stride): the images, where the file has to be unpickled for them.
    """

    path: Path
    side: int
    start: int
    stride: int
    numbers: list[int] | None
    names: list[str]
    count: int
    transposed: bool = False
    rows: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class PackedItem(Item):
    """An image inside a file of many; `data` has its bytes where they are known already."""

    path: str = ""
    offset: int = 0
    side: int = 32
    transposed: bool = False
    data: bytes = b""

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:  # noqa: ARG002  # they are small
        """Read the image's bytes and bring them into the usual order."""
        data = self.data or self._read()
        planes = np.frombuffer(data, np.uint8).reshape(3, self.side, self.side)
        pixels = np.ascontiguousarray(planes.transpose(2, 1, 0) if self.transposed else planes.transpose(1, 2, 0))
        return Views(pixels, pixels, xxhash.xxh3_128_digest(data))

    def _read(self) -> bytes:
        count = 3 * self.side * self.side
        try:
            with open_regular(self.path) as file:
                file.seek(self.offset)
                data = file.read(count)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error
        if len(data) < count:
            raise SourceError("the file ends within this image")
        return data


class Packed(Images):
    """The images of a CIFAR-10, CIFAR-100 or STL-10 folder, binary or Python version.

    Parameters
    ----------
    root : path-like
        The folder that the download unpacks to, such as ``cifar-10-batches-bin`` or ``stl10_binary``.
    split : {"train", "test", "unlabeled"}
        Which images; "unlabeled" is STL-10's.

    Raises
    ------
    SourceError
        If the folder is none of these, lacks the split, or a file is not what it should be.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        self.root, self.split = Path(root), split
        if split not in SPLITS:
            raise SourceError(f"split {split!r}: give one of {', '.join(SPLITS)}")
        try:
            self._batches = _batches(self.root, split)
        except OSError as error:
            raise SourceError(f"{error.filename}: cannot be read ({error.strerror})") from error
        if not self._batches:
            raise SourceError(f"{self.root}: no {split} images of CIFAR or STL-10 here; give another split")

    def __len__(self) -> int:
        return sum(batch.count for batch in self._batches)

    def __iter__(self) -> Iterator[PackedItem]:
        for batch in self._batches:
            state = file_item(batch.path, batch.path.name, "")
            for index in range(batch.count):
                number = None if batch.numbers is None else batch.numbers[index]
                yield PackedItem(
                    f"{batch.path.name}/{index:06d}", "" if number is None else batch.names[number], state.size,
                    state.mtime_ns, os.path.abspath(batch.path), batch.start + index * batch.stride, batch.side,
                    batch.transposed, b"" if batch.rows is None else batch.rows[index].tobytes(), target=number,
                )  # fmt: skip  # one field of the base a word

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names in the order of the dataset's own file; None for images without labels."""
        return tuple(self._batches[0].names) or None

    def __repr__(self) -> str:
        return f"Packed({str(self.root)!r}, {self.split!r})"


def is_packed(root: Path) -> bool:
    """Whether a folder is one of these datasets."""
    markers = ("data_batch_1.bin", "data_batch_1", "test_batch.bin", "test_batch", "train_X.bin", "unlabeled_X.bin")
    hundred = all(os.path.isfile(root / name) for name in ("train.bin", "fine_label_names.txt"))
    hundred = hundred or all(os.path.isfile(root / name) for name in ("train", "meta"))
    return hundred or any(os.path.isfile(root / name) for name in markers)


def _batches(root: Path, split: str) -> list[_Batch]:
    ten = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}.get(split, [])
    hundred = [split] if split != "unlabeled" else []
    found = [root / f"{split}_X.bin"]
    if is_there(found[0], SourceError):
        return [_stl(root, split)]
    found = [root / f"{name}.bin" for name in ten if is_there(root / f"{name}.bin", SourceError)]
    if found:
        names = _names(root / "batches.meta.txt")
        return [_binary(path, names, 1) for path in found]
    found = [root / f"{name}.bin" for name in hundred if is_there(root / f"{name}.bin", SourceError)]
    if found:
        names = _names(root / "fine_label_names.txt")
        return [_binary(path, names, 2) for path in found]
    found = [root / name for name in ten if is_there(root / name, SourceError)]
    if found:
        names = _pickled_names(root / "batches.meta", "label_names")
        return [_pickled(path, names, "labels") for path in found]
    names = (
        _pickled_names(root / "meta", "fine_label_names") if hundred and is_there(root / "meta", SourceError) else []
    )
    return [
        _pickled(root / name, names, "fine_labels") for name in hundred if is_there(root / name, SourceError) and names
    ]


def _names(path: Path) -> list[str]:
    try:
        text = _read(path).decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not a list of class names ({error}); download it again") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _open(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error


def _checked(numbers: list[int], names: list[str], path: Path) -> list[int]:
    wrong = next((number for number in numbers if not isinstance(number, int) or not 0 <= number < len(names)), None)
    if wrong is not None:
        raise SourceError(f"{path}: label {wrong!r} is none of its {len(names)} classes; is this the whole file?")
    return numbers


def _binary(path: Path, names: list[str], labels: int) -> _Batch:
    """CIFAR's binary version: `labels` bytes, of which the last counts, before each image."""
    stride = labels + 3 * 32 * 32
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size == 0 or size % stride:
        raise SourceError(f"{path}: {size} bytes are no whole number of records of {stride}; download it again")
    with _open(path) as file:
        numbers = np.memmap(file, np.uint8, "r").reshape(-1, stride)[:, labels - 1].tolist()
    return _Batch(path, 32, labels, stride, _checked(numbers, names, path), names, len(numbers))


def _stl(root: Path, split: str) -> _Batch:
    path, labels = root / f"{split}_X.bin", root / f"{split}_y.bin"
    stride = 3 * 96 * 96
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
    count, rest = divmod(size, stride)
    if rest or not count:
        raise SourceError(f"{path}: {size} bytes are no whole number of images of {stride}")
    if not is_there(labels, SourceError):
        return _Batch(path, 96, 0, stride, None, [], count, transposed=True)
    numbers = [number - 1 for number in _read(labels)]  # stored from 1 to 10
    if len(numbers) != count:
        raise SourceError(f"{labels}: {len(numbers)} labels for {count} images; download it again")
    names = _names(root / "class_names.txt")
    return _Batch(path, 96, 0, stride, _checked(numbers, names, labels), names, count, transposed=True)


def _pickled_names(path: Path, key: str) -> list[str]:
    names = read_pickled(_read(path), str(path)).get(key)
    if not isinstance(names, list):
        raise SourceError(f"{path}: it has no {key!r}")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _pickled(path: Path, names: list[str], key: str) -> _Batch:
    """CIFAR's Python version: all labels, and all images as rows of one array."""
    members = read_pickled(_read(path), str(path))
    numbers, rows = members.get(key), members.get("data")
    if not isinstance(numbers, list) or not isinstance(rows, np.ndarray):
        raise SourceError(f"{path}: it has no {key!r} or no 'data'; is it a batch of CIFAR's Python version?")
    if rows.shape != (len(numbers), 3072):
        raise SourceError(f"{path}: images of shape {rows.shape} for {len(numbers)} labels; download it again")
    return _Batch(path, 32, 0, 3072, _checked(numbers, names, path), names, len(numbers), rows=rows)
