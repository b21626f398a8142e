"""The engines that workers run on: processes of this machine, a Dask cluster, a Ray cluster.

This package alone imports joblib, dask and ray, and each only where it is used: joblib costs a tenth of a second, and
`augcache --help` comes through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from augcache.errors import BackendError, RecipeError
from augcache.extras import require

BACKENDS = ("loky", "dask", "ray")

Function = Callable[[list[Any]], list[Any]]


class WorkerError(RuntimeError):
    """A fault of augcache's own in a worker; holds the worker's traceback."""


@dataclass(frozen=True)
class Part:
    """What has come of a group of jobs.

    Attributes
    ----------
    number : int
        The group's.
    results : list
        Results of the next jobs of the group, in its order; may be empty.
    is_back : bool
        Nothing more comes under this number; jobs without a result are still to be done.
    lost : str
        Not empty: how the worker died under the first job without a result.
    suspects : int
        Where lost: how many of the first jobs without a result may have been the reason.
    is_overdue : bool
        The first job without a result took longer than allowed and was given up.
    """

    number: int
    results: list[Any]
    is_back: bool = True
    lost: str = ""
    suspects: int = 0
    is_overdue: bool = False


class Engine(Protocol):
    """Runs groups of jobs, each under a number that the caller gives.

    Attributes
    ----------
    workers : int
        How many groups run at the same time.
    room : int
        How many groups it takes; more than `workers` where a worker would wait for the next.
    is_local : bool
        Whether the workers are processes of this machine, with this process's folder and files.
    """

    workers: int
    room: int
    is_local: bool

    def submit(self, number: int, function: Function, jobs: list[Any]) -> None:
        """Start a group. The function is called with one job at a time, in a list, and returns a list of one."""

    def wait(self, seconds: float) -> list[Part]:
        """Return what has come, once something has, or nothing after so many seconds.

        Raises
        ------
        BackendError
            If the engine went away, or its workers cannot load the function.
        WorkerError
            If the function raised.
        """

    def sitting(self) -> list[tuple[int, float]]:
        """Say on what the workers are: numbers of groups, and for how many seconds at the next job of each."""


def cpu_count() -> int:
    """Cores this process may use; heeds CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


@contextlib.contextmanager
def open_engine(
    backend: str, scheduler: str | None, workers: int | None, timeout: float | None = None
) -> Iterator[Engine]:
    """Connect to an engine, or start one, for as long as the block runs.

    Parameters
    ----------
    backend : {"loky", "dask", "ray"}
        "loky" is processes of this machine.
    scheduler : str or None
        Where the cluster is: ``tcp://host:8786`` for Dask; for Ray "auto" (the default: the cluster that this machine
        is part of), ``host:6379`` or ``ray://host:10001``.
    workers : int or None
        Groups at a time; default all cores of this machine, or of the cluster.
    timeout : float or None
        Seconds that a job may take; None for any time.

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
        from augcache.building.engines import processes

        with processes.start(cpu_count() if workers is None else workers, timeout) as local:
            yield local
    elif backend == "dask":
        require("distributed", "dask", "backend dask")
        from augcache.building.engines import dask_cluster

        with dask_cluster.connect(scheduler, workers, timeout) as dask:
            yield dask
    else:
        require("ray", "ray", "backend ray")
        from augcache.building.engines import ray_cluster

        with ray_cluster.connect(scheduler, workers, timeout) as ray:
            yield ray
