"""What LMDB's errors mean, in plain words. Imports lmdb."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

import lmdb

from augcache.errors import CorruptError, StoreError

if sys.platform != "win32":
    import resource


def is_lock_trouble(error: lmdb.Error) -> bool:
    """Whether a file system without locks, or one that cannot be written, is the reason."""
    text = str(error)
    codes = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
    return isinstance(error, lmdb.ReadonlyError | lmdb.LockError) or any(os.strerror(code) in text for code in codes)


def _is_full(path: str, text: str) -> bool:
    # LMDB reports a write that the disk took only in part as an input/output error.
    if os.strerror(errno.EIO) not in text:
        return False
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 24  # less than one commit may take


def _no_room(path: str, text: str) -> str:
    """Say what keeps a file from growing, and what to do; empty for another error."""
    if sys.platform != "win32" and any(os.strerror(code) in text for code in (errno.EIO, errno.EFBIG)):
        limit, size = resource.getrlimit(resource.RLIMIT_FSIZE)[0], 0
        with contextlib.suppress(OSError):
            size = os.path.getsize(os.path.join(path, "data.mdb"))
        if limit != resource.RLIM_INFINITY and limit - size < 1 << 24:
            return f"files may not grow beyond {limit >> 10} KiB here; raise the limit (ulimit -f)"
    if os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text or _is_full(path, text):
        return "no space left on the disk; free some"
    return ""


def explain(error: lmdb.Error | OSError, path: str) -> StoreError:
    """Return the error that says what an error of LMDB means for the store at a path, and what to do."""
    text = str(error)
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError | lmdb.BadTxnError):
        return CorruptError(f"{path}: the store's pages are damaged ({text}); copy it again, or delete it and rebuild")
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError) or os.strerror(errno.EBADF) in text:
        # (a bad file descriptor is what LMDB makes of an empty file)
        return StoreError(f"{path}: not an augcache store (data.mdb is no LMDB 0.9 file); give another --store")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreError(f"{path}: too many processes read this store at once; close some and try again")
    if room := _no_room(path, text):
        return StoreError(f"{path}: {room} and run the same command again; finished entries are kept")
    if os.strerror(errno.EACCES) in text or isinstance(error, lmdb.ReadonlyError) or os.strerror(errno.EROFS) in text:
        return StoreError(f"{path}: no permission to open or write it; check its owner, or give another --store")
    return StoreError(f"{path}: {text}")
