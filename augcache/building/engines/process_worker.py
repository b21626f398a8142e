"""What runs in a worker process of this machine: jobs come by one pipe, results go by another.

A message is its length in eight bytes and a pickle. A worker says when it is there and when it has loaded a group, and
then sends one message for each job, so that the parent always knows which job a worker is at, and since when.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
import traceback
from typing import Any

from augcache.user_code import described, same_folder

LENGTH = struct.Struct("<Q")
READY, RESULT, REFUSED, BUG = range(4)


def main(jobs: int, results: int) -> None:
    """Work until the pipe of jobs ends."""
    # What a transform prints, in Python or in C, is no output of the parent's.
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text file, at the start
    # Ctrl-C reaches every process of a terminal; the parent alone decides what is kept.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    function: Any = None
    _send(results, READY, None)
    while (message := _receive(jobs)) is not None:
        blob, group = message
        try:
            if blob is not None:
                function = pickle.loads(blob)  # noqa: S301  # from our own parent
            group = pickle.loads(group)  # noqa: S301
        except BaseException as error:  # noqa: BLE001  # what is imported here may raise anything
            _send(results, REFUSED, described(error))
            continue
        _send(results, READY, None)
        for job in group:
            _work(results, function, job)


def _work(results: int, function: Any, job: Any) -> None:
    try:
        kind, value = RESULT, run_one(function, job)
    except BaseException:  # noqa: BLE001  # a transform's own exceptions are caught in `function`
        kind, value = BUG, traceback.format_exc()
    _send(results, kind, value)


def run_one(function: Any, job: Any) -> Any:
    """Return the function's result for one job, in any worker."""
    # One process a core: threads inside a worker would only fight each other.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    process = os.getpid()
    try:
        with same_folder():
            return function([job])[0]
    finally:
        if os.getpid() != process:
            os._exit(0)  # a transform has forked, and this is not the worker


def _send(pipe: int, kind: int, value: Any) -> None:
    data = pickle.dumps((kind, value), 5)
    view = memoryview(LENGTH.pack(len(data)) + data)
    try:
        while view:
            view = view[os.write(pipe, view) :]
    except OSError:
        os._exit(1)  # the parent is gone, or a transform has closed the pipe


def _receive(pipe: int) -> Any:
    head = _read(pipe, LENGTH.size)
    if head is None:
        return None
    data = _read(pipe, LENGTH.unpack(head)[0])
    return None if data is None else pickle.loads(data)  # noqa: S301


def _read(pipe: int, size: int) -> bytearray | None:
    """Read so many bytes; None where the parent has closed the pipe, or is gone."""
    data = bytearray()
    while len(data) < size:
        try:
            block = os.read(pipe, min(size - len(data), 1 << 20))
        except OSError:
            os._exit(1)  # a transform has closed the pipe
        if not block:
            return None
        data += block
    return data
