"""Memory that is lent out, and lent again once nobody holds it."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable

import numpy as np

# Bytes that wait to be lent again: a batch of 400 images of 224x224. What comes back beyond that is freed.
KEPT = 64 << 20


class ReusedMemory:
    """Gives uninitialised uint8 arrays, and takes their memory back when they are collected.

    The system hands fresh memory over page by page, each zeroed, which costs more than the look-up that fills it. A
    loader drops the samples of a batch together, once they are collated, so that the next batch can lie where they lay.

    Notes
    -----
    Hold the array itself for as long as its memory is in use, as ``torch.from_numpy`` does; a slice of it does not
    hold it, since numpy's slices hold what is beneath. Safe with threads; pickles and copies as one that is empty.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lent: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array, uint8 of a shape, with anything in it."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        if len(memory) != size:  # images of another size have come: the memory of the former is of no more use
            self._free.clear()
            memory = np.empty(size, np.uint8)
        array = memory.reshape(shape)
        reference = weakref.ref(array, self._take_back)
        self._lent[id(reference)] = reference, memory  # the reference too: one that is dropped calls nobody
        return array

    def _take_back(self, reference: weakref.ref[np.ndarray], is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_ending():  # what outlives the interpreter's modules comes back to nobody
            return
        _, memory = self._lent.pop(id(reference))
        if (len(self._free) + 1) * len(memory) <= KEPT:
            self._free.append(memory)

    def __reduce__(self) -> tuple[type[ReusedMemory], tuple[()]]:
        return ReusedMemory, ()
