"""Which state of a data file is known to be sound, so that a store is checked once and then opens fast.

A stamp beside the data file names the state that was checked, or that this library's own commit has left: inode, size,
and the times of the last write and of the last change of any kind. The last cannot be set by hand, so a store that came
from elsewhere, a copy, and a file that something else has written to do not fit their stamp, and are checked anew.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct

from augcache.errors import StoreError

_STAMP = "checked"
_STATE = struct.Struct("<8sQQqq")
_FORM = b"augcache"  # changed whenever the check becomes stricter

# Not through a link, and without waiting where somebody has put a pipe; Windows has neither.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_files(folder: str) -> None:
    """Raise `StoreError` where opening a store's files could write to what is none: a link, a device, an empty file."""
    for name in ("lock.mdb", "writer.lock", "data.mdb"):
        path = os.path.join(folder, name)
        try:
            status = os.stat(path) if name == "data.mdb" else os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); check its owner") from error
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: not a plain file; a store has none such, do not use this one")
        if name == "data.mdb" and status.st_size == 0:  # LMDB would make a new database of it
            raise StoreError(f"{folder}: not an augcache store (data.mdb is empty); give another --store")


def state(data: str) -> bytes:
    """State of a data file; raises `StoreError` where there is none."""
    try:
        status = os.stat(data)
    except OSError as error:
        raise StoreError(f"{data}: cannot be read ({error.strerror})") from error
    return _STATE.pack(_FORM, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_stamped(folder: str, now: bytes) -> bool:
    """Whether the stamp beside a data file names its state `now`."""
    try:
        return read_plain(os.path.join(folder, _STAMP), _STATE.size + 1) == now
    except OSError:
        return False


def read_plain(path: str | os.PathLike[str], most: int) -> bytes:
    """Read the start of a file, not through a link and without waiting for a pipe; raises OSError."""
    file = os.open(path, os.O_RDONLY | _PLAIN)
    try:
        return os.read(file, most)
    finally:
        os.close(file)


def stamp(folder: str, now: bytes) -> None:
    """Note a state as sound. Where the folder cannot be written it is not noted, and checked at every open."""
    with contextlib.suppress(OSError):
        file = os.open(os.path.join(folder, _STAMP), os.O_WRONLY | os.O_CREAT | _PLAIN, 0o644)
        try:
            os.pwrite(file, now, 0)
        finally:
            os.close(file)
