"""The engines that workers run on: processes of this machine, a Dask cluster, a Ray cluster; all through joblib.

This package alone imports joblib, dask and ray, and each only where it is used: joblib costs a tenth of a second, and
`augcache --help` comes through here.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from augcache.errors import BackendError, RecipeError
from augcache.extras import require

BACKENDS = ("loky", "dask", "ray")


@dataclass(frozen=True)
class Lost:
    """What stands for the result of a task whose worker died under it: the task's number, and how."""

    number: int
    how: str


@dataclass(frozen=True)
class Engine:
    """Runs numbered tasks.

    Attributes
    ----------
    parallel : callable
        Gives a `joblib.Parallel` that returns a generator of results in the order in which they finish.
    workers : int
        How many tasks run at the same time.
    is_local : bool
        Whether the workers are processes of this machine, with this process's folder and files.
    broken : tuple of exception types
        What it raises where the death of one worker ends all tasks in flight.
    """

    parallel: Callable[[], Any]
    workers: int
    is_local: bool
    broken: tuple[type[BaseException], ...] = ()

    def fly(self, tasks: Iterator[Any], in_flight: int) -> Iterator[tuple[int, Any] | Lost]:
        """Run tasks, of which `in_flight` at most are with the engine; yields their results, each with its number.

        A task is ``task(function, number, group)``. Raises `broken`, and `BackendError` where the engine went away.
        """
        parallel = self.parallel()
        parallel.pre_dispatch = in_flight
        results = parallel(tasks)
        try:
            yield from results
        finally:
            results.close()


def task(function: Any, number: int, group: Any) -> Any:
    """Make what an engine runs; the function returns the number with its result."""
    import joblib

    return joblib.delayed(function)(number, group)


def cpu_count() -> int:
    """Cores this process may use; heeds CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


@contextlib.contextmanager
def open_engine(backend: str, scheduler: str | None, workers: int | None) -> Iterator[Engine]:
    """Connect to an engine, or start one, for as long as the block runs.

    Parameters
    ----------
    backend : {"loky", "dask", "ray"}
        "loky" is processes of this machine.
    scheduler : str or None
        Where the cluster is: ``tcp://host:8786`` for Dask; for Ray "auto" (the default: the cluster that this machine
        is part of), ``host:6379`` or ``ray://host:10001``.
    workers : int or None
        Tasks at a time; default all cores of this machine, or of the cluster.

    Raises
    ------
    BackendError
        If the engine is not installed, or does not answer.
    RecipeError
        If there is no such backend.
    """
    if backend not in BACKENDS:
        raise RecipeError(f"backend {backend!r}: give one of {', '.join(BACKENDS)}")
    if backend == "loky":
        if scheduler is not None:
            raise BackendError(f"scheduler {scheduler}: goes with backend dask or ray; give one of them")
        with warnings.catch_warnings():
            # A worker whose memory has grown by much, as by compiling kernels, is renewed; nobody need do anything.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
            yield _loky(cpu_count() if workers is None else workers)
    elif backend == "dask":
        require("distributed", "dask", "backend dask")
        from augcache.engines import dask_cluster

        with dask_cluster.connect(scheduler) as (engine, cores):
            yield Engine(lambda: engine, workers or cores, is_local=False)
    else:
        require("ray", "ray", "backend ray")
        from augcache.engines import ray_cluster

        with ray_cluster.connect(scheduler) as (engine, cores):
            yield Engine(lambda: engine, workers or cores, is_local=False)


def _loky(workers: int) -> Engine:
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    def parallel() -> Any:
        # A new one each time: results of a flight that broke may still come in. The processes are kept all the same.
        # joblib runs a single worker inside this process. A pool of two with one group in flight keeps a crash out.
        return joblib.Parallel(max(workers, 2), backend="loky", return_as="generator_unordered", batch_size=1)

    return Engine(parallel, workers, is_local=True, broken=(BrokenProcessPool,))
