"""What a run tells while it goes on and when it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What a build did.

    Attributes
    ----------
    total : int
        Pictures (or videos) in the source; the sum of the next three.
    computed, reused, failed : int
        Pictures whose record was computed, was there already (also as the same picture under another name), or
        could not be made.
    seconds : float
        Wall time.
    store : str
        Path of the store.
    recipe : str
        Digest of the recipe, as hex.
    times : dict of str to float
        Where the wall time went, in seconds: "read" (decode and hash; copies and frames count it under "compute"),
        "compute", and "write" (waiting for the disk).

    Examples
    --------
    >>> build("pictures", Recipe("saliencycut"))
    Report(total=4, computed=0, reused=4, failed=0, ...)
    """

    total: int
    computed: int
    reused: int
    failed: int
    seconds: float
    store: str
    recipe: str
    times: dict[str, float] = field(default_factory=dict)


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
        """Pictures dealt with."""
        return self.computed + self.reused + self.failed

    @property
    def worked(self) -> int:
        """Pictures that took work; those that were there already say nothing about the pace."""
        return self.computed + self.failed
