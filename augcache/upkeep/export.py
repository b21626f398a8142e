"""export(): the images of a store as files, for people and loaders that do not read stores."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from PIL import Image

from augcache.building.engines.engine import cpu_count
from augcache.errors import RecipeError, SourceError, StoreError
from augcache.images.keys import content_key
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.storage.choose_recipe import choose
from augcache.storage.manifest import DECODED, Source
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.training.lookup import gives
from augcache.training.views import NEEDS, render
from augcache.transforms.resize import pixels
from augcache.upkeep.originals import file_of, originals_folder
from augcache.upkeep.shards import SHARD_IMAGES, Sample, import_arrow, parquet_shard, tar_shard
from augcache.whole_file import write_whole

if sys.platform != "win32":
    import fcntl

VIEWS = (*NEEDS, "image")
FORMATS = ("png", "webdataset", "parquet")
_MARK, _INDEX = "_export.json", "index.json"  # readers of a folder of parquet files pass over a name that starts with _
_LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255
_TOGETHER = 64  # images encoded at a time


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes
    ----------
    directory, format, view : str
        Where, and what.
    recipe : str
        Digest of the recipe, as hex.
    total, written, kept : int
        Images; those that were written now, and those that an earlier run had written.
    seconds : float
        Wall time.
    """

    directory: str
    format: str
    view: str
    recipe: str
    total: int
    written: int
    kept: int
    seconds: float


def export(
    store: str | os.PathLike[str] | Store,
    directory: str | os.PathLike[str],
    *,
    view: str | None = None,
    format: str = "png",
    recipe: Recipe | str | None = None,
    source: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Exported:
    """Write one image for every row of the manifest.

    Parameters
    ----------
    store : path-like or Store
        What to export.
    directory : path-like
        Made where it is not there; else empty, or of an earlier run of the same export, which is finished.
    view : {"segments", "saliency", "cut", "cutout", "image"}, optional
        "segments" is written as an index map with its palette (PNG mode P), which any viewer shows in colour, where
        there are at most 256; "saliency" and "cut" are grey; "image" is a resized copy. Default: segments, or image in
        a store that has none.
    format : {"png", "webdataset", "parquet"}
        A folder ``CLASS/KEY.png`` with ``index.json``, which has the source and the class of each; tar shards for
        WebDataset; or parquet files, which ``datasets.load_dataset("parquet", data_dir=...)`` reads with images and
        class labels, and ``pandas.read_parquet(directory)`` as a table.
    recipe : Recipe or str, optional
        Which, where the store holds several that fit: the recipe, the name of its transform, or the start of its
        digest in hex.
    source : path-like, optional
        Folder of the originals, for "cutout". Default: the store's name without ``.augcache``.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Exported

    Raises
    ------
    StoreError
        If the store holds no such images, or `directory` holds something else.
    SourceError
        If an original or a package is missing.

    Examples
    --------
    >>> export("images.augcache", "out", view="segments").written
    4
    """
    started = time.monotonic()
    store = open_store(store)
    if format not in FORMATS:
        raise RecipeError(f"no export format {format!r}: give one of {', '.join(FORMATS)}")
    if format == "parquet":
        import_arrow()  # before anything is written
    view, chosen = _choose(store, view, recipe)
    rows = [row for prefix in (DECODED, chosen.digest) for row in store.sources(prefix)]
    present = store.has(chosen.digest, [row.key for row in rows])
    rows = [row for row, there in zip(rows, present, strict=True) if there]
    if not rows:
        raise StoreError(f"{store.path}: no images in its manifest; build it from a folder first")
    folder = originals_folder(store.path, source) if view == "cutout" else None
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise StoreError(f"{directory}: a file, not a folder; give another name for the export")
    work = _Export(store, Path(directory), chosen, view, format, rows, folder, Progress(len(rows)), progress)
    try:
        with _alone(work.directory):
            work.run()
    except OSError as error:
        reason = f"{error.strerror or error}; what is finished is kept, mend that and run the same command again"
        raise StoreError(f"{directory}: cannot be written: {reason}") from error
    counts = work.counts
    return Exported(
        str(directory), format, view, chosen.digest.hex(), len(rows), counts.computed, counts.reused,
        time.monotonic() - started,
    )  # fmt: skip  # counts in a row


def _choose(store: Store, view: str | None, recipe: Recipe | str | None) -> tuple[str, Recipe]:
    if view is not None and view not in VIEWS:
        raise RecipeError(f"no view {view!r}: give one of {', '.join(VIEWS)}")
    if view is None:
        named = [choose(store, recipe, lambda _: True, "entries")] if recipe is not None else store.recipes()
        view = "segments" if any(gives(store, each, "segments") for each in named) else "image"
    chosen = choose(store, recipe, lambda each: gives(store, each, view), f"the view {view!r}")
    if not gives(store, chosen, view):
        raise StoreError(f"{store.path}: the entries of recipe {chosen.digest.hex()[:8]} give no view {view!r}")
    return view, chosen


@dataclass
class _Export:
    store: Store
    directory: Path
    recipe: Recipe
    view: str
    format: str
    rows: list[Source]
    originals: Path | None
    counts: Progress  # computed: written; reused: there already
    progress: Callable[[Progress], None] | None

    def run(self) -> None:
        self.classes = sorted({row.label for row in self.rows})
        self.targets = {label: index for index, label in enumerate(self.classes)}
        is_same = self.claim()
        with ThreadPoolExecutor(cpu_count()) as pool:
            self.map = pool.map
            if self.format == "png":
                self.write_images()
            else:
                self.write_shards(keep=is_same)

    def claim(self) -> bool:
        """Mark the directory as this export's; returns whether an earlier run had the same images."""
        mark = {"recipe": self.recipe.digest.hex(), "view": self.view, "format": self.format}
        names = "\n".join(f"{row.key.hex()} {row.label} {row.name} {row.frame}" for row in self.rows)
        images = xxhash.xxh3_128_hexdigest(names.encode(errors="surrogateescape"))
        try:
            found = json.loads((self.directory / _MARK).read_bytes())
            if not isinstance(found, dict) or {**found, **mark} != found:
                raise StoreError(f"{self.directory}: holds another export; give another folder")
        except FileNotFoundError:
            found = {}
            if self.directory.exists() and any(self.directory.iterdir()):
                raise StoreError(f"{self.directory}: holds other things; give a new folder") from None
        except ValueError as error:
            raise StoreError(f"{self.directory}: {_MARK} is damaged; give a new folder") from error
        if found.get("images") != images:
            for shard in [*self.directory.glob("*.tar"), *self.directory.glob("*.parquet")]:
                shard.unlink()  # numbered by place, and the places are others now
        write_whole(self.directory / _MARK, json.dumps({**mark, "images": images}, indent=2).encode())
        return found.get("images") == images

    # -- formats --------------------------------------------------------------------------------------------

    def write_images(self) -> None:
        index, folders, taken = [], _folders(self.classes), Counter[str]()
        for group in _groups(list(enumerate(self.rows)), _TOGETHER):
            files = []
            for _, row in group:
                name = f"{folders[row.label]}/{row.key.hex()}".lstrip("/")
                taken[name] += 1  # the same pixels under several names of one class: a file each
                files.append(self.directory / (name + (f"-{taken[name]}.png" if taken[name] > 1 else ".png")))
            fresh = [not _is_whole(file) for file in files]
            for is_fresh, file, data in zip(fresh, files, self.encode(group, fresh), strict=True):
                if is_fresh:
                    file.parent.mkdir(exist_ok=True)
                    write_whole(file, data)
            index += [
                {"file": file.relative_to(self.directory).as_posix(), **_about(row)}
                for file, (_, row) in zip(files, group, strict=True)
            ]
            self.report(sum(fresh), len(group))
        self.remove_others({line["file"] for line in index})
        write_whole(self.directory / _INDEX, json.dumps(index, indent=1).encode())

    def remove_others(self, files: set[str]) -> None:
        """Remove images of an earlier run that are no longer in the manifest, or are of another class by now."""
        for folder in ("", *(path.name for path in self.directory.iterdir() if path.is_dir())):
            for name in os.listdir(self.directory / folder):
                if re.fullmatch(r"[0-9a-f]{32}(-\d+)?\.png", name) and f"{folder}/{name}".lstrip("/") not in files:
                    (self.directory / folder / name).unlink()
            if folder and not os.listdir(self.directory / folder):
                (self.directory / folder).rmdir()

    def write_shards(self, *, keep: bool) -> None:
        shards = list(_groups(list(enumerate(self.rows)), SHARD_IMAGES))
        for number, group in enumerate(shards):
            if self.format == "webdataset":
                file = self.directory / f"shard-{number:06d}.tar"
            else:
                file = self.directory / f"train-{number:05d}-of-{len(shards):05d}.parquet"
            if keep and file.exists():
                self.report(0, len(group))
                continue
            samples: list[Sample] = []
            for some in _groups(group, _TOGETHER):
                for (place, row), data in zip(some, self.encode(some, [True] * len(some)), strict=True):
                    samples.append(Sample(place, data, self.targets[row.label], _about(row)))
                self.report(len(some), len(some))
            is_tar = self.format == "webdataset"
            write_whole(file, tar_shard(samples) if is_tar else parquet_shard(samples, self.classes))
        if self.format == "webdataset":
            write_whole(self.directory / "classes.json", json.dumps(self.classes, indent=1).encode())

    # -- images -------------------------------------------------------------------------------------------

    def encode(self, group: list[tuple[int, Source]], wanted: list[bool]) -> Iterator[bytes]:
        """PNG bytes of each row; empty for one that is not wanted."""
        rows = [row for _, row in group]
        records = self.store.get_many(self.recipe, [row.key for row in rows])
        return iter(list(self.map(self.encode_one, rows, records, wanted)))

    def encode_one(self, row: Source, record: Mapping[str, np.ndarray] | None, wanted: bool) -> bytes:
        if not wanted:
            return b""
        if record is None:
            raise StoreError(f"{self.store.path}: entry {row.key.hex()} was deleted while the export ran")
        original = None if self.originals is None else _original(self.originals, row)
        buffer = io.BytesIO()
        _image(record, self.view, original).save(buffer, "PNG")
        return buffer.getvalue()

    def report(self, written: int, total: int) -> None:
        self.counts.computed += written
        self.counts.reused += total - written
        if self.progress is not None:
            self.progress(self.counts)


def _image(record: Mapping[str, np.ndarray], view: str, original: np.ndarray | None) -> Image.Image:
    if view == "image":
        return Image.fromarray(pixels(record))
    if view == "segments" and record["labels"].dtype == np.uint8:
        image = Image.fromarray(record["labels"])  # mode L; with a palette it is mode P
        image.putpalette(record["palette"][:256].tobytes())
        return image
    rendered = render(record, view, image=original)
    return Image.fromarray(rendered[..., 0] if view in ("saliency", "cut") else rendered)


def _original(folder: Path, row: Source) -> np.ndarray:
    item = file_of(folder, row.name)
    pixels = None if item is None else item.load().seen
    if pixels is None or content_key(pixels) != row.key:
        raise SourceError(f"{folder / row.name}: changed or vanished since the build; run the build again")
    return pixels


def _about(row: Source) -> dict[str, Any]:
    about: dict[str, Any] = {"source": os.fsencode(row.name).decode(errors="backslashreplace"), "label": row.label}
    about["key"] = row.key.hex()
    return about if row.frame is None else {**about, "frame": row.frame, "seconds": row.seconds}


def _folders(labels: Iterable[str]) -> dict[str, str]:
    """Give each class a folder of its own: its name where that serves, else what is left of it with a part of its hash.

    Labels come from the store, and must neither lead out of the directory nor share a folder.
    """
    folders = {label: _folder_name(label) for label in labels}
    if len(set(folders.values())) < len(folders):
        raise StoreError(
            "two classes have names that cannot be told apart as folders; use --format webdataset or parquet"
        )
    return folders


def _folder_name(label: str) -> str:
    name = "".join(char if char.isalnum() or char in " -_.+,()" else "_" for char in label).lstrip(".")
    if name == label and len(name.encode()) <= _LONGEST_NAME and name not in (_MARK, _INDEX):
        return name
    digest = xxhash.xxh3_64_hexdigest(label.encode("utf-8", "surrogatepass"))
    return f"{name.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"


def _is_whole(file: Path) -> bool:
    """Whether a file is there; one without bytes is what a power cut leaves."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Make a directory, and keep other exports out of it for as long as the block runs."""
    directory.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{directory}: another export is writing there; wait for it, and run this again"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(file)


def _groups(rows: list[tuple[int, Source]], size: int) -> Iterator[list[tuple[int, Source]]]:
    iterator = iter(rows)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
