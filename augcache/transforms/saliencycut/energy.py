"""The grid graph of a cut: links between neighbours, and what a trimap's known pixels do to the unknown ones."""

from __future__ import annotations

import math

import numpy as np

from augcache.records.compiled import kernel
from augcache.transforms.saliencycut.maxflow import FIELDS, SINK, TREE, steps
from augcache.transforms.saliencycut.trimap import BACKGROUND, FOREGROUND, UNKNOWN

UNITS = 10  # capacity 1.0 in the integers that the solver works on; 16 costs 3 % more time
LARGEST_COST = 3000.0  # data terms beyond it bind a pixel as firmly


@kernel
def links(lab, smoothness):  # type: ignore[no-untyped-def]  # numba infers
    """Capacities int32 ((H + 2) * (W + 2), 8) between neighbours of an image, float32 (H, W, 3) Lab.

    Boykov and Jolly, ICCV 2001, as in GrabCut: ``smoothness exp(-beta d^2)`` over the distance of the pixels, where
    beta is half the inverse of the mean d^2.
    """
    height, width = lab.shape[:2]
    total, pairs = 0.0, 0
    for y in range(height):
        for x in range(width):
            for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
                if y + dy >= 0 and 0 <= x + dx < width:
                    total += _square(lab, y, x, y + dy, x + dx)
                    pairs += 1
    beta = 0.5 * pairs / total if total > 0 else 0.0
    across = width + 2
    step = steps(across) // FIELDS
    capacity = np.zeros(((height + 2) * across, 8), np.int32)
    for y in range(height):
        for x in range(width):
            node = (y + 1) * across + x + 1
            for d in range(4):
                dy, dx = (-1, d - 1) if d < 3 else (0, -1)
                if y + dy >= 0 and 0 <= x + dx < width:
                    link = smoothness * math.exp(-beta * _square(lab, y, x, y + dy, x + dx))
                    if dx and dy:
                        link *= math.sqrt(0.5)
                    capacity[node, d] = capacity[node + step[d], 7 - d] = np.int32(link * UNITS + 0.5)
    return capacity


@kernel
def _square(lab, y, x, v, u):  # type: ignore[no-untyped-def]  # numba infers
    a = lab[y, x, 0] - lab[v, u, 0]
    b = lab[y, x, 1] - lab[v, u, 1]
    c = lab[y, x, 2] - lab[v, u, 2]
    return float(a * a + b * b + c * c)


@kernel
def fold(capacity, trimap):  # type: ignore[no-untyped-def]  # numba infers
    """Build the graph of the unknown pixels alone: links to known ones become capacity to a terminal, which is exact.

    Returns
    -------
    state : int32
        See `maxflow`.
    nodes : int64 (M,)
        The unknown pixels in it, in the order of rows.
    terminal : int32 (M,)
        What their known neighbours add to their terminal capacity.
    """
    height, width = trimap.shape
    across = width + 2
    step = steps(across)
    kind = np.full(len(capacity), 255, np.uint8)
    unknown = 0
    for y in range(height):
        for x in range(width):
            kind[(y + 1) * across + x + 1] = trimap[y, x]
            unknown += trimap[y, x] == UNKNOWN
    state = np.zeros(len(capacity) * FIELDS, np.int32)
    nodes, terminal = np.empty(unknown, np.int64), np.zeros(unknown, np.int32)
    found = 0
    for i in range(len(kind)):
        if kind[i] != UNKNOWN:
            continue
        for d in range(8):
            near = kind[i + step[d] // FIELDS]
            if near == UNKNOWN:
                state[i * FIELDS + d] = capacity[i, d]
            elif near == FOREGROUND:
                terminal[found] += capacity[i, d]
            elif near == BACKGROUND:
                terminal[found] -= capacity[i, d]
        nodes[found] = i * FIELDS
        found += 1
    return state, nodes, terminal


@kernel
def units(preference):  # type: ignore[no-untyped-def]  # numba infers
    """Terminal capacities int32 (M,) for data terms float64 (M,)."""
    result = np.empty(len(preference), np.int32)
    for i in range(len(preference)):
        result[i] = math.floor(min(max(preference[i], -LARGEST_COST), LARGEST_COST) * UNITS + 0.5)
    return result


@kernel
def settle(state, nodes, unknown, index, mask, salient):  # type: ignore[no-untyped-def]  # numba infers
    """Bring the mask and the colours' weights up to date with the cut.

    Parameters
    ----------
    state, nodes : int32, int64 (M,)
        See `maxflow`.
    unknown, index : int64 (M,)
        Of each node, its pixel in the mask and its colour.
    mask : bool (N,)
        Changed in place.
    salient : float64
        Number of each colour's pixels in the mask; changed in place.

    Returns
    -------
    int
        The number of pixels that changed.
    """
    changed = 0
    for i in range(len(nodes)):
        inside = state[nodes[i] + TREE] != SINK
        if inside != mask[unknown[i]]:
            mask[unknown[i]] = inside
            salient[index[i]] += 1.0 if inside else -1.0
            changed += 1
    return changed
