"""What runs as one task of a cluster: a group of jobs, one after the other, in a worker that is not ours."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from augcache.building.engines.engine import Function
from augcache.building.engines.process_worker import run_one


@dataclass
class Answer:
    """What became of a group: results of its first jobs, and why there are not more.

    Attributes
    ----------
    results : list
        In the order of the jobs.
    is_overdue : bool
        The next job took too long; its thread cannot be stopped, so the worker should be.
    bug : str
        Traceback of a fault of our own in the next job.
    """

    results: list[Any] = field(default_factory=list)
    is_overdue: bool = False
    bug: str = ""


def work(function: Function, jobs: list[Any], timeout: float | None, is_wanted: Callable[[], bool]) -> Answer:
    """Work on jobs until one takes too long, or nobody waits for them any more."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver alone decides what is kept
    answer = Answer()
    for job in jobs:
        if not is_wanted():
            break
        if timeout is None:
            _work(function, job, answer)
        else:
            thread = threading.Thread(target=_work, args=(function, job, answer), daemon=True)
            before = len(answer.results)
            thread.start()
            thread.join(timeout)
            if thread.is_alive():
                return Answer(answer.results[:before], is_overdue=True)
        if answer.bug:
            break
    return answer


def _work(function: Function, job: Any, answer: Answer) -> None:
    try:
        answer.results.append(run_one(function, job))
    except BaseException:  # noqa: BLE001  # a transform's own exceptions are caught in `function`
        answer.bug = traceback.format_exc()
