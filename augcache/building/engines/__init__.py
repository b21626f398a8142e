"""The engines that workers run on: processes of this machine, a Dask cluster, a Ray cluster.

This package alone imports joblib, dask and ray, and each only where it is used: joblib costs a tenth of a second, and
`augcache --help` comes through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from augcache.building.engines.engine import Engine, cpu_count
from augcache.errors import BackendError, RecipeError
from augcache.extras import require

BACKENDS = ("local", "dask", "ray")
RENAMED = {"loky": "this backend is called local now"}


@contextlib.contextmanager
def open_engine(
    backend: str, scheduler: str | None, workers: int | None, timeout: float | None = None
) -> Iterator[Engine]:
    """Connect to an engine, or start one, for as long as the block runs.

    Parameters
    ----------
    backend : {"local", "dask", "ray"}
        "local" is processes of this machine.
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
        raise RecipeError(f"backend {backend!r}: " + RENAMED.get(backend, f"give one of {', '.join(BACKENDS)}"))
    if backend == "local":
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
