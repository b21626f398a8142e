"""Graph-based segmentation of Felzenszwalb and Huttenlocher (IJCV 2004)."""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

SIGMA = 0.5
SCALE = 50.0
MIN_SIZE = 200


def segment(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Cut a picture into regions of even colour, as the region contrast does.

    Edges join 8-neighbours, weighted by their distance in smoothed CIE Lab.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.

    Returns
    -------
    labels : int32 (H, W)
        Region of each pixel, numbered by first appearance in scan order.
    regions : int
    """
    lab = cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2Lab)
    lab = cv2.GaussianBlur(lab, (0, 0), SIGMA, borderType=cv2.BORDER_REPLICATE)
    height, width = lab.shape[:2]
    edges = _sorted(_edges(lab))
    labels, regions = _join(edges, height, width, np.float32(SCALE), MIN_SIZE)
    return labels, regions


@njit(cache=True, nogil=True)
def _edges(lab):  # type: ignore[no-untyped-def]  # numba infers
    """Every edge as bits of its float32 weight << 32 | 4 * pixel + direction, in scan order.

    Directions: right, down, down right, up right.
    """
    height, width, _ = lab.shape
    edges = np.empty(4 * height * width, np.uint64)
    row = np.empty(4 * width, np.float32)
    n = 0
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width - 1):
            row[4 * x] = _distance(lab, y, x, y, x + 1)
            row[4 * x + 1] = _distance(lab, y, x, down, x)
            row[4 * x + 2] = _distance(lab, y, x, down, x + 1)
            row[4 * x + 3] = _distance(lab, y, x, up, x + 1)
        row[4 * width - 3] = _distance(lab, y, width - 1, down, width - 1)
        bits = row.view(np.uint32)
        base = 4 * y * width
        for x in range(width - 1):
            i = 4 * x
            edges[n] = np.uint64(bits[i]) << np.uint64(32) | np.uint64(base + i)
            n += 1
            if y + 1 < height:
                edges[n] = np.uint64(bits[i + 1]) << np.uint64(32) | np.uint64(base + i + 1)
                edges[n + 1] = np.uint64(bits[i + 2]) << np.uint64(32) | np.uint64(base + i + 2)
                n += 2
            if y > 0:
                edges[n] = np.uint64(bits[i + 3]) << np.uint64(32) | np.uint64(base + i + 3)
                n += 1
        if y + 1 < height:
            i = 4 * width - 3
            edges[n] = np.uint64(bits[i]) << np.uint64(32) | np.uint64(base + i)
            n += 1
    return edges[:n]


@njit(cache=True, nogil=True, inline="always")
def _distance(lab, y, x, v, u):  # type: ignore[no-untyped-def]  # numba infers
    a = lab[y, x, 0] - lab[v, u, 0]
    b = lab[y, x, 1] - lab[v, u, 1]
    c = lab[y, x, 2] - lab[v, u, 2]
    return np.sqrt(a * a + b * b + c * c)


@njit(cache=True, nogil=True)
def _sorted(edges):  # type: ignore[no-untyped-def]  # numba infers
    """Sort by weight, in scan order where equal: radix sort, least significant digit first."""
    count = np.zeros((3, 2048), np.int64)
    for edge in edges:
        count[0, (edge >> np.uint64(32)) & np.uint64(2047)] += 1
        count[1, (edge >> np.uint64(43)) & np.uint64(2047)] += 1
        count[2, edge >> np.uint64(54)] += 1
    other = np.empty_like(edges)
    for digit in range(3):
        position = 0
        for value in range(2048):
            here = count[digit, value]
            count[digit, value] = position
            position += here
        shift = np.uint64(32 + 11 * digit)
        for edge in edges:
            value = (edge >> shift) & np.uint64(2047)
            other[count[digit, value]] = edge
            count[digit, value] += 1
        edges, other = other, edges
    return edges


@njit(cache=True, nogil=True, inline="always")
def _find(parent, i):  # type: ignore[no-untyped-def]  # numba infers
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join(edges, height, width, scale, min_size):  # type: ignore[no-untyped-def]  # numba infers
    number = height * width
    parent = np.arange(number, dtype=np.int32)
    size = np.ones(number, np.int32)
    limit = np.full(number, scale)  # greatest weight that still joins: internal difference + scale / size
    step = np.array([1, width, width + 1, 1 - width])
    weights = (edges >> np.uint64(32)).astype(np.uint32).view(np.float32)
    between = np.empty((len(edges), 2), np.int32)
    n = 0
    for e in range(len(edges)):
        code = np.int64(edges[e] & np.uint64(0xFFFFFFFF))
        p = code >> 2
        a = _find(parent, p)
        b = _find(parent, p + step[code & 3])
        if a == b:
            continue
        if weights[e] <= limit[a] and weights[e] <= limit[b]:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            limit[a] = weights[e] + scale / np.float32(size[a])
        else:
            between[n, 0] = a
            between[n, 1] = b
            n += 1
    for e in range(n):
        a = _find(parent, between[e, 0])
        b = _find(parent, between[e, 1])
        if a != b and (size[a] < min_size or size[b] < min_size):
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
    labels = np.empty(number, np.int32)
    name = np.full(number, -1, np.int32)
    regions = 0
    for i in range(number):
        root = _find(parent, i)
        if name[root] < 0:
            name[root] = regions
            regions += 1
        labels[i] = name[root]
    return labels.reshape(height, width), regions


@njit(cache=True, nogil=True)
def region_means(labels, values, regions):  # type: ignore[no-untyped-def]  # numba infers
    """Mean, float64 (regions, C), of values (H, W, C) over each region of labels (H, W)."""
    height, width, channels = values.shape
    mean = np.zeros((regions, channels))
    count = np.zeros(regions)
    for y in range(height):
        for x in range(width):
            r = labels[y, x]
            count[r] += 1
            for c in range(channels):
                mean[r, c] += values[y, x, c]
    return mean / count.reshape(-1, 1)
