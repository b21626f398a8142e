"""joblib on a Ray cluster, by plain Ray tasks.

The backend that Ray brings for joblib deals its tasks out to actors in turn, whether they are busy or dead.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import ray
from joblib.parallel import ParallelBackendBase
from ray import exceptions
from ray.util import client

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


class Backend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A joblib backend of Ray tasks; a task that loses its worker gives `Lost`."""

    supports_retrieve_callback = True

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[int, Callable[[Any], None]] = {}
        # The end of a task starts the next, which must not happen in the thread that Ray's answers come in by.
        self._ends = ThreadPoolExecutor(1)
        # No retries by Ray: `augcache.workers` tries what killed its worker again, apart from the others.
        self.remote = ray.remote(num_cpus=1, max_retries=0)(_call)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many; two at least, as joblib works in this process for one."""
        return max(n_jobs, 2)

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Start a task."""
        number = func.items[0][1][0]
        self._open[number] = callback
        future = self.remote.remote(func).future()
        future.add_done_callback(lambda done: self._ends.submit(self._end, number, done))
        return future

    def _end(self, number: int, future: Any) -> None:
        callback = self._open.pop(number, None)
        if callback is not None:
            callback((number, future))

    def give_up(self, reason: str) -> None:
        """End every task that is under way with an error."""
        for number in list(self._open):
            future: Future[Any] = Future()
            future.set_exception(BackendError(reason))
            self._end(number, future)

    def retrieve_result_callback(self, out: Any) -> Any:
        """Turn the end of a task into its result; a list, as joblib's tasks travel in batches (of one)."""
        from augcache.engines import Lost

        number, future = out
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, BackendError):
            raise error
        if isinstance(error, exceptions.LocalRayletDiedError):
            raise BackendError(_GONE) from error
        if isinstance(error, _DIED):
            return [Lost(number, f"its Ray worker died ({type(error).__name__})")]
        raise BackendError(
            f"a Ray worker cannot run it ({type(error).__name__}: {' '.join(str(error).split())[-300:]}); install the "
            "same packages there as here, and run the same command again"
        ) from error


def _call(batch: Any) -> Any:
    return batch()


def _watch(backend: Backend, address: str, over: threading.Event) -> None:
    """Give up once nothing has listened where the cluster's head was for `_GONE_SECONDS`."""
    host, _, port = address.rpartition(":")
    seen = time.monotonic()
    while not over.wait(2):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            seen = time.monotonic()
        except OSError:
            if time.monotonic() - seen > _GONE_SECONDS:
                backend.give_up(f"{address}: {_GONE}")


@contextlib.contextmanager
def _watched(backend: Backend) -> Iterator[None]:
    over = threading.Event()
    if client.ray.is_connected():  # ray://, which tells by itself
        yield
        return
    address = ray.get_runtime_context().gcs_address
    thread = threading.Thread(target=_watch, args=(backend, address, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def connect(scheduler: str | None) -> Iterator[tuple[Any, int]]:
    """Connect to a cluster; gives a `joblib.Parallel` on it, and its number of cores."""
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
        cores, backend = int(ray.cluster_resources().get("CPU", 0)), Backend()
        with (
            _watched(backend),
            joblib.Parallel(
                cores, backend=backend, return_as="generator_unordered", batch_size=1, pre_dispatch=cores
            ) as parallel,
        ):
            yield parallel, cores
    finally:
        if ours:
            ray.shutdown()
