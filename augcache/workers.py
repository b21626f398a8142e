"""Run a function over groups of jobs on worker processes that may die. Imports joblib, alone.

joblib is imported where it is used: it costs a tenth of a second, and `augcache --help` comes through here.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True)
class Crash:
    """What stands for the result of a job that took its worker process down each time it was tried."""

    reason: str


def cpu_count() -> int:
    """Cores this process may use; heeds CPU affinity and container limits."""
    import joblib

    return int(joblib.cpu_count())


def run(
    function: Callable[[list[Job]], list[Any]], groups: Iterable[list[Job]], *, workers: int
) -> Iterator[tuple[list[Job], list[Any]]]:
    """Yield ``(group, function(group))`` for every group, in the order in which they finish.

    Parameters
    ----------
    function : callable
        Takes a list of jobs and returns a list as long. Both must pickle (cloudpickle is used).
    groups : iterable of list
        Read as workers become free: at most two groups a worker are in flight, so memory stays flat.
    workers : int
        Number of processes. 0 runs in this process, for debugging and for use inside another pool.

    Notes
    -----
    When a worker dies, the groups that were in flight are tried again apart, then job by job; a job that dies
    alone too gets a `Crash` as its result, and all others go on.
    """
    if workers == 0:
        for group in groups:
            yield group, function(group)
        return
    from joblib.externals.loky.process_executor import BrokenProcessPool

    feed = iter(groups)
    while True:
        flying: dict[int, list[Any]] = {}
        try:
            yield from _fly(function, feed, flying, workers)
            return
        except BrokenProcessPool:
            suspects = list(flying.values())
        for group in suspects:
            yield group, _alone(function, group)


def _fly(
    function: Callable[[list[Any]], list[Any]], feed: Iterator[list[Any]], flying: dict[int, list[Any]], workers: int
) -> Iterator[tuple[list[Any], list[Any]]]:
    import joblib

    def dispatch() -> Iterator[Any]:
        for number, group in enumerate(feed):
            flying[number] = group
            yield joblib.delayed(_in_worker)(function, number, group)

    # joblib runs a single worker inside this process. A pool of two with one group in flight keeps a crash out.
    processes, in_flight = max(workers, 2), 2 * workers if workers > 1 else 1
    pool = joblib.Parallel(
        processes, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch=in_flight
    )
    results = pool(dispatch())
    try:
        for number, result in results:
            yield flying.pop(number), result
    finally:
        results.close()


def _alone(function: Callable[[list[Any]], list[Any]], group: list[Any]) -> list[Any]:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    flying: dict[int, list[Any]] = {}
    try:
        return next(_fly(function, iter([group]), flying, 1))[1]
    except BrokenProcessPool as error:
        if len(group) > 1:
            return [result for job in group for result in _alone(function, [job])]
        signals = sorted(set(re.findall(r"SIG[A-Z]+", str(error))))
        how = f" ({', '.join(signals)})" if signals else ""
        return [Crash(f"its worker process died{how}, again when tried alone: out of memory, or a crash in a library")]


def _in_worker(function: Callable[[list[Any]], list[Any]], number: int, group: list[Any]) -> tuple[int, list[Any]]:
    # Ctrl-C reaches every process of a terminal; the parent alone decides what is kept.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core: threads inside a worker would only fight each other.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    return number, function(group)
