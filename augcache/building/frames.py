"""Chosen frames of videos, under the keys of their pixels."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import xxhash

from augcache.building.batches import Made
from augcache.building.record_buffer import RecordBuffer
from augcache.errors import SourceError
from augcache.images.keys import content_key
from augcache.recipe import Recipe
from augcache.records import codec
from augcache.sources import as_local
from augcache.sources.regular import open_regular
from augcache.sources.remote import File
from augcache.storage.manifest import Source
from augcache.storage.store import Store
from augcache.transforms.frame import frames
from augcache.video.child_process import call_isolated
from augcache.video.read import VideoError

_BUFFERS = "frames-"


@contextlib.contextmanager
def folder_for_buffers(store: Store) -> Iterator[str]:
    """Make a folder in a store for what workers hold of a video before it is committed."""
    for left in store.path.glob(f"{_BUFFERS}*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_BUFFERS, dir=store.path) as folder:
        yield folder


def frames_of(recipe: Recipe, timeout: float, level: int, folder: str | None, item: File, _most: int = 0) -> Made:
    """Worker: the frames of one video; one that is damaged gives those before the damage, and the reason."""
    if item.reason:
        raise SourceError(item.reason)
    with as_local(item.path) as path:
        return _frames_of(recipe, timeout, RecordBuffer(folder), item, path, level)


def _frames_of(recipe: Recipe, timeout: float, records: RecordBuffer, item: File, path: str, level: int) -> Made:
    rows: list[Source] = []
    reason = ""
    try:
        digest = call_isolated("augcache.building.frames:digest", path, timeout)
        for frame in frames(path, timeout, **recipe.params):
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
    except OSError as error:  # the buffer's, which may hold a part of what it says
        records.discard()
        raise SourceError(f"its frames cannot be kept on their way to the store ({error.strerror or error})") from error
    if not rows and not reason:
        reason = "none of its frames is wanted: it is shorter than the start that was asked for"
    return Made(rows, records, reason=reason)


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
