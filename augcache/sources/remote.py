"""Files by URL, in object storage and wherever else fsspec reaches. Imports fsspec, alone."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash

from augcache.errors import SourceError

# The extra that brings what reads a kind of URL.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}

# Name relative to the root, first-level folder, size, stamp, and URL.
File = tuple[str, str, int, int, str]


def is_url(path: Any) -> bool:
    """Whether a source is named by a URL."""
    return isinstance(path, str) and re.match(r"[A-Za-z][\w+.-]*://", path) is not None


def root_of(source: str | os.PathLike[str]) -> Path | str:
    """Return the path of a folder or file of this machine, of ``file://`` too; a URL as it is."""
    if isinstance(source, str) and is_url(source):
        return source if not source.startswith("file://") else Path(source.removeprefix("file://"))
    return Path(source)


def walk_url(root: str, wanted: Callable[[str, Callable[[], bytes]], bool]) -> list[File]:
    """List the files under a URL, as `augcache.sources.walk` does those under a folder.

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
    pending = [(start, "")]
    try:
        while pending:
            folder, prefix = pending.pop()
            for entry in system.ls(folder, detail=True):
                path = entry["name"].rstrip("/")
                name = path.rsplit("/", 1)[-1]
                if path == folder.rstrip("/") or name.startswith(".") or name.endswith(".augcache"):
                    continue  # an object that stands for the folder itself, and what a folder's listing passes over
                if entry["type"] == "directory":
                    pending.append((path, f"{prefix}{name}/"))
                elif wanted(name, functools.partial(system.cat_file, path, 0, 16)):
                    url, size = f"{root.rstrip('/')}/{prefix}{name}", int(entry["size"] or 0)
                    found.append((prefix + name, prefix.split("/", 1)[0], size, stamp(entry), url))
    except FileNotFoundError as error:
        raise SourceError(f"{root}: nothing there; check the bucket and the prefix") from error
    except Exception as error:  # each file system raises errors of its own library
        raise SourceError(
            f"{root}: cannot be listed ({_said(error)}); check its address and your credentials"
        ) from error
    return sorted(found, key=lambda file: file[0].encode("utf-8", "surrogateescape"))


def read_url(url: str) -> bytes:
    """Bytes of a file; raises `SourceError`."""
    system, path = _open(url)
    try:
        return bytes(system.cat_file(path))
    except FileNotFoundError as error:
        raise SourceError("cannot be read: no such object") from error
    except Exception as error:  # each file system raises errors of its own library
        raise SourceError(f"cannot be read: {_said(error)}") from error


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
            system.get_file(remote, local)
        except Exception as error:  # each file system raises errors of its own library
            raise SourceError(f"cannot be read: {_said(error)}") from error
        yield local


def _open(url: str) -> tuple[Any, str]:
    scheme = url.split("://", 1)[0].lower()
    try:
        system = _system(scheme, url if "@" in url or scheme in ("http", "https") else "")
        return system, system._strip_protocol(url)
    except (ImportError, ValueError) as error:
        extra = _EXTRAS.get(scheme)
        todo = f"pip install 'augcache[{extra}]'" if extra else "install the fsspec package for it"
        raise SourceError(f"{url}: {scheme}:// cannot be read here ({_said(error)}): {todo}") from error


@functools.lru_cache(maxsize=8)
def _system(scheme: str, url: str) -> Any:
    """Open a file system, once in a process; its settings are fsspec's (environment, ~/.config/fsspec)."""
    import fsspec

    # Listings are read once, and those of millions of objects must not stay in memory.
    if url:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    return fsspec.filesystem(scheme, use_listings_cache=False)


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
