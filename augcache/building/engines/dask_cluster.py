"""An engine of plain futures on a Dask cluster."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import queue
import sys
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from distributed import Client, Future, KilledWorker, get_worker
from distributed.worker import thread_state

from augcache.building.engines.cluster_task import Answer, work
from augcache.building.engines.engine import Function, Part, WorkerError
from augcache.errors import BackendError

CONNECT_SECONDS = 10
GATHER_SECONDS = 60  # for the results of one group to come over
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def run_group(function: Function, jobs: list[Any], timeout: float | None) -> tuple[Answer, str]:
    """Work on a group of jobs in a Dask worker; returns what became of it, and the worker's address."""
    _keep_memory()
    return work(function, jobs, timeout, _is_wanted), get_worker().address


def _is_wanted() -> bool:
    """Whether the driver that asked for this task still waits for it."""
    task = get_worker().state.tasks.get(thread_state.key)
    return task is not None and task.state == "executing"


@functools.cache  # once for each process
def _keep_memory() -> None:
    """Let this process keep memory that it has freed, for its next image.

    Dask starts its workers with a MALLOC_TRIM_THRESHOLD_ by which they hand it back at once; every large array is then
    mapped anew, page by page, which made SaliencyCut take half as long again.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)  # glibc's; other libraries have no such habit
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # bytes; the greatest that glibc takes
        mallopt(M_TRIM_THRESHOLD, 256 << 20)


class Cluster:
    """An `Engine`; use `connect`."""

    is_local = False

    def __init__(self, client: Client, workers: int, timeout: float | None) -> None:
        self.client, self.workers, self.timeout = client, workers, timeout
        self.room = 2 * workers if workers > 1 else 1
        self._open: dict[int, tuple[Future, float]] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def submit(self, number: int, function: Function, jobs: list[Any]) -> None:
        """Start a group; see `Engine`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the images of a dataset are large, which they are
            key = f"augcache-{uuid.uuid4().hex}"
            future = self.client.submit(run_group, function, jobs, self.timeout, pure=False, retries=0, key=key)
        self._open[number] = future, time.monotonic()
        future.add_done_callback(lambda _: self._ended.put(number))

    def wait(self, seconds: float) -> list[Part]:
        """Return what has come; see `Engine`."""
        with contextlib.suppress(queue.Empty):
            numbers = [self._ended.get(timeout=seconds)]
            with contextlib.suppress(queue.Empty):
                while True:
                    numbers.append(self._ended.get_nowait())
            return [self._part(number, self._open.pop(number)[0]) for number in numbers]
        return []

    def _part(self, number: int, future: Future) -> Part:
        if future.status == "cancelled":
            raise self._gone()
        error = future.exception(timeout=GATHER_SECONDS) if future.status == "error" else None
        if isinstance(error, KilledWorker):
            how = f"its Dask worker died {error.allowed_failures + 1} times"
            return Part(number, [], lost=how, suspects=sys.maxsize)
        if error is not None:
            raise BackendError(
                f"a Dask worker cannot run it ({type(error).__name__}: {error}); install the same packages there as "
                "here, and run the same command again"
            ) from error
        try:
            answer, address = future.result(timeout=GATHER_SECONDS)
        except Exception as error:  # whatever Dask raises where its scheduler is gone
            raise self._gone() from error
        if answer.bug:
            raise WorkerError(f"in a Dask worker:\n{answer.bug}")
        if answer.is_overdue:
            self._restart(address)
        return Part(number, answer.results, is_overdue=answer.is_overdue)

    def _restart(self, address: str) -> None:
        """End a worker whose thread hangs; one without a nanny keeps the thread."""
        with contextlib.suppress(Exception):
            self.client.restart_workers([address], timeout=CONNECT_SECONDS, raise_for_error=False)

    def _gone(self) -> BackendError:
        address = self.client.scheduler.address if self.client.scheduler else "the cluster"
        return BackendError(
            f"{address}: the Dask scheduler went away; what is finished is kept: start it, and run the same "
            "command again"
        )

    def sitting(self) -> list[tuple[int, float]]:
        """Say on what the workers may be; see `Engine`. Dask does not say which groups still wait for one."""
        now = time.monotonic()
        return [(number, now - since) for number, (_, since) in self._open.items()]

    def close(self) -> None:
        """Take back what has not ended, where there is still a scheduler to tell."""
        with contextlib.suppress(Exception):
            self.client.cancel([future for future, _ in self._open.values()])


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int | None, timeout: float | None) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the block runs."""
    if scheduler is None:
        raise BackendError("the Dask backend needs the address of a scheduler: --scheduler tcp://HOST:8786")
    with _quiet():
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise BackendError(
                f"{scheduler}: no Dask scheduler answers ({' '.join(str(error).split())[:200]}); start it with 'dask "
                "scheduler', and give the address that it prints"
            ) from error
        try:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise BackendError(
                    f"{scheduler}: the Dask scheduler has no workers; start some with 'dask worker {scheduler} "
                    "--nworkers auto --nthreads 1'"
                ) from error
            cluster = Cluster(client, workers or sum(client.ncores().values()), timeout)
            with contextlib.closing(cluster):
                yield cluster
        finally:
            client.close(timeout=2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from logging pages of tracebacks when a connection goes, for what is said in one line here."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = {each: each.level for each in loggers if each.name.split(".")[0] in ("distributed", "tornado", "asyncio")}
    for each in before:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in before.items():
            each.setLevel(level)
