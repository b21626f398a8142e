"""Files by URL, in object storage and wherever else fsspec reaches. Imports fsspec, alone."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from augcache.errors import SourceError
from augcache.sources import retries
from augcache.sources.passed_over import is_passed_over
from augcache.sources.regular import LARGEST
from augcache.sources.retries import ask, said

# The extra that brings what reads a kind of URL.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}


class File(NamedTuple):
    """What a listing says of a file: `name` is relative to the root, `label` the first-level folder."""

    name: str
    label: str
    size: int
    mtime_ns: int
    path: str
    reason: str = ""
    """Why it cannot be listed: then it stands for a folder, or for a file that could be anything."""


def is_url(path: Any) -> bool:
    """Whether a source is named by a URL."""
    return isinstance(path, str) and re.match(r"[A-Za-z][\w+.-]*://", path) is not None


def root_of(source: str | os.PathLike[str]) -> Path | str:
    """Return the path of a folder or file of this machine, of ``file://`` too; a URL as it is."""
    if isinstance(source, str) and is_url(source):
        return source if not source.startswith("file://") else Path(source.removeprefix("file://"))
    return Path(source)


class Listed(NamedTuple):
    """What lies under a folder: the files, sorted by name, and the names of its own subfolders, sorted."""

    files: list[File]
    folders: list[str]


def list_url(root: str, wanted: Callable[[str, Callable[[], bytes]], bool]) -> Listed:
    """List what lies under a URL, as `augcache.sources.folder.list_folder` does under a folder.

    Parameters
    ----------
    root : str
        Such as ``s3://bucket/prefix``.
    wanted : callable
        Called with a file's name and a function that gives its first bytes.

    Raises
    ------
    SourceError
        If there is nothing, or it cannot be listed.
    """
    system, start = _open(root)
    found: list[File] = []
    first: list[str] = []
    pending = [(start, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = ask(system, "ls", folder, detail=True, limit=retries.LISTING)
        except Exception as error:  # each file system raises errors of its own library
            if not prefix:
                raise _not_listed(root, error) from error
            found.append(File(prefix, prefix.split("/", 1)[0], 0, 0, "", f"cannot be listed: {said(error)}"))
            continue
        for entry in entries:
            path = entry["name"].rstrip("/")
            name = path.rsplit("/", 1)[-1]
            if path == folder.rstrip("/") or is_passed_over(name):
                continue  # an object that stands for the folder itself, and what a folder's listing passes over
            if entry["type"] == "directory":
                pending.append((path, f"{prefix}{name}/"))
                first += [] if prefix else [name]
            else:
                url, size = f"{root.rstrip('/')}/{prefix}{name}", int(entry["size"] or 0)
                file = File(prefix + name, prefix.split("/", 1)[0], size, stamp(entry), url)
                found += _if_wanted(file, name, wanted, partial(_head, system, path))
    return Listed(sorted(found, key=lambda file: file.name.encode("utf-8", "surrogateescape")), sorted(first))


def _not_listed(root: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{root}: nothing there; check the bucket and the prefix")
    return SourceError(f"{root}: cannot be listed ({said(error)}); check its address and your credentials")


def _if_wanted(
    file: File, name: str, wanted: Callable[[str, Callable[[], bytes]], bool], head: Callable[[], bytes]
) -> list[File]:
    try:
        return [file] if wanted(name, head) else []
    except SourceError as error:  # whether it is an image is not known
        return [file._replace(path="", reason=str(error))]


def _head(system: Any, path: str) -> bytes:
    try:
        return bytes(ask(system, "cat_file", path, start=0, end=16, limit=retries.PATIENCE))
    except FileNotFoundError:
        return b""  # it went while the rest was listed
    except Exception as error:  # each file system raises errors of its own library
        raise SourceError(f"cannot be read: {said(error)}") from error


def read_url(url: str, size: int = 0) -> bytes:
    """Bytes of a file, at least `size` of them; raises `SourceError`."""
    if size > LARGEST:
        raise SourceError(f"cannot be read: its {size} bytes are more than an image file has ({LARGEST})")
    system, path = _open(url)
    try:
        data = bytes(ask(system, "cat_file", path, limit=retries.limit_of(size)))
    except FileNotFoundError as error:
        raise SourceError("cannot be read: no such object") from error
    except Exception as error:  # each file system raises errors of its own library
        raise SourceError(f"cannot be read: {said(error)}") from error
    if len(data) < size:
        raise SourceError(f"cannot be read: {len(data)} bytes came, of {size} when it was listed; run it again")
    return data


def stamp(entry: dict[str, Any]) -> int:
    """Return what stands for an object's modification time in the manifest.

    Of an object that has an ETag, a negative number made of that, which changes with the object and not when it is
    copied to another bucket; of others, the time in nanoseconds since 1970, or -1 where there is none.
    """
    etag = entry.get("ETag") or entry.get("etag")
    if etag:
        return -2 - (xxhash.xxh3_64_intdigest(str(etag).strip('"').encode()) >> 2)
    for field in ("mtime", "LastModified", "last_modified", "updated", "created"):
        time: Any = entry.get(field)
        seconds = time.timestamp() if hasattr(time, "timestamp") else time
        if isinstance(seconds, int | float) and seconds > 0:
            return int(seconds * 1e9)
    return -1


@contextlib.contextmanager
def as_local(path: str) -> Iterator[str]:
    """Have a file on this machine for as long as the block runs, for libraries that read nothing else.

    Raises
    ------
    SourceError
        If it cannot be fetched.
    """
    if not is_url(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="augcache-") as folder:
        local = os.path.join(folder, "file" + os.path.splitext(path)[1])
        system, remote = _open(path)
        try:
            ask(system, "get_file", remote, local, limit=retries.PATIENCE, alive=partial(_size, local))
        except Exception as error:  # each file system raises errors of its own library
            raise SourceError(f"cannot be read: {said(error)}") from error
        yield local


def _open(url: str) -> tuple[Any, str]:
    scheme = url.split("://", 1)[0].lower()
    try:
        system = _system(scheme, url if "@" in url or scheme in ("http", "https") else "")
        return system, system._strip_protocol(url)
    except (ImportError, ValueError) as error:
        extra = _EXTRAS.get(scheme)
        todo = f"pip install 'augcache[{extra}]'" if extra else "install the fsspec package for it"
        raise SourceError(f"{url}: {scheme}:// cannot be read here ({said(error)}): {todo}") from error


@lru_cache(maxsize=8)
def _system(scheme: str, url: str) -> Any:
    """Open a file system, once in a process; its settings are fsspec's (environment, ~/.config/fsspec)."""
    import fsspec

    # Listings are read once, and those of millions of objects must not stay in memory.
    settings: dict[str, Any] = {"use_listings_cache": False}
    for name, value in _patience(scheme).items():
        if name not in fsspec.config.conf.get(scheme, {}):  # what somebody has set stays so
            settings[name] = value
    return fsspec.core.url_to_fs(url, **settings)[0] if url else fsspec.filesystem(scheme, **settings)


def _patience(scheme: str) -> dict[str, Any]:
    """Return settings with which a file system sees that a server has stalled, in the middle of an object too."""
    if scheme in ("http", "https"):
        import aiohttp  # what fsspec reads these with

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=retries.SILENCE, sock_read=retries.SILENCE)
        return {"client_kwargs": {"timeout": timeout}}
    if scheme in ("s3", "s3a"):
        return {"config_kwargs": {"connect_timeout": retries.SILENCE, "read_timeout": retries.SILENCE}}
    return {}


def _size(path: str) -> int:
    """Bytes of a file that is being written."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
