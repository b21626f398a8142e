"""Calls of file systems elsewhere: with a time limit, and tried again as object stores ask for."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

log = logging.getLogger("augcache")

SILENCE = 20.0  # seconds without a byte until a call counts as stalled, where that can be seen
PATIENCE = 60.0  # seconds that any call may take
SLOWEST = 32_768  # bytes a second; what is known to be large may take as much longer
LISTING = 3600.0  # seconds that a listing may take: one of millions of objects takes minutes
UNKNOWN = 600.0  # seconds that a call may take of which nobody knows how much it gives

# How often a call is tried: one that is refused or breaks off comes back soon, one that stalled has taken long already.
TRIES = 4
TRIES_STALLED = 2
FIRST_WAIT = 0.5  # seconds; twice as many each time, of which a random half is left out

# What comes out the same however often it is tried.
_LASTING = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, ImportError,
    NotImplementedError, TypeError, ValueError, LookupError, AttributeError, MemoryError,
)  # fmt: skip  # a list of names
_LASTING_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG)
_PASSING_STATUS = (408, 429)  # of 400 to 499
_TIMEOUTS = {"ReadTimeoutError", "ConnectTimeoutError"}  # botocore's, which are no TimeoutError


class Stalled(Exception):
    """A call gave nothing for too long."""


def ask(
    system: Any, method: str, *arguments: Any, limit: float, alive: Callable[[], Any] | None = None, **named: Any
) -> Any:
    """Call a method of a file system.

    Parameters
    ----------
    system : fsspec file system
    method : str
        Such as "cat_file".
    *arguments, **named
        What it takes.
    limit : float
        Seconds that it may take; with `alive`, seconds without progress.
    alive : callable, optional
        Gives something that differs as long as there is progress, such as a file's size.

    Raises
    ------
    Stalled
        If it takes longer, twice.
    Exception
        What the file system raises, where that lasts or came again and again; with a note of how often it was tried.
    """
    tried = 0
    while True:
        tried += 1
        try:
            return _call(system, method, arguments, named, limit, alive)
        except Exception as error:  # each file system raises errors of its own library
            if _lasts(error):
                raise
            if tried >= (TRIES_STALLED if is_stall(error) else TRIES):
                error.add_note(f"tried {tried} times")
                raise
            log.info("%s of %s: %s: trying again", method, arguments[0], said(error))
        time.sleep(FIRST_WAIT * 2 ** (tried - 1) * random.uniform(0.5, 1))  # noqa: S311  # no secret


def limit_of(size: int) -> float:
    """Seconds that a call may take which gives so many bytes; 0 for as many as there are."""
    return PATIENCE + size / SLOWEST if size else UNKNOWN


def said(error: BaseException) -> str:
    """Say in one line what an error says, and how often it came."""
    text = str(error) if isinstance(error, Stalled) else f"{type(error).__name__}: {error}"
    notes = getattr(error, "__notes__", ())
    return " ".join((text + "".join(f" ({note})" for note in notes)).split())[:400]


def _call(
    system: Any,
    method: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    limit: float,
    alive: Callable[[], Any] | None,
) -> Any:
    future = _start(system, method, arguments, named)
    state = alive() if alive is not None else None
    while not wait([future], limit).done:
        before, state = state, alive() if alive is not None else None
        if state == before:
            future.cancel()
            raise Stalled(f"nothing more came within {limit:.0f} s")
    return future.result()


def _start(system: Any, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Future[Any]:
    # What is asynchronous can be cancelled, so that a call that was given up keeps no connection.
    coroutine = getattr(system, f"_{method}", None) if getattr(system, "async_impl", False) else None
    if coroutine is not None:
        return asyncio.run_coroutine_threadsafe(coroutine(*arguments, **named), system.loop)
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled

    def run() -> None:
        try:
            future.set_result(getattr(system, method)(*arguments, **named))
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()  # nobody can stop it; the process ends all the same
    return future


def is_stall(error: BaseException) -> bool:
    """Whether an error says that something took too long."""
    names = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    return isinstance(error, Stalled | TimeoutError) or bool(names & _TIMEOUTS)


def _lasts(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING_STATUS
    if isinstance(error, OSError) and error.errno in _LASTING_NUMBERS:
        return True
    return isinstance(error, _LASTING) and not is_stall(error)


def _chain(error: BaseException | None) -> list[BaseException]:
    """List an error and what it came from."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


def _status(error: BaseException) -> int | None:
    """Status of a server's answer, where an error has one; each library puts it elsewhere."""
    for name in ("status", "status_code", "code"):  # aiohttp; azure; gcsfs and urllib
        value = getattr(error, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    for each in _chain(error):  # s3fs raises errors of Python that come from botocore's
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return value if isinstance(value, int) else None
    return None
