"""Run a function over groups of jobs on workers that may die."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from augcache._version import __version__
from augcache.engines import Engine, Lost, open_engine, task
from augcache.errors import BackendError, RecipeError

Job = TypeVar("Job")
Function = Callable[[list[Job]], list[Any]]

# Groups that are finished and wait for the one process that writes. While there are as many, no more are handed out.
WAITING = 64


@dataclass(frozen=True)
class Crash:
    """What stands for the result of a job that took its worker down each time it was tried."""

    reason: str


@dataclass(frozen=True)
class Pool:
    """Workers on an engine, or none, which works in this process. Use `open_pool`.

    Attributes
    ----------
    engine : Engine or None
        None works in this process.
    workers : int
        Jobs at a time; 0 where there is no engine.
    is_local : bool
        Whether the workers see this machine's files.
    """

    engine: Engine | None = None

    @property
    def workers(self) -> int:
        """Jobs at a time; 0 in this process."""
        return 0 if self.engine is None else self.engine.workers

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this machine."""
        return self.engine is None or self.engine.is_local

    def run(self, function: Function[Job], groups: Iterable[list[Job]]) -> Iterator[tuple[list[Job], list[Any]]]:
        """Yield ``(group, function(group))`` for every group, in the order in which they finish.

        Parameters
        ----------
        function : callable
            Takes a list of jobs and returns a list as long. Both must pickle (cloudpickle is used).
        groups : iterable of list
            Read as workers become free: at most two groups a worker are with the engine, and at most `WAITING` more are
            finished and not yet taken, so memory stays flat however slow the reader is.

        Notes
        -----
        When a worker dies, the groups that may have been its are tried again job by job, and the jobs that this does
        not clear, each alone. A job that dies alone too gets a `Crash` as its result; all others go on. So a job is
        given up after three deaths (on Dask, three times as many as the cluster allows a task).
        """
        if self.engine is None:
            for group in groups:
                yield group, function(group)
            return
        engine, lost = self.engine, _Lost()
        many = 2 * engine.workers if engine.workers > 1 else 1
        yield from lost.sift(_fly(engine, function, iter(groups), many))
        singles = [[job] for group in lost.take() for job in group]
        yield from lost.sift(_fly(engine, function, iter(singles), engine.workers))
        for group in lost.take():
            yield from lost.sift(_fly(engine, function, iter([group]), 1))
            if lost.take():
                yield group, [Crash(f"{lost.how}, again when tried alone: out of memory, or a crash in a library")]


@dataclass
class _Lost:
    """The groups that came back without a result, and how the last of them was lost."""

    groups: list[list[Any]] = field(default_factory=list)
    how: str = ""

    def sift(self, outcomes: Iterable[tuple[list[Any], list[Any] | Lost]]) -> Iterator[tuple[list[Any], list[Any]]]:
        """Pass on what has results, and keep the rest."""
        for group, outcome in outcomes:
            if isinstance(outcome, Lost):
                self.groups.append(group)
                self.how = outcome.how
            else:
                yield group, outcome

    def take(self) -> list[list[Any]]:
        groups, self.groups = self.groups, []
        return groups


class _Flight:
    """The groups that an engine has; it asks for more from threads of its own, also while it is being stopped."""

    def __init__(self, feed: Iterator[list[Any]], first: int, most: int) -> None:
        self.feed, self.number, self.most = feed, first, most
        self.groups: dict[int, list[Any]] = {}
        self.is_closed = self.is_fed = False
        self._lock = threading.Lock()

    def tasks(self, function: Any) -> Iterator[Any]:
        while (number := self._start()) is not None:
            yield task(function, number, self.groups[number])

    def _start(self) -> int | None:
        with self._lock:
            if self.is_closed or len(self.groups) >= self.most:
                return None
            try:
                group = next(self.feed)
            except StopIteration:
                self.is_fed = True
                return None
            self.number += 1
            self.groups[self.number] = group
            return self.number

    def close(self) -> None:
        with self._lock:
            self.is_closed = True


def _fly(
    engine: Engine, function: Function[Job], feed: Iterator[list[Job]], in_flight: int
) -> Iterator[tuple[list[Job], list[Any] | Lost]]:
    """Yield each group with its results, or with how it was lost."""
    number, work = 0, partial(_in_worker, function)
    while True:
        flight = _Flight(feed, number, in_flight + WAITING)
        try:
            for outcome in engine.fly(flight.tasks(work), in_flight):
                if isinstance(outcome, Lost):
                    yield flight.groups.pop(outcome.number), outcome
                else:
                    yield flight.groups.pop(outcome[0]), outcome[1]
        except engine.broken as error:
            flight.close()
            if not flight.groups:
                raise BackendError(f"workers die before they have any work ({error}); is there memory left?") from error
            for group in flight.groups.values():
                yield group, Lost(0, f"its worker process died{_signals(error)}")
        finally:
            flight.close()
        if flight.is_fed:
            return
        number = flight.number


def _signals(error: BaseException) -> str:
    signals = sorted(set(re.findall(r"SIG[A-Z]+", str(error))))
    return f" ({', '.join(signals)})" if signals else ""


def _in_worker(function: Function[Job], number: int, group: list[Job]) -> tuple[int, list[Any]]:
    # Ctrl-C reaches every process of a terminal; the parent alone decides what is kept.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core: threads inside a worker would only fight each other.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    return number, function(group)


@contextlib.contextmanager
def open_pool(backend: str = "loky", scheduler: str | None = None, workers: int | None = None) -> Iterator[Pool]:
    """Have workers for as long as the block runs.

    Parameters
    ----------
    backend, scheduler
        See `augcache.engines.open_engine`.
    workers : int, optional
        Jobs at a time; default all cores of this machine, or of the cluster. 0 works in this process, for debugging
        and for use inside another pool.

    Raises
    ------
    RecipeError
        If `workers` is negative, or there is no such backend.
    BackendError
        If the engine is not installed, does not answer, or its workers have another version of augcache.
    """
    if workers is not None and workers < 0:
        raise RecipeError(f"workers {workers}: give 0 (in this process) or more")
    if workers == 0:
        if (backend, scheduler) != ("loky", None):
            raise BackendError(f"workers 0 works in this process: leave it out for backend {backend}")
        yield Pool()
        return
    with open_engine(backend, scheduler, workers) as engine:
        pool = Pool(engine)
        if not engine.is_local:
            _check_version(pool, scheduler)
        yield pool


def _check_version(pool: Pool, scheduler: str | None) -> None:
    [(_, answer)] = pool.run(_version, [[None]])
    if answer != [__version__]:
        there = answer[0].reason if isinstance(answer[0], Crash) else f"augcache {answer[0]}"
        raise BackendError(
            f"{scheduler or 'the cluster'}: its workers have {there}, this machine has {__version__}; install the same "
            "version on all of them, or the entries may differ"
        )


def _version(jobs: list[None]) -> list[str]:
    return [__version__ for _ in jobs]
