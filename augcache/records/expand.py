"""Runs of equal values written out: the compiled loop of every look-up. Imports numba."""

from __future__ import annotations

from typing import Any

from numba import types

from augcache.records.compiled import kernel, kernel_for

# Elements written at once, without a look at where the run ends: what stands too far, the next run writes over. Nearly
# every run is shorter, so that the processor foresees one turn of the loop. 16 to 64 take a tenth to a half longer.
AT_ONCE = 128


def _signature(element: Any) -> Any:
    runs = types.Array(types.uint8, 1, "C", readonly=True)
    planes = types.Array(element, 2, "C")
    return types.boolean(runs, runs, planes, planes)


@kernel
def _fill_plane(values, lengths, table, plane):  # type: ignore[no-untyped-def]  # numba infers
    size, position = len(plane), 0
    for run in range(len(values)):
        value, count = values[run], int(lengths[run]) + 1
        if value >= len(table) or position + count > size:
            return False
        element = table[value]
        if position + count + AT_ONCE <= size:
            for start in range(0, count, AT_ONCE):
                for offset in range(AT_ONCE):
                    plane[position + start + offset] = element
        else:
            for offset in range(count):
                plane[position + offset] = element
        position += count
    return position == size


@kernel_for(_signature(types.uint8), _signature(types.uint32))
def fill(values, lengths, tables, planes):  # type: ignore[no-untyped-def]  # numba infers
    """Write ``tables[p][value]`` into ``planes[p]`` for each element of each run.

    Parameters
    ----------
    values, lengths : ndarray
        As in `augcache.records.run_length.Runs`.
    tables : ndarray
        uint8 or uint32 (P, K).
    planes : ndarray
        (P, size), of the same type; written, and nothing outside it.

    Returns
    -------
    bool
        False where the runs are not of as many elements, or a table lacks a value.
    """
    if len(values) != len(lengths) or len(tables) != len(planes):
        return False
    for number in range(len(planes)):  # noqa: SIM110  # numba has no generators to give all()
        if not _fill_plane(values, lengths, tables[number], planes[number]):
            return False
    return True
