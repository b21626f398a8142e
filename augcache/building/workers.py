"""Run a function over groups of jobs on workers that may die."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from augcache._version import __version__
from augcache.building import memory
from augcache.building.engines import open_engine
from augcache.building.engines.engine import Engine, Part
from augcache.errors import BackendError, RecipeError
from augcache.user_code import not_to_stdout, same_folder

Job = TypeVar("Job")
Function = Callable[[list[Job]], list[Any]]
Results = Iterator[tuple[list[Job], list[Any]]]
Waiting = list[tuple[Any, float]]

# Seconds without any result until a build says on what its workers are, and until it says so again.
SILENCE = 60.0
_TICK = 1.0


@dataclass(frozen=True)
class Crash:
    """What stands for the result of a job that took its worker down each time it was tried, or that never ended."""

    reason: str


@dataclass(frozen=True)
class Large:
    """What a function gives for an image that not every worker may decode at the same time, and how large it is."""

    pixels: int


@dataclass(frozen=True)
class Pool:
    """Workers on an engine, or none, which works in this process. Use `open_pool`.

    Attributes
    ----------
    engine : Engine or None
        None works in this process.
    timeout : float or None
        Seconds that a job may take, on an engine.
    """

    engine: Engine | None = None
    timeout: float | None = None

    @property
    def workers(self) -> int:
        """Jobs at a time; 0 in this process."""
        return 0 if self.engine is None else self.engine.workers

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this machine."""
        return self.engine is None or self.engine.is_local

    @property
    def ordinary_pixels(self) -> int:
        """Pixels that an image may have to be decoded at any time; a function gives `Large` for one of more."""
        return memory.ordinary_pixels(self.workers) if self.is_local else memory.MOST_PIXELS

    def run(
        self,
        function: Function[Job],
        groups: Iterable[list[Job]],
        *,
        large: Function[Job] | None = None,
        watch: Callable[[Waiting], None] = lambda _: None,
    ) -> Results[Job]:
        """Yield jobs with their results, for all jobs of all groups, in the order in which they finish.

        Parameters
        ----------
        function : callable
            Takes a list of jobs and returns a list as long. Both must pickle (cloudpickle is used).
        groups : iterable of list
            Read as workers become free, so memory stays flat however slow the reader is.
        large : callable, optional
            Takes the jobs for which `function` gave `Large`, when all else is done, and as few at a time as memory
            asks for.
        watch : callable, optional
            Called with jobs and seconds where nothing has come for `SILENCE` seconds.

        Notes
        -----
        When a worker dies, the job that it was at (on a cluster: all jobs of its group) is tried again by itself, and
        if that does not clear it, alone. A job that dies alone too gets a `Crash` as its result, and so does one that
        takes longer than the timeout, at once; all others go on. So a job is given up after three deaths (on Dask,
        three times as many as the cluster allows a task).
        """
        put_off: list[tuple[int, Job]] = []
        for jobs, results in self._run(function, groups, watch):
            put_off += [
                (result.pixels, job) for job, result in zip(jobs, results, strict=True) if isinstance(result, Large)
            ]
            rest = [pair for pair in zip(jobs, results, strict=True) if not isinstance(pair[1], Large)]
            if rest:
                yield [job for job, _ in rest], [result for _, result in rest]
        if put_off:
            assert large is not None  # a function that gives `Large` comes with one
            most = memory.at_once(max(pixels for pixels, _ in put_off), self.workers) if self.is_local else 1
            yield from self._run(large, ([job] for _, job in put_off), watch, most)

    def _run(
        self,
        function: Function[Job],
        groups: Iterable[list[Job]],
        watch: Callable[[Waiting], None],
        most: int = 1 << 30,
    ) -> Results[Job]:
        if self.engine is None:
            for group in groups:
                with not_to_stdout(), same_folder():
                    results = function(group)
                yield group, results
            return
        lost = _Lost()
        fly = partial(
            _fly, self.engine, function, lost=lost, watch=watch, late=f"took longer than {self.timeout or 0:g} s"
        )
        yield from fly(groups, most=min(self.engine.room, most))
        yield from fly(([job] for job in lost.take()), most=min(self.engine.workers, most))
        for job in lost.take():
            yield from fly([[job]], most=1)
            if lost.take():
                yield [job], [Crash(f"{lost.how}, again when tried alone: out of memory, or a crash in a library")]


@dataclass
class _Lost:
    """The jobs that may have taken a worker down, and how the last of them was lost."""

    jobs: list[Any] = field(default_factory=list)
    how: str = ""

    def sift(self, part: Part, rest: list[Any]) -> list[Any]:
        """Keep those of a part's jobs that may have taken its worker down; returns the others."""
        if not part.lost:
            return rest
        self.how = part.lost
        self.jobs += rest[: part.suspects]
        return rest[part.suspects :]

    def take(self) -> list[Any]:
        jobs, self.jobs = self.jobs, []
        return jobs


def _fly(
    engine: Engine,
    function: Function[Job],
    groups: Iterable[list[Job]],
    *,
    most: int,
    lost: _Lost,
    watch: Callable[[Waiting], None],
    late: str,
) -> Results[Job]:
    """Yield jobs with their results; those that may have taken a worker down go to `lost`."""
    feed, again, number = iter(groups), deque[list[Job]](), 0
    flight: dict[int, list[Job]] = {}  # what is still to come of each group
    heard = time.monotonic()
    while True:
        while len(flight) < most and (group := again.popleft() if again else next(feed, None)) is not None:
            number += 1
            flight[number] = group
            engine.submit(number, function, group)
        if not flight:
            return
        for part in engine.wait(_TICK):
            jobs, heard = flight.pop(part.number), time.monotonic()
            done, rest = jobs[: len(part.results)], jobs[len(part.results) :]
            results = part.results
            if part.is_overdue:
                done, rest, results = [*done, rest[0]], rest[1:], [*results, Crash(late)]
            rest = lost.sift(part, rest)
            if rest and part.is_back:
                again.append(rest)
            elif rest:
                flight[part.number] = rest
            if done:
                yield done, results
        if time.monotonic() - heard > SILENCE:
            heard = time.monotonic()
            watch([(flight[number][0], seconds) for number, seconds in engine.sitting()])


@contextlib.contextmanager
def open_pool(
    backend: str = "local", scheduler: str | None = None, workers: int | None = None, timeout: float | None = None
) -> Iterator[Pool]:
    """Have workers for as long as the block runs.

    Parameters
    ----------
    backend, scheduler
        See `augcache.building.engines.open_engine`.
    workers : int, optional
        Jobs at a time; default all cores of this machine, or of the cluster. 0 works in this process, for debugging
        and for use inside another pool.
    timeout : float, optional
        Seconds that a job may take; default any time.

    Raises
    ------
    RecipeError
        If `workers` is negative, `timeout` is not above 0, or there is no such backend.
    BackendError
        If the engine is not installed, does not answer, or its workers have another version of augcache.
    """
    if workers is not None and workers < 0:
        raise RecipeError(f"workers {workers}: give 0 (in this process) or more")
    if timeout is not None and not timeout > 0:
        raise RecipeError(f"timeout {timeout}: give seconds above 0")
    if workers == 0:
        if (backend, scheduler) != ("local", None):
            raise BackendError(f"workers 0 works in this process: leave it out for backend {backend}")
        if timeout is not None:
            raise BackendError("workers 0 works in this process, which cannot end itself: leave out the timeout")
        yield Pool()
        return
    with open_engine(backend, scheduler, workers, timeout) as engine:
        pool = Pool(engine, timeout)
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
