"""Hits and misses counted over all processes of a DataLoader. Imports torch."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch

SLOTS = 1024  # counted by themselves, so that no lock is needed: a thread has one alone
HITS, MISSES = 0, 1
SETTLED = 0.02  # seconds after which another process's claim is seen


class SharedCounts:
    """Counts in memory that forked and spawned workers share.

    Notes
    -----
    A copy that is pickled to anywhere else, or made where the system gives no shared memory, counts for itself.
    """

    def __init__(self, memory: torch.Tensor | None = None) -> None:
        if memory is None:
            memory = torch.zeros(SLOTS + 1, 2, dtype=torch.int64)
            with contextlib.suppress(RuntimeError):  # a container without /dev/shm
                memory.share_memory_()  # type: ignore[no-untyped-call]  # torch has no type for it
        self._memory, self._array = memory, memory.numpy()

    def add(self, kind: int) -> None:
        """Count one of `HITS` or `MISSES`."""
        self._array[threading.get_native_id() % SLOTS, kind] += 1

    def totals(self) -> tuple[int, int]:
        """Hits and misses so far, in all processes."""
        hits, misses = self._array[:SLOTS].sum(axis=0).tolist()
        return hits, misses

    def claim(self) -> bool:
        """Whether this process is the first that asks, of all of them."""
        mine = self._array[SLOTS]
        if mine[0]:
            return False
        mine[0] = os.getpid()
        time.sleep(SETTLED)  # of several that ask at once, the last to write it has it
        return bool(mine[0] == os.getpid())

    def __reduce__(self) -> tuple[type[SharedCounts], tuple[Any, ...]]:
        return SharedCounts, () if get_spawning_popen() is None else (self._memory,)
