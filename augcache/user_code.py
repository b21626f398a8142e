"""Calls of code that is not ours: transforms, and the modules and datasets that a user names."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from augcache.errors import AugcacheError
from augcache.text import printable


def call(kind: type[AugcacheError], what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that may raise anything, SystemExit too.

    Raises
    ------
    kind
        "<what> raised ValueError: <text>". An `AugcacheError` passes as it is, and so does Ctrl-C.
    """
    try:
        return function(*arguments)
    except AugcacheError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and _hears_ctrl_c():
            raise
        raise kind(f"{what} raised {described(error)}") from error


def _hears_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt may come from Ctrl-C; workers ignore that, so there it was raised on purpose."""
    here = threading.current_thread() is threading.main_thread()
    return here and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def described(error: BaseException) -> str:
    """Say an exception in one printable line, whatever it is; its text may itself raise."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  # this is foreign code as well
        text = "its message cannot be read"
    return f"{type(error).__name__}: {printable(text[:300])}" if text else type(error).__name__


@contextlib.contextmanager
def not_to_stdout() -> Iterator[None]:
    """Send what is printed, in Python or in C, to stderr."""
    saved = None
    _flush()
    with contextlib.suppress(OSError):  # a program may have closed either
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _flush() -> None:
    """Write out what Python and C libraries still hold for stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def same_folder() -> Iterator[None]:
    """Come back to the current folder, whatever the block makes the current one."""
    folder = None
    with contextlib.suppress(OSError):  # it may have been deleted
        folder = os.getcwd()
    try:
        yield
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):
                os.chdir(folder)
