"""CIFAR-10, CIFAR-100 and STL-10 as they are downloaded: many pictures of one size in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from augcache.errors import SourceError
from augcache.images import MAX_PIXELS
from augcache.sources.items import Item, Pictures, Views
from augcache.sources.pickle_layout import Place, read_layout

SPLITS = ("train", "test", "unlabeled")


@dataclass(frozen=True)
class _Batch:
    """Pictures that lie one after the other in a file.

    Attributes
    ----------
    path : Path
    side : int
        Pixels of a picture's side; it is stored plane by plane.
    start, stride : int
        Byte at which the first picture starts, and bytes from one to the next.
    labels : list of str
        One a picture.
    transposed : bool
        Whether a plane is stored column by column.
    """

    path: Path
    side: int
    start: int
    stride: int
    labels: list[str]
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class PackedItem(Item):
    """A picture inside a file of many."""

    path: str = ""
    offset: int = 0
    side: int = 32
    transposed: bool = False

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:  # noqa: ARG002  # they are small
        """Read the picture's bytes and bring them into the usual order."""
        count = 3 * self.side * self.side
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(count)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error
        if len(data) < count:
            raise SourceError("the file ends within this picture")
        planes = np.frombuffer(data, np.uint8).reshape(3, self.side, self.side)
        pixels = np.ascontiguousarray(planes.transpose(2, 1, 0) if self.transposed else planes.transpose(1, 2, 0))
        return Views(pixels, pixels, xxhash.xxh3_128_digest(data))


class Packed(Pictures):
    """The pictures of a CIFAR-10, CIFAR-100 or STL-10 folder, binary or Python version.

    Parameters
    ----------
    root : path-like
        The folder that the download unpacks to, such as ``cifar-10-batches-bin`` or ``stl10_binary``.
    split : {"train", "test", "unlabeled"}
        Which pictures; "unlabeled" is STL-10's.

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
            raise SourceError(f"{self.root}: no {split} pictures of CIFAR or STL-10 here; give another split")

    def __len__(self) -> int:
        return sum(len(batch.labels) for batch in self._batches)

    def __iter__(self) -> Iterator[PackedItem]:
        for batch in self._batches:
            status = batch.path.stat()
            for index, label in enumerate(batch.labels):
                yield PackedItem(
                    f"{batch.path.name}/{index:06d}", label, status.st_size, status.st_mtime_ns,
                    os.path.abspath(batch.path), batch.start + index * batch.stride, batch.side, batch.transposed,
                )  # fmt: skip  # one field of the base a word

    def __repr__(self) -> str:
        return f"Packed({str(self.root)!r}, {self.split!r})"


def is_packed(root: Path) -> bool:
    """Whether a folder is one of these data sets."""
    markers = ("data_batch_1.bin", "data_batch_1", "test_batch.bin", "test_batch", "train_X.bin", "unlabeled_X.bin")
    hundred = all((root / name).is_file() for name in ("train.bin", "fine_label_names.txt"))
    hundred = hundred or all((root / name).is_file() for name in ("train", "meta"))
    return hundred or any((root / name).is_file() for name in markers)


def _batches(root: Path, split: str) -> list[_Batch]:
    ten = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}.get(split, [])
    hundred = [split] if split != "unlabeled" else []
    found = [root / f"{split}_X.bin"]
    if found[0].is_file():
        return [_stl(root, split)]
    found = [root / f"{name}.bin" for name in ten if (root / f"{name}.bin").is_file()]
    if found:
        names = _names(root / "batches.meta.txt")
        return [_binary(path, names, 1) for path in found]
    found = [root / f"{name}.bin" for name in hundred if (root / f"{name}.bin").is_file()]
    if found:
        names = _names(root / "fine_label_names.txt")
        return [_binary(path, names, 2) for path in found]
    found = [root / name for name in ten if (root / name).is_file()]
    if found:
        names = _pickled_names(root / "batches.meta", "label_names")
        return [_pickled(path, names, "labels") for path in found]
    names = _pickled_names(root / "meta", "fine_label_names") if hundred and (root / "meta").is_file() else []
    return [_pickled(root / name, names, "fine_labels") for name in hundred if (root / name).is_file() and names]


def _names(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _named(numbers: list[int], names: list[str], path: Path) -> list[str]:
    wrong = next((number for number in numbers if not isinstance(number, int) or not 0 <= number < len(names)), None)
    if wrong is not None:
        raise SourceError(f"{path}: label {wrong!r} is none of its {len(names)} classes; is this the whole file?")
    return [names[number] for number in numbers]


def _binary(path: Path, names: list[str], labels: int) -> _Batch:
    """CIFAR's binary version: `labels` bytes, of which the last counts, before each picture."""
    stride = labels + 3 * 32 * 32
    size = path.stat().st_size
    if size == 0 or size % stride:
        raise SourceError(f"{path}: {size} bytes are no whole number of records of {stride}; download it again")
    numbers = np.memmap(path, np.uint8, "r").reshape(-1, stride)[:, labels - 1].tolist()
    return _Batch(path, 32, labels, stride, _named(numbers, names, path))


def _stl(root: Path, split: str) -> _Batch:
    path, labels = root / f"{split}_X.bin", root / f"{split}_y.bin"
    stride = 3 * 96 * 96
    count, rest = divmod(path.stat().st_size, stride)
    if rest or not count:
        raise SourceError(f"{path}: {path.stat().st_size} bytes are no whole number of pictures of {stride}")
    if not labels.is_file():
        return _Batch(path, 96, 0, stride, [""] * count, transposed=True)
    numbers = [number - 1 for number in labels.read_bytes()]  # stored from 1 to 10
    if len(numbers) != count:
        raise SourceError(f"{labels}: {len(numbers)} labels for {count} pictures; download it again")
    return _Batch(path, 96, 0, stride, _named(numbers, _names(root / "class_names.txt"), labels), transposed=True)


def _pickled_names(path: Path, key: str) -> list[str]:
    names = read_layout(path.read_bytes(), str(path)).get(key)
    if not isinstance(names, list):
        raise SourceError(f"{path}: it has no {key!r}")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _pickled(path: Path, names: list[str], key: str) -> _Batch:
    """CIFAR's Python version: all labels, and all pictures as rows of one array."""
    layout = read_layout(path.read_bytes(), str(path))
    numbers, place = layout.get(key), layout.get("data")
    if not isinstance(numbers, list) or not isinstance(place, Place):
        raise SourceError(f"{path}: it has no {key!r} or no 'data'; is it a batch of CIFAR's Python version?")
    if place.length != len(numbers) * 3072:
        raise SourceError(f"{path}: {place.length} bytes of pictures for {len(numbers)} labels; download it again")
    return _Batch(path, 32, place.start, 3072, _named(numbers, names, path))
