"""Regular files alone are read: a pipe or a device with an image's name would be waited for, or read, for ever."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from augcache.errors import SourceError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Windows has none of these, and no file there that would be waited for.
_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)  # Python adds O_CLOEXEC


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, links followed; never waits, whatever is there.

    Raises
    ------
    SourceError
        If it cannot be opened, or is anything else; the reason alone, without the path.
    """
    try:
        _check(os.stat(path).st_mode)  # opening a pipe or a device can do something to it
        file = os.open(path, _FLAGS)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte, or what no file system can name
        raise SourceError(f"cannot be read: {error}") from error
    try:
        _check(os.fstat(file).st_mode)  # another may have come in its place
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def _check(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise SourceError(f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file")
