"""An engine of plain tasks on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import ray
from ray import exceptions
from ray.util import client

from augcache.building.engines.cluster_task import Answer, work
from augcache.building.engines.engine import Function, Part, WorkerError
from augcache.errors import BackendError

# A task's own worker or machine is gone, whatever the reason.
_DIED = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)
_GONE = "the Ray cluster went away; what is finished is kept: start it, and run the same command again"
# Ray ends this process, without a word to it, when the head has been gone for 60 seconds.
_GONE_SECONDS = 40
_LEAVE_SECONDS = 0.5  # for an answer to leave a worker that ends itself


def _call(function: Function, jobs: list[Any], timeout: float | None) -> Answer:
    answer = work(function, jobs, timeout, lambda: True)  # Ray ends the workers of a driver that is gone
    if answer.is_overdue:  # no thread can be stopped, and Ray has no call to end a task's own worker
        threading.Timer(_LEAVE_SECONDS, os._exit, [1]).start()
    return answer


class Cluster:
    """An `Engine`; use `connect`."""

    is_local = False

    def __init__(self, workers: int, timeout: float | None) -> None:
        self.workers, self.timeout = workers, timeout
        self.room = 2 * workers if workers > 1 else 1
        # No retries by Ray: `augcache.building.workers` tries what killed its worker again, apart from the others.
        self._remote = ray.remote(num_cpus=1, max_retries=0)(_call)
        self._open: dict[Any, tuple[int, float]] = {}
        self.gone = ""

    def submit(self, number: int, function: Function, jobs: list[Any]) -> None:
        """Start a group; see `Engine`."""
        self._open[self._remote.remote(function, jobs, self.timeout)] = number, time.monotonic()

    def wait(self, seconds: float) -> list[Part]:
        """Return what has come; see `Engine`."""
        if self.gone:
            raise BackendError(self.gone)
        try:
            ended, _ = ray.wait(list(self._open), timeout=seconds)
        except (exceptions.RayError, ConnectionError) as error:
            raise BackendError(_GONE) from error
        return [self._part(task, self._open.pop(task)[0]) for task in ended]

    def _part(self, task: Any, number: int) -> Part:
        try:
            answer = ray.get(task)
        except (exceptions.LocalRayletDiedError, ConnectionError) as error:
            raise BackendError(_GONE) from error
        except _DIED as error:
            return Part(number, [], lost=f"its Ray worker died ({type(error).__name__})", suspects=sys.maxsize)
        except exceptions.RayError as error:
            raise BackendError(
                f"a Ray worker cannot run it ({type(error).__name__}: {' '.join(str(error).split())[-300:]}); install "
                "the same packages there as here, and run the same command again"
            ) from error
        if answer.bug:
            raise WorkerError(f"in a Ray worker:\n{answer.bug}")
        return Part(number, answer.results, is_overdue=answer.is_overdue)

    def sitting(self) -> list[tuple[int, float]]:
        """Say on what the workers may be; see `Engine`. Ray does not say which groups still wait for one."""
        now = time.monotonic()
        return [(number, now - since) for number, since in self._open.values()]

    def close(self) -> None:
        """Take back what has not ended, where there is still a cluster to tell."""
        with contextlib.suppress(Exception):
            for task in self._open:
                ray.cancel(task, force=True)


def _watch(cluster: Cluster, address: str, over: threading.Event) -> None:
    """Give up once nothing has listened where the cluster's head was for `_GONE_SECONDS`."""
    host, _, port = address.rpartition(":")
    seen = time.monotonic()
    while not over.wait(2):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            seen = time.monotonic()
        except OSError:
            if time.monotonic() - seen > _GONE_SECONDS:
                cluster.gone = f"{address}: {_GONE}"


@contextlib.contextmanager
def _watched(cluster: Cluster) -> Iterator[None]:
    over = threading.Event()
    if client.ray.is_connected():  # ray://, which tells by itself
        yield
        return
    address = ray.get_runtime_context().gcs_address
    thread = threading.Thread(target=_watch, args=(cluster, address, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int | None, timeout: float | None) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the block runs."""
    ours = not ray.is_initialized()
    address = scheduler or "auto"
    if ours:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Ray will change one day
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, ValueError, RuntimeError, exceptions.RayError) as error:
            raise BackendError(
                f"{address}: no Ray cluster answers ({' '.join(str(error).split())[:200]}); start it with 'ray start "
                "--head', and give --scheduler auto, HOST:6379 or ray://HOST:10001"
            ) from error
    try:
        cluster = Cluster(workers or int(ray.cluster_resources().get("CPU", 0)), timeout)
        with _watched(cluster), contextlib.closing(cluster):
            yield cluster
    finally:
        if ours:
            ray.shutdown()
