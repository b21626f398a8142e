"""Worker processes of this machine, each on pipes of its own: one that dies or hangs costs nobody else anything.

A guard, a small process, leads the process group of all workers. It reads from a pipe that this process alone holds
open. When this process ends, however that comes, the pipe ends and the guard kills the group: workers that hang
without giving up the interpreter, and what transforms have started. Nothing is left in /dev/shm or in /tmp.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from augcache.building.engines.engine import Function, Part, WorkerError, cpu_count
from augcache.building.engines.process_worker import BUG, LENGTH, READY, REFUSED, RESULT
from augcache.errors import BackendError

_LOOK_SECONDS = 0.2  # between two looks at which workers live and which take too long
_END_SECONDS = 2.0  # for workers to run what was registered with atexit
# The parent may have forked children that hold the pipe, so it is looked for, too.
_GUARD = """
import os, select, signal, sys
while os.getppid() == int(sys.argv[1]) and not select.select([0], [], [], 0.5)[0]:
    pass
os.killpg(0, signal.SIGKILL)
"""
# Read by the libraries that start threads of their own, when they are loaded.
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMBA", "NUMEXPR")


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    jobs: int
    results: int
    function: Any = None
    number: int = 0
    left: int = 0  # jobs of the group without a result
    since: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)
    is_ready: bool = False

    def read(self) -> bool:
        """Take in what has come, without waiting for more; returns whether more may come."""
        try:
            while block := os.read(self.results, 1 << 20):
                self.buffer += block
        except BlockingIOError:
            return True
        return False

    def messages(self) -> Iterator[tuple[int, Any]]:
        while len(self.buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self.buffer)[0]
            if len(self.buffer) < end:
                return
            message = pickle.loads(memoryview(self.buffer)[LENGTH.size : end])  # noqa: S301  # from our own worker
            del self.buffer[:end]
            yield message

    def close(self) -> None:
        os.close(self.jobs)
        os.close(self.results)


class Processes:
    """An `Engine`; use `start`. Workers are started when there is something for them."""

    is_local = True

    def __init__(self, workers: int, timeout: float | None) -> None:
        self.workers = self.room = workers
        self.timeout = timeout
        self._guards: list[subprocess.Popen[bytes]] = []
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}
        self._blob: tuple[Any, bytes] = (None, b"")
        self._selector = selectors.DefaultSelector()
        self._looked = 0.0

    def submit(self, number: int, function: Function, jobs: list[Any]) -> None:
        """Start a group; see `Engine`."""
        if self._blob[0] is not function:
            self._blob = (function, cloudpickle.dumps(function))
        try:
            packed = cloudpickle.dumps(jobs)
        except Exception as error:
            raise BackendError(
                f"an image cannot be sent to a worker ({type(error).__name__}: {error}); use workers 0"
            ) from error
        while True:
            worker = self._idle.pop() if self._idle else self._start()
            if worker.process.poll() is not None:
                self._drop(worker)  # it died while it had nothing to do
                continue
            blob = None if worker.function is function else self._blob[1]
            data = pickle.dumps((blob, packed), 5)
            try:
                _write(worker.jobs, LENGTH.pack(len(data)) + data)
            except OSError as error:
                self._drop(worker)
                if not worker.is_ready:
                    raise BackendError("a worker process ended before it had any work; is there memory?") from error
                continue
            worker.function, worker.number, worker.left = function, number, len(jobs)
            worker.since = time.monotonic()
            self._busy[number] = worker
            return

    def _start(self) -> _Worker:
        try:
            worker = self._spawn()
        except OSError as error:
            raise BackendError(
                f"a worker process cannot be started ({error.strerror or error}): free memory, raise ulimit, "
                "or give fewer workers"
            ) from error
        self._selector.register(worker.results, selectors.EVENT_READ, worker)
        return worker

    def _spawn(self) -> _Worker:
        if not self._guards or self._guards[-1].poll() is not None:
            self._guards.append(_guard())
        jobs, to_worker = os.pipe()
        from_worker, results = os.pipe()
        os.set_blocking(from_worker, False)
        # Not by PYTHONPATH: a file that is named like one of Python's own would keep the worker from starting.
        paths = [entry or os.getcwd() for entry in sys.path]
        program = (
            f"import sys; sys.path[:] = {paths!r}; "
            f"from augcache.building.engines.process_worker import main; main({jobs}, {results})"
        )
        threads = str(max(1, cpu_count() // self.workers))
        try:
            process = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=2 if _is_open(2) else subprocess.DEVNULL,
                pass_fds=(jobs, results),
                process_group=self._guards[-1].pid,
                env={**{f"{name}_NUM_THREADS": threads for name in _THREADS}, **os.environ},
            )
        except OSError:
            os.close(to_worker)
            os.close(from_worker)
            raise
        finally:
            os.close(jobs)
            os.close(results)
        return _Worker(process, to_worker, from_worker)

    def wait(self, seconds: float) -> list[Part]:
        """Return what has come; see `Engine`."""
        for key, _ in self._selector.select(min(seconds, _LOOK_SECONDS)):
            if not key.data.read():  # it has died, or a transform has closed its pipe
                self._selector.unregister(key.fileobj)
                self._looked = 0.0
        parts = [part for worker in list(self._busy.values()) for part in self._take(worker)]
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            for worker in list(self._busy.values()):
                parts += self._look(worker)
            self._looked = time.monotonic()
        return parts

    def _take(self, worker: _Worker) -> Iterator[Part]:
        results = []
        for kind, value in worker.messages():
            if kind == READY:
                worker.is_ready, worker.since = True, time.monotonic()
            elif kind == REFUSED:
                raise BackendError(f"a worker cannot load what it is to run ({value})")
            elif kind == BUG:
                raise WorkerError(f"in a worker:\n{value}")
            elif kind == RESULT:
                results.append(value)
        if results:
            worker.since = time.monotonic()
            worker.left -= len(results)
            if not worker.left:
                self._idle.append(self._busy.pop(worker.number))
            yield Part(worker.number, results, is_back=not worker.left)

    def _look(self, worker: _Worker) -> Iterator[Part]:
        if worker.process.poll() is not None:
            worker.read()
            yield from self._take(worker)  # what it said last
            if worker.left:
                status = worker.process.returncode
                if not worker.is_ready:
                    raise BackendError(f"a worker process ended before it had any work{_how(status)}; is there memory?")
                self._drop(self._busy.pop(worker.number))
                yield Part(worker.number, [], lost=f"its worker process died{_how(status)}", suspects=1)
        elif self.timeout is not None and worker.is_ready and time.monotonic() - worker.since > self.timeout:
            worker.process.kill()
            worker.process.wait()
            self._drop(self._busy.pop(worker.number))
            yield Part(worker.number, [], is_overdue=True)

    def _drop(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError):  # its pipe had ended before
            self._selector.unregister(worker.results)
        worker.close()
        worker.process.poll()

    def sitting(self) -> list[tuple[int, float]]:
        """Say on what the workers are; see `Engine`."""
        now = time.monotonic()
        return [(worker.number, now - worker.since) for worker in self._busy.values()]

    def close(self, patience: float) -> None:
        """End all processes; those that have nothing to do get some seconds to end by themselves."""
        workers = [*self._idle, *self._busy.values()]
        for worker in workers:
            worker.close()
        end = time.monotonic() + patience
        for worker in self._idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, end - time.monotonic()))
        for guard in self._guards:
            if guard.poll() is None:  # else its number may be another's by now
                os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()
            assert guard.stdin is not None
            guard.stdin.close()
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        self._selector.close()


@contextlib.contextmanager
def start(workers: int, timeout: float | None) -> Iterator[Processes]:
    """Have worker processes for as long as the block runs."""
    if sys.platform == "win32":
        raise BackendError("worker processes need Linux or macOS; give workers 0")
    engine, patience = Processes(workers, timeout), 0.0
    try:
        yield engine
        patience = _END_SECONDS
    finally:
        engine.close(patience)


def _guard() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


def _how(status: int) -> str:
    if status >= 0:
        return f" (it ended with status {status})"
    try:
        return f" ({signal.Signals(-status).name})"
    except ValueError:
        return f" (signal {-status})"


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def _write(pipe: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]
