"""What a build tells while it goes on: counts so far, and where the time goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Times:
    """Where a run's time goes.

    Attributes
    ----------
    stages : dict of str to float
        Wall time of each stage, in seconds.
    pace : dict of int to int
        How many items took how long in their worker; see `pace_bin`.
    """

    stages: dict[str, float] = field(default_factory=dict)
    pace: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block under a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - started

    def item(self, seconds: float) -> None:
        """Count one item."""
        number = pace_bin(seconds)
        self.pace[number] = self.pace.get(number, 0) + 1

    def split(self, seconds: float) -> dict[str, float]:
        """Share a run's wall time out; what is neither read nor write is "compute"."""
        rest = max(0.0, seconds - sum(self.stages.values()))
        shares = {"read": self.stages.get("read"), "compute": rest, "write": self.stages.get("write", 0.0)}
        return {name: round(share, 3) for name, share in shares.items() if share is not None}


def pace_bin(seconds: float) -> int:
    """Return the number of a duration's bin: bin k is from 2^(k/2) up to 2^((k+1)/2) milliseconds."""
    return math.floor(2 * math.log2(max(seconds * 1000, 0.001)))


@dataclass
class Progress:
    """Counts so far; given to the callback of a build as results come in.

    Where none has come for a minute, `waiting` has the names that the workers are at, and for how many seconds each.
    """

    total: int
    computed: int = 0
    reused: int = 0
    failed: int = 0
    times: Times = field(default_factory=Times)
    waiting: list[tuple[str, float]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Images dealt with."""
        return self.computed + self.reused + self.failed

    @property
    def worked(self) -> int:
        """Images that took work; those that were there already say nothing about the pace."""
        return self.computed + self.failed
