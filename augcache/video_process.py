"""Decoding in a child process, so that a decoder that hangs or crashes costs one video and nothing else.

One child serves many videos. It gets a request as a line of JSON on its standard input, and answers with messages: a
fixed header, then the bytes of a frame or of an error's text.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from augcache.video import Frame, Sampling, VideoError, check_size

HEADER = struct.Struct("<cqdiII")  # kind, index or count, seconds, rotation, height or length, width
FRAME, ERROR, DONE, ALIVE = b"F", b"E", b"D", b"A"
ALIVE_EVERY = 0.25  # seconds
START = 60.0  # seconds for a new child to import what it needs, on a busy machine
PATIENCE = 20  # times the longest wait that this video has shown so far


class VideoProcess:
    """A child process that decodes one video after another.

    Parameters
    ----------
    timeout : float
        The child is stopped when it has not decoded a single packet for so many seconds, or for `PATIENCE` times the
        longest wait between two signs of life in the same video, if that is more. So a video takes at most its
        decoding time and one such wait.
    target : str
        Import path of the function to run, with the arguments of `augcache.video.decode`.

    Notes
    -----
    Not for use by two threads at a time. A new child is started when it is needed: at first, and after one was lost.
    """

    def __init__(self, timeout: float = 20.0, target: str = "augcache.video:decode") -> None:
        self.timeout = timeout
        self.target = target
        self._child: _Child | None = None

    def decode(
        self,
        path: str | os.PathLike[str],
        sampling: Sampling,
        size: tuple[int, int] | None = None,
        fit: str = "stretch",
    ) -> Iterator[Frame]:
        """Decode as `augcache.video.decode` does.

        Raises
        ------
        VideoError
            Also when the decoder hung or died; the frames before that have been given.
        """
        check_size(size, fit)
        request = {"path": os.fspath(path), "sampling": asdict(sampling), "size": size, "fit": fit}
        return self._frames(os.fspath(path), request)

    def _frames(self, path: str, request: dict[str, Any]) -> Iterator[Frame]:
        child: _Child | None = self._child or _Child(self.target)
        assert child is not None
        self._child = None  # it comes back when the video is finished; a caller who stops early leaves it to be ended
        given = 0
        try:
            child.send(request)
            while True:
                kind, index, seconds, rotation, height, width = child.header(self.timeout)
                if kind == FRAME:
                    image = np.empty((height, width, 3), np.uint8)
                    child.fill(memoryview(image).cast("B"))
                    yield Frame(index, seconds, rotation, image)
                    given += 1
                elif kind != ALIVE:
                    break
            text = child.text(height) if kind == ERROR else ""
            self._child, child = child, None
        except _Lost as lost:
            raise VideoError(f"{path}: {lost}; {given} wanted frames were read before that", given) from None
        finally:
            if child is not None:
                child.end()
        if kind == ERROR:
            raise VideoError(text, given)

    def close(self) -> None:
        """End the child; a later `decode` starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> VideoProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def decode_isolated(
    path: str | os.PathLike[str],
    sampling: Sampling,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
    timeout: float = 20.0,
) -> Iterator[Frame]:
    """`VideoProcess.decode` with a child that this process keeps for as long as it lives."""
    return _kept(os.getpid(), timeout).decode(path, sampling, size, fit)


@functools.cache
def _kept(pid: int, timeout: float) -> VideoProcess:  # noqa: ARG001  # a forked process must not share its parent's child
    process = VideoProcess(timeout)
    atexit.register(process.close)
    return process


class _Lost(Exception):
    """The child is gone; the message says why."""


class _Child:
    """The parent's end of a child process."""

    def __init__(self, target: str) -> None:
        # Not by PYTHONPATH: a file of ours that is named like one of Python's own would keep the child from starting.
        paths = [entry or os.getcwd() for entry in sys.path]
        program = f"import sys; sys.path[:] = {paths!r}; from augcache.video_process import main; main(sys.argv[1])"
        self.process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", program, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
        )
        self.patience = 0.0
        self.deadline = float("inf")
        self.overdue = False
        self.longest, self.ready = 0.0, False
        _widen(self._output)
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def _output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _watch(self) -> None:
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                self.overdue = True
                self.process.kill()
                return
            time.sleep(0.1)

    def send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.longest = 0.0
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._lost() from None

    def header(self, timeout: float) -> tuple[bytes, int, float, int, int, int]:
        self.patience = max(timeout, PATIENCE * self.longest, 0 if self.ready else START)
        started = time.monotonic()
        self.deadline = started + self.patience  # only while waiting: a slow consumer is no reason to stop the child
        head = self._output.read(HEADER.size)
        self.deadline = float("inf")
        if self.ready:
            self.longest = max(self.longest, time.monotonic() - started)
        self.ready = True
        if len(head) < HEADER.size:
            raise self._lost()
        return HEADER.unpack(head)

    def fill(self, buffer: memoryview) -> None:
        if self._output.readinto(buffer) < len(buffer):  # type: ignore[attr-defined]  # a BufferedReader has it
            raise self._lost()

    def text(self, length: int) -> str:
        data = self._output.read(length)
        if len(data) < length:
            raise self._lost()
        return data.decode("utf-8", "surrogateescape")

    def _lost(self) -> _Lost:
        status = self.process.wait()
        if self.overdue:
            return _Lost(f"nothing was decoded for {self.patience:.3g} s and the decoder was stopped")
        if status < 0:
            return _Lost(f"the decoder was killed by signal {-status} ({signal.Signals(-status).name})")
        return _Lost(f"the decoder's process ended by itself with status {status}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # a request that the dead child never read
                self.process.stdin.close()


def _widen(pipe: IO[bytes]) -> None:
    """Let a frame through a pipe in few pieces, where the system can."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # over the user's share of pipe memory: slower, not wrong
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def main(target: str) -> None:
    """Serve requests in the child until standard input ends."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between frames
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module, _, name = target.partition(":")
    function = getattr(__import__(module, fromlist=[name]), name)
    _say_alive(output)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        request["sampling"] = Sampling(**request["sampling"])
        request["size"] = request["size"] and tuple(request["size"])
        _serve(output, function, request)
        output.flush()


def _serve(output: IO[bytes], function: Any, request: dict[str, Any]) -> None:
    said = 0.0

    def alive() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > ALIVE_EVERY:
            said = now
            _say_alive(output)

    try:
        for frame in function(**request, progress=alive):
            height, width = frame.image.shape[:2]
            output.write(HEADER.pack(FRAME, frame.index, frame.seconds, frame.rotation, height, width))
            output.write(memoryview(frame.image).cast("B"))
            output.flush()
    except VideoError as error:
        text = str(error).encode("utf-8", "surrogateescape")
        output.write(HEADER.pack(ERROR, 0, 0.0, 0, len(text), 0) + text)
    except MemoryError:
        text = f"{request['path']}: it needs more memory than there is".encode("utf-8", "surrogateescape")
        output.write(HEADER.pack(ERROR, 0, 0.0, 0, len(text), 0) + text)
    else:
        output.write(HEADER.pack(DONE, 0, 0.0, 0, 0, 0))


def _say_alive(output: IO[bytes]) -> None:
    output.write(HEADER.pack(ALIVE, 0, 0.0, 0, 0, 0))
    output.flush()


def _end_with_parent(parent: int) -> None:
    """Keep a decoder that hangs from outliving a parent that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
