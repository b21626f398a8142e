"""What is at a path that a user gives: told without waiting, and with one error where it cannot be told."""

from __future__ import annotations

import os
import stat

from augcache.errors import AugcacheError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def status_of(path: str | os.PathLike[str], error: type[AugcacheError]) -> os.stat_result | None:
    """State of what is at a path, links followed; None where nothing is.

    Raises
    ------
    AugcacheError
        Of the kind `error`, where it cannot be told: below a folder that may not be entered, a link to itself, a name
        that is too long, or no name at all.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise error(
            f"{path}: cannot be looked at ({fault.strerror or fault}); check the path and its permissions"
        ) from fault
    except ValueError as fault:  # a zero byte, or what no file system can name
        raise error(f"{os.fspath(path)!a}: no path ({fault}); check it") from fault


def home_expanded(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return a path with the home folder for a leading ``~``; as it is where no home is known."""
    try:
        return os.path.expanduser(path)
    except ValueError:  # a zero byte after the ~: told where the path is used
        return path


def is_there(path: str | os.PathLike[str], error: type[AugcacheError]) -> bool:
    """Whether anything is at a path; raises as `status_of`."""
    return status_of(path, error) is not None


def is_folder(path: str | os.PathLike[str], error: type[AugcacheError]) -> bool:
    """Whether a folder is at a path; raises as `status_of`."""
    status = status_of(path, error)
    return status is not None and stat.S_ISDIR(status.st_mode)


def absolute(path: str | os.PathLike[str], error: type[AugcacheError]) -> str:
    """Return a path from the root; raises `error` where the current folder is gone."""
    try:
        return os.path.abspath(path)
    except OSError as fault:
        raise error(f"{path}: the current folder is gone ({fault.strerror}); go into another one") from fault


def kind_of(mode: int) -> str:
    """Name what a mode of `os.stat` stands for, where that is no regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "a special file")
