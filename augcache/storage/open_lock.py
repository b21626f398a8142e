"""Keeps the opening of a store and the replacing of its data file apart, by a lock on the store's folder.

A reader's open looks at the data file first and at the lock file then. Were the data file replaced between the two,
and were there no other process, the reader would set the lock file up for a file that is no longer the store.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from augcache.errors import StoreError

if sys.platform != "win32":
    import fcntl

_PATIENCE = 20.0  # seconds that replacing waits for the opens of others, each of which takes less than a millisecond


@contextlib.contextmanager
def opening(folder: str) -> Iterator[None]:
    """Hold the store's folder while its files are opened; on a file system without locks this does nothing."""
    with _folder(folder) as file:
        if file is not None and sys.platform != "win32":
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def replacing(folder: str) -> Iterator[None]:
    """Wait until nobody is opening the store's files, and keep others from it."""
    with _folder(folder) as file:
        if file is not None and sys.platform != "win32":
            _wait(file, folder)
        yield


def _wait(file: int, folder: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise StoreError(f"{folder}: other processes keep opening it; run the same command again") from error
            time.sleep(0.001)
        except OSError:
            return  # a file system without locks


@contextlib.contextmanager
def _folder(folder: str) -> Iterator[int | None]:
    try:
        file = os.open(folder, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)
