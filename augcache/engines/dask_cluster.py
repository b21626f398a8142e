"""joblib on a Dask cluster, with the death of a worker as a result and not as the end of all.

joblib's own backend never hears of a task that Dask gives up (`KilledWorker`), and would wait for it forever.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import joblib
from distributed import CancelledError, Client, KilledWorker
from joblib._dask import DaskDistributedBackend

from augcache.errors import BackendError

CONNECT_SECONDS = 10
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class _Call:
    """What a worker runs; Dask shows its `repr`."""

    def __call__(self, tasks: Any) -> list[Any]:
        _keep_memory()
        return [function(*arguments, **options) for function, arguments, options in tasks]

    def __repr__(self) -> str:
        return "augcache"


@functools.cache  # once for each process
def _keep_memory() -> None:
    """Let this process keep memory that it has freed, for its next picture.

    Dask starts its workers with a MALLOC_TRIM_THRESHOLD_ by which they hand it back at once; every large array is then
    mapped anew, page by page, which made SaliencyCut take half as long again.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)  # glibc's; other libraries have no such habit
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # bytes; the greatest that glibc takes
        mallopt(M_TRIM_THRESHOLD, 256 << 20)


class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
    """Hands out what became of a task together with the task's number."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Cores of the cluster; two at least, as joblib works in this process for one."""
        return max(int(super().effective_n_jobs(n_jobs)), 2)

    async def _to_func_args(self, func: Any) -> tuple[Any, Any]:
        # joblib's makes a Dask client in the worker for each task, for tasks that start others: 10 ms each.
        return _Call(), func.items

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Start a task; joblib's callback comes for every end that it may have."""
        number = func.items[0][1][0]
        future = super().submit(func, callback=lambda _: None)
        future.add_done_callback(lambda done: callback((number, done)))
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Turn the end of a task into its result; a list, as joblib's tasks travel in batches (of one)."""
        from augcache.engines import Lost

        number, future = out
        error = future.exception()
        if isinstance(error, KilledWorker):
            return [Lost(number, f"its Dask worker died {error.allowed_failures + 1} times")]
        if error is not None:
            raise BackendError(
                f"a Dask worker cannot run it ({type(error).__name__}: {error}); install the same packages there as "
                "here, and run the same command again"
            ) from error
        result = future.result()
        if isinstance(result, CancelledError):
            address = self.client.scheduler.address if self.client.scheduler else "the cluster"
            raise BackendError(
                f"{address}: the Dask scheduler went away; what is finished is kept: start it, and run the same "
                "command again"
            )
        return super().retrieve_result_callback(result)


@contextlib.contextmanager
def connect(scheduler: str | None) -> Iterator[tuple[Any, int]]:
    """Connect to a cluster; gives a `joblib.Parallel` on it, and its number of cores."""
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
            backend = Backend(client=client, wait_for_workers_timeout=CONNECT_SECONDS, pure=False, retries=0)
            try:
                backend.effective_n_jobs(-1)  # waits for workers
            except TimeoutError as error:
                raise BackendError(
                    f"{scheduler}: the Dask scheduler has no workers; start some with 'dask worker {scheduler} "
                    "--nworkers auto --nthreads 1'"
                ) from error
            cores = sum(client.ncores().values())
            with joblib.Parallel(
                cores, backend=backend, return_as="generator_unordered", batch_size=1, pre_dispatch=cores
            ) as parallel:
                yield parallel, cores
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
