"""Index maps as runs of equal values: half the work of decoding them, and of colouring them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from augcache.errors import CorruptError

LONGEST = 256  # elements of one run, so that a byte holds its length less one
# Mean elements of a run, below which zstd alone does as well (measured on maps of 64x64).
WORTH = 4


class Runs(NamedTuple):
    """A uint8 array as its runs, in C order.

    Attributes
    ----------
    values : ndarray
        uint8 (N,).
    lengths : ndarray
        uint8 (N,), elements of each run, less one.
    shape : tuple of int
        The array's.
    """

    values: np.ndarray
    lengths: np.ndarray
    shape: tuple[int, ...]

    def array(self, into: np.ndarray | None = None) -> np.ndarray:
        """Return the array itself, written into the one given where there is one."""
        array = np.empty(self.shape, np.uint8) if into is None else into
        self.paint(_same(), array[None])
        return array

    def paint(self, tables: np.ndarray, planes: np.ndarray) -> None:
        """Write the array, looked up in one table for each plane.

        Parameters
        ----------
        tables : ndarray
            uint8 or uint32 (P, K), C-contiguous.
        planes : ndarray
            Of the tables' type, (P, *shape), C-contiguous; written.

        Raises
        ------
        CorruptError
            If the runs do not fill the shape, or a table lacks a value.
        """
        if not _fill()(self.values, self.lengths, tables, planes.reshape(len(planes), -1)):
            raise CorruptError("record: the runs of an index map do not fit its shape or its palette")


def runs_of(array: np.ndarray) -> Runs | None:
    """Find the runs of a uint8 array; None where they are too many to be worth it."""
    flat = array.ravel()
    changes = flat[1:] != flat[:-1]
    if (np.count_nonzero(changes) + 1) * WORTH > len(flat):
        return None
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    counts = np.diff(starts, append=len(flat))
    pieces = -(-counts // LONGEST)
    lengths = np.full(pieces.sum(), LONGEST)
    lengths[np.cumsum(pieces) - 1] = counts - (pieces - 1) * LONGEST  # the last piece of each takes what is left
    return Runs(np.repeat(flat[starts], pieces), (lengths - 1).astype(np.uint8), array.shape)


@functools.cache
def _same() -> np.ndarray:
    """Return the table that maps each value to itself."""
    return np.arange(256, dtype=np.uint8)[None]


@functools.cache
def _fill() -> Callable[..., bool]:
    """Return the compiled loop; numba takes a quarter of a second to import, and not all who read records need it."""
    from augcache.records.expand import fill

    return fill  # type: ignore[no-any-return]  # numba's
