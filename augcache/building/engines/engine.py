"""What an engine is: it runs groups of jobs on its workers, and tells what has come of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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
