"""Writes an output file whole or not at all: aside first, and then by one rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys

if sys.platform != "win32":
    import fcntl

_LONGEST = 200  # bytes of a name that leave room for what is put around it
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

_OLD = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that nobody ever sees half of it, and an older one stays until the new one is whole.

    Parameters
    ----------
    path : path-like
        Where. A link is followed; the mode of a file that is there is kept. What is no regular file, such as
        ``/dev/stdout`` or a pipe, is written to as it is.
    data : bytes
        All of it.

    Raises
    ------
    OSError
        If it cannot be written, or another process is writing it. Nothing of it is left then.
    """
    target = replaceable(path)
    if target is None:
        with open(path, "wb", buffering=0) as out:
            _write(out.fileno(), data)
        return
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)  # a rename would not ask
    aside = _aside(target)
    file = _open_alone(aside, target)
    try:
        _write(file, data)
        _keep_mode(file, target)
        os.close(os.dup(file))  # some file systems tell only at a close that the disk is full
        os.replace(aside, target)  # before the lock goes: without it the file aside is taken for a killed run's
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    finally:
        os.close(file)


def replaceable(path: str | os.PathLike[str]) -> str | None:
    """Return the regular file, there or to be made, that a path leads to; None for a device, a pipe or a folder."""
    name = os.fspath(path)
    for _ in range(40):  # as many links as the system follows
        folder = os.path.realpath(os.path.dirname(name) or os.curdir)
        if folder == "/dev" or folder.startswith("/proc/"):
            return None  # /dev/stdout, /dev/fd/3: a link to an open file, which may not be replaced
        if not os.path.islink(name):
            break
        name = os.path.join(os.path.dirname(name), os.readlink(name))
    try:
        return name if stat.S_ISREG(os.stat(name).st_mode) else None
    except FileNotFoundError:
        return name


def _aside(target: str) -> str:
    """Name for a file that is being written: always the same one, so that what killed runs leave does not pile up."""
    folder, name = os.path.split(target)
    raw = os.fsencode(name)
    short = name if len(raw) <= _LONGEST else hashlib.blake2b(raw, digest_size=16).hexdigest()
    return os.path.join(folder, f".{short}.part")


def _open_alone(aside: str, target: str) -> int:
    """Make the file aside, for this process alone; one that a killed run has left is removed first."""
    while True:
        is_new = not os.path.lexists(aside)
        try:
            file = os.open(aside, _NEW if is_new else _OLD, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError as error:
            if os.path.isdir(os.path.dirname(target) or os.curdir):
                continue
            raise FileNotFoundError(error.errno, "its folder is not there", target) from error
        try:
            _lock(file, target)
            if _is_still(aside, os.fstat(file)):  # else another process has just put it in its place
                if is_new:
                    return file
                os.unlink(aside)
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, target: str) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, "another process is writing it just now", target) from error
    except OSError:
        return  # a file system without locks


def _is_still(aside: str, status: os.stat_result) -> bool:
    try:
        now = os.stat(aside, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)


def _keep_mode(file: int, target: str) -> None:
    """Give the new file the mode and, where that is allowed, the owner of the one that it replaces."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return  # the umask has decided
    with contextlib.suppress(OSError, AttributeError):  # FAT and Windows know neither
        os.fchown(file, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError, AttributeError):
        os.fchmod(file, stat.S_IMODE(old.st_mode))


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
