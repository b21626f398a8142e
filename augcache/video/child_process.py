"""Decoding in a child process, so that a decoder that hangs or crashes costs one video and nothing else.

One child serves many videos. It gets a request as a line of JSON on its standard input, and answers with messages: a
fixed header, then the bytes of a frame, of a result or of an error's text.
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
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from augcache.errors import SourceError
from augcache.video.read import Frame, Sampling, VideoError, check_size

HEADER = struct.Struct("<cqdiII")  # kind, index or count, seconds, rotation, height or length, width
FRAME, ERROR, BUG, DONE, ALIVE = b"F", b"E", b"B", b"D", b"A"
PIECE = 1 << 20  # bytes of a frame that count as a sign of life
ALIVE_EVERY = 0.25  # seconds
START = 60.0  # seconds for a new child to import what it needs, on a busy machine
PATIENCE = 20  # times the longest wait that this video has shown so far


class VideoBug(Exception):
    """Our own code failed in the child, whatever the video is; the message has the child's traceback.

    No `AugcacheError`, and no failure of the video.
    """


class VideoProcess:
    """A child process that decodes one video after another.

    Parameters
    ----------
    timeout : float
        The child is stopped when it has not decoded a single packet for so many seconds, or for `PATIENCE` times the
        longest wait between two signs of life in the same video, if that is more. So a video takes at most its
        decoding time and one such wait.
    target : str
        Import path of the function to run, with the arguments of `augcache.video.read.decode`.

    Notes
    -----
    Not for use by two threads at a time. A new child is started when it is needed: at first, and after one was lost.
    """

    def __init__(self, timeout: float = 20.0, target: str = "augcache.video.read:decode") -> None:
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
        """Decode as `augcache.video.read.decode` does.

        Raises
        ------
        VideoError
            Also when the decoder hung or died; the frames before that have been given.
        VideoBug
            Our own code failed.
        """
        check_size(size, fit)
        request = {"path": os.fspath(path), "sampling": asdict(sampling), "size": size, "fit": fit}
        return self._frames(os.fspath(path), request)

    def _frames(self, path: str, request: dict[str, Any]) -> Iterator[Frame]:
        given = 0
        try:
            with self._lent() as child:
                child.send(request, "decoded")
                while isinstance(frame := child.answer(self.timeout), Frame):
                    yield frame
                    given += 1
        except _Lost as lost:
            raise VideoError(f"{path}: {lost}; {given} wanted frames were read before that", given) from None

    def call(self, function: str, path: str | os.PathLike[str]) -> bytes:
        """Run another function of a file in the child, under the same watch.

        Parameters
        ----------
        function : str
            Import path. It is called with the path and a function without arguments, its sign of life, and gives bytes.
        path : path
            The file.

        Raises
        ------
        VideoError
            What the function raises as `SourceError`; also when it hung or died.
        VideoBug
            What else it raises.
        """
        try:
            with self._lent() as child:
                child.send({"path": os.fspath(path), "function": function}, "read")
                result = child.answer(self.timeout)
        except _Lost as lost:
            raise VideoError(f"{os.fspath(path)}: {lost}") from None
        assert isinstance(result, bytes)  # no frames were asked for
        return result

    @contextlib.contextmanager
    def _lent(self) -> Iterator[_Child]:
        """Have the child for one request, and end it unless that comes to its end; a caller may stop early."""
        child, self._child = self._child or _Child(self.target), None
        try:
            yield child
        except VideoError:
            self._child = child
            raise
        except BaseException:
            child.end()
            raise
        self._child = child

    def close(self) -> None:
        """End the child; a later `decode` starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> VideoProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def call_isolated(function: str, path: str | os.PathLike[str], timeout: float = 20.0) -> bytes:
    """`VideoProcess.call` with the child of `decode_isolated`."""
    return _kept(os.getpid(), timeout).call(function, path)


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
        program = (
            f"import sys; sys.path[:] = {paths!r}; from augcache.video.child_process import main; main(sys.argv[1])"
        )
        self.process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", program, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"},
        )
        self.patience, self.doing = 0.0, ""
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

    def send(self, request: dict[str, Any], doing: str) -> None:
        assert self.process.stdin is not None
        self.longest, self.doing = 0.0, doing
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._lost() from None

    def answer(self, timeout: float) -> Frame | bytes:
        """Wait for the next frame, or for the result that ends the answer; raise what the child says instead."""
        while True:
            kind, index, seconds, rotation, height, width = self._header(timeout)
            if kind == FRAME:
                image = np.empty((height, width, 3), np.uint8)
                self._fill(memoryview(image).cast("B"))
                return Frame(index, seconds, rotation, image)
            if kind != ALIVE:
                break
        data = bytearray(height)
        self._fill(memoryview(data))
        if kind == DONE:
            return bytes(data)
        text = data.decode("utf-8", "surrogatepass")
        raise VideoError(text, index) if kind == ERROR else VideoBug(text)

    def _header(self, timeout: float) -> tuple[bytes, int, float, int, int, int]:
        self.patience = max(timeout, PATIENCE * self.longest, 0 if self.ready else START)
        started = time.monotonic()
        head = bytearray(HEADER.size)
        self._fill(memoryview(head))
        if self.ready:
            self.longest = max(self.longest, time.monotonic() - started)
        self.ready = True
        return HEADER.unpack(head)

    def _fill(self, buffer: memoryview) -> None:
        for at in range(0, len(buffer), PIECE):
            piece = buffer[at : at + PIECE]
            # Only here: a slow consumer is no reason to stop the child.
            self.deadline = time.monotonic() + self.patience
            count = self._output.readinto(piece)  # type: ignore[attr-defined]  # a BufferedReader has it
            self.deadline = float("inf")
            if count < len(piece):
                raise self._lost()

    def _lost(self) -> _Lost:
        status = self.process.wait()
        if self.overdue:
            return _Lost(f"nothing was {self.doing} for {self.patience:.3g} s and the decoder was stopped")
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
    if sys.platform != "win32":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a parent that is gone ends a child that sends
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    request = b""
    try:
        decoder = _named(target)
        _say_alive(output)
        for request in sys.stdin.buffer:
            _serve(output, decoder, json.loads(request))
            output.flush()
    except Exception:  # noqa: BLE001  # a fault of our own, which the parent raises
        text = f"in the decoder's process, asked for {request.decode()}\n{traceback.format_exc()}"
        _tell(output, BUG, 0, text.encode("utf-8", "backslashreplace"))
        output.flush()


def _named(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    return function


def _serve(output: IO[bytes], decoder: Callable[..., Iterator[Frame]], request: dict[str, Any]) -> None:
    given, said = 0, 0.0

    def alive() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > ALIVE_EVERY:
            said = now
            _say_alive(output)

    result, error = b"", ""
    try:
        if "function" in request:
            result = _named(request["function"])(request["path"], alive)
        else:
            request["sampling"] = Sampling(**request["sampling"])
            request["size"] = request["size"] and tuple(request["size"])
            for frame in decoder(**request, progress=alive):
                _send(output, frame)
                given += 1
    except SourceError as fault:
        error = str(fault)
    except MemoryError:
        error = f"{request['path']}: it needs more memory than there is"
    except ImportError as fault:
        error = f"{request['path']}: a library cannot be loaded ({fault}); install augcache anew"
    _tell(output, ERROR if error else DONE, given, error.encode("utf-8", "surrogatepass") or result)


def _send(output: IO[bytes], frame: Frame) -> None:
    height, width = frame.image.shape[:2]
    pixels = memoryview(frame.image).cast("B")
    assert len(pixels) == 3 * height * width  # before anything of it is sent
    output.write(HEADER.pack(FRAME, frame.index, frame.seconds, frame.rotation, height, width))
    output.write(pixels)
    output.flush()


def _tell(output: IO[bytes], kind: bytes, count: int, data: bytes) -> None:
    output.write(HEADER.pack(kind, count, 0.0, 0, len(data), 0) + data)


def _say_alive(output: IO[bytes]) -> None:
    output.write(HEADER.pack(ALIVE, 0, 0.0, 0, 0, 0))
    output.flush()


def _end_with_parent(parent: int) -> None:
    """Keep a decoder that hangs from outliving a parent that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
