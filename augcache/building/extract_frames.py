"""extract_frames(): chosen frames of every video of a folder, keyed by their pixels."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xxhash

from augcache.building.batching import check_paths, count_items, open_store
from augcache.building.build_report import Report
from augcache.building.ingest import Ingested, ingest
from augcache.building.spool import Spool
from augcache.building.workers import open_pool
from augcache.errors import SourceError
from augcache.images.keys import content_key
from augcache.paths import is_there
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.records import codec
from augcache.sources import as_local, root_of, sharded, walk
from augcache.sources.regular import open_regular
from augcache.storage.manifest import Source
from augcache.storage.store import Store
from augcache.video.child_process import call_isolated, decode_isolated
from augcache.video.read import Sampling, VideoError

SUFFIXES = frozenset([
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
])  # fmt: skip  # a list of names
TIMEOUT = 20.0  # seconds without a decoded packet until a decoder counts as hung
_SPOOL = "spool-"


@dataclass(frozen=True, slots=True)
class VideoItem:
    """A video file; name, label, size, mtime and path or URL as of an image."""

    name: str
    label: str
    size: int
    mtime_ns: int
    path: str
    reason: str = ""
    """Why there is none: then it stands for a folder that cannot be listed."""


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
            self._items = [VideoItem(self.root.name, "", status.st_size, status.st_mtime_ns, path)]
            return
        found = walk(self.root, lambda name, _: os.path.splitext(name)[1].lower() in SUFFIXES)
        self._items = [VideoItem(*item) for item in found]
        if all(item.reason for item in self._items):
            for item in self._items:
                raise SourceError(f"{self.root}: no videos in what can be listed of it; {item.name} {item.reason}")
            raise SourceError(
                f"{self.root}: no videos in this folder or below it (files named .mp4, .mkv ...); "
                "for images: augcache build-saliency or resize"
            )

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[VideoItem]:
        return iter(self._items)

    def names(self) -> Iterator[str]:
        """Name of every video, in order."""
        return (item.name for item in self._items)

    def some(self, wanted: Callable[[str], bool]) -> Iterator[VideoItem]:
        """Items of the wanted names, in order."""
        return (item for item in self._items if wanted(item.name))

    def __repr__(self) -> str:
        return f"Videos({str(self.root)!r})"


def extract_frames(
    source: str | os.PathLike[str] | Videos,
    recipe: Recipe,
    store: str | os.PathLike[str] | Store | None = None,
    *,
    timeout: float = TIMEOUT,
    workers: int | None = None,
    limit: int | None = None,
    level: int = 9,
    backend: str = "local",
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Store chosen frames of every video.

    Parameters
    ----------
    source : path-like or Videos
        A folder of videos, or one video.
    recipe : Recipe
        ``Recipe("frame", every=100, width=64, height=64, ...)``; see `augcache.transforms.frame`.
    store : path-like or Store, optional
        Default: ``$AUGCACHE_STORE``, else the folder's name with ``.augcache`` beside it.
    timeout : float
        Seconds without a decoded packet until a decoder counts as hung.
    workers, limit, level, backend, scheduler, shard, progress
        As for `build`; `limit` counts videos, and a shard has whole videos.

    Returns
    -------
    Report
        Counts videos.

    Raises
    ------
    SourceError, StoreError, BackendError
        As `build`.

    Notes
    -----
    Frame k is the k-th frame that a full decode presents, turned as the video's rotation asks, as players do. Each
    video is decoded in a process that may hang or die. A video that is damaged is listed as a failure that says
    why; its frames before the damage are kept. A finished video is passed over the next time, one that failed is
    tried again.

    Examples
    --------
    >>> report = extract_frames("films", Recipe("frame", every=4))
    >>> report.total, report.failed
    (1, 0)
    """
    videos = source if isinstance(source, Videos) else Videos(source)
    items = sharded(videos, shard)
    count_items(items, limit)  # before a store is made
    with open_pool(backend, scheduler, workers) as pool:
        check_paths(pool, items)  # before a store is made, as is the connection to the workers
        opened = open_store(videos.root, store)
        for left in opened.path.glob(f"{_SPOOL}*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_SPOOL, dir=opened.path) as folder:
            # Workers elsewhere have no such folder: what comes of a video travels in one piece.
            work = partial(frames_of, recipe, timeout, level, folder if pool.is_local else None)
            return ingest(items, recipe, opened, work, pool, limit=limit, group=1, progress=progress)


def frames_of(recipe: Recipe, timeout: float, level: int, folder: str | None, item: VideoItem) -> Ingested:
    """Worker: the frames of one video."""
    if item.reason:
        return Ingested(reason=item.reason)
    try:
        with as_local(item.path) as path:
            return _frames_of(recipe, timeout, Spool(folder), item, path, level)
    except SourceError as error:
        return Ingested(reason=str(error))


def _frames_of(recipe: Recipe, timeout: float, records: Spool, item: VideoItem, path: str, level: int) -> Ingested:
    params = recipe.params
    size = (params.pop("width"), params.pop("height"))
    fit = params.pop("fit")
    rows: list[Source] = []
    reason = ""
    try:
        digest = call_isolated("augcache.building.extract_frames:digest", path, timeout)
        for frame in decode_isolated(path, Sampling(**params), size if size[0] else None, fit, timeout):
            key = content_key(frame.image)
            records.add(key, codec.encode({"image": frame.image}, level=level))
            rows.append(
                Source(
                    item.name, key, item.size, item.mtime_ns, digest, item.label, frame.index, frame.seconds,
                    frame.rotation,
                )
            )  # fmt: skip  # one row
    except VideoError as error:
        reason = str(error).removeprefix(f"{path}: ")
    except MemoryError:
        reason = "its frames need more memory than there is"
    except OSError as error:  # the spool's, which may be a part of what its places say
        records.discard()
        return Ingested(reason=f"its frames cannot be kept on their way to the store ({error.strerror or error})")
    if not rows and not reason:
        reason = "none of its frames is wanted: it is shorter than the start that was asked for"
    return Ingested(rows, records, reason)


def digest(path: str, progress: Callable[[], None]) -> bytes:
    """Hash a file that may be larger than memory; in the watched process, as a network may stall."""
    hasher = xxhash.xxh3_128()
    with open_regular(path) as file:
        try:
            while block := file.read(1 << 22):
                hasher.update(block)
                progress()
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror or error}") from error
    return hasher.digest()
