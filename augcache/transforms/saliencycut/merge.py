"""Merging of pixels into regions along a grid's edges in order of weight, on compiled loops.

The rule is that of Felzenszwalb and Huttenlocher (IJCV 2004): an edge joins two regions when its weight is at
most the internal difference of each plus ``scale / size``. Edges need their full order only where they still
can matter, so they are split by the leading bits of their weights, and each group, lightest first, drops the
edges that have become internal or final before it is sorted. The result is that of sorting them all.
"""

from __future__ import annotations

import numpy as np

from augcache.records.compiled import kernel

# An edge is one uint64: the bits of its weight, whose order is that of non-negative floats, then
# 4 * pixel + direction. Unique, so that any sort keeps scan order among equal weights.
_WEIGHT = np.uint64(32)
_CODE = np.uint64(0xFFFFFFFF)
_SECOND = np.uint64(32 + 11)
_DIGIT = np.uint64(0x7FF)
_GROUP_BITS = 21  # weights that differ only in these low bits form a group
_INFINITE = 0x7F800000 >> _GROUP_BITS
_FEW = 64


@kernel
def merge(weights, scale, min_size):  # type: ignore[no-untyped-def]  # numba infers
    """Merge the pixels of a grid into regions.

    Parameters
    ----------
    weights : float32 (H, W, 4)
        Of the edges to the right, down, down right and up right; infinite where there is none.
    scale : float32
        How far a small region may differ from its neighbour and still join it.
    min_size : int
        Smaller regions join a neighbour in the end, along the lightest edge.

    Returns
    -------
    labels : int32 (H, W)
        Numbered by first appearance in scan order.
    regions : int
    """
    height, width, _ = weights.shape
    number = height * width
    edges, start = _group(weights.reshape(-1).view(np.uint32))
    step = np.array([1, width, width + 1, 1 - width])
    parent = np.arange(number, dtype=np.int32)
    size = np.ones(number, np.int32)
    limit = np.full(number, scale).view(np.uint32)  # of a root: greatest weight, as bits, that still joins it
    largest = 0
    for group in range(_INFINITE):
        largest = max(largest, start[group + 1] - start[group])
    other = np.empty(largest, np.uint64)
    left = 0  # edges that the last pass needs, kept at the front of the array in order
    for group in range(_INFINITE):
        first, end = start[group], start[group + 1]
        if first == end:
            continue
        end = _drop(edges, first, end, np.uint32(group << _GROUP_BITS), parent, size, limit, step, min_size)
        if end - first > _FEW:
            _radix_sort(edges[first:end], other)
        else:
            _insertion_sort(edges[first:end])
        left = _join(edges, first, end, left, parent, size, limit, step, scale, min_size)
    _join_small(edges[:left], parent, size, min_size)
    return _number(parent, height, width)


@kernel
def _group(bits):  # type: ignore[no-untyped-def]  # numba infers
    """Edges of weights given as bits, split stably by the leading ones, and where each group starts."""
    shift = np.uint32(_GROUP_BITS)
    start = np.zeros((1 << (32 - _GROUP_BITS)) + 1, np.int64)
    for i in range(len(bits)):
        start[(bits[i] >> shift) + 1] += 1
    for group in range(len(start) - 1):
        start[group + 1] += start[group]
    at = start[:-1].copy()
    edges = np.empty(len(bits), np.uint64)
    for i in range(len(bits)):
        group = bits[i] >> shift
        edges[at[group]] = np.uint64(bits[i]) << _WEIGHT | np.uint64(i)
        at[group] += 1
    return edges, start


@kernel
def _root(parent, i):  # type: ignore[no-untyped-def]  # numba infers
    # Most paths are two steps or fewer: taking two without looking spares mispredicted branches.
    root = parent[parent[i]]
    while parent[root] != root:
        root = parent[parent[root]]
    parent[i] = root
    return root


@kernel
def _drop(edges, first, end, lightest, parent, size, limit, step, min_size):  # type: ignore[no-untyped-def]
    """Keep the edges of one group, in scan order, that may still join two regions; return the new end."""
    kept = first
    for e in range(first, end):
        code = np.int64(edges[e] & _CODE)
        pixel = code >> 2
        a = _root(parent, pixel)
        b = _root(parent, pixel + step[code & 3])
        if a == b:
            continue
        # A region whose limit lies below all coming weights grows no more, unless it is too small.
        if min(size[a], size[b]) >= min_size and min(limit[a], limit[b]) < lightest:
            continue
        edges[kept] = edges[e]
        kept += 1
    return kept


@kernel
def _join(edges, first, end, left, parent, size, limit, step, scale, min_size):  # type: ignore[no-untyped-def]
    """Join along the edges of one group; put those that a small region may still need at `left`, as two roots."""
    value = limit.view(np.float32)
    for e in range(first, end):
        code = np.int64(edges[e] & _CODE)
        pixel = code >> 2
        a = _root(parent, pixel)
        b = _root(parent, pixel + step[code & 3])
        if a == b:
            continue
        weight = np.uint32(edges[e] >> _WEIGHT)
        if weight <= min(limit[a], limit[b]):
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            limit[a] = weight
            value[a] += scale / np.float32(size[a])
        elif min(size[a], size[b]) < min_size:
            edges[left] = np.uint64(a) << _WEIGHT | np.uint64(b)
            left += 1
    return left


@kernel
def _join_small(pairs, parent, size, min_size):  # type: ignore[no-untyped-def]  # numba infers
    for pair in pairs:
        a = _root(parent, np.int64(pair >> _WEIGHT))
        b = _root(parent, np.int64(pair & _CODE))
        if a != b and min(size[a], size[b]) < min_size:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]


@kernel
def _number(parent, height, width):  # type: ignore[no-untyped-def]  # numba infers
    labels = np.empty(len(parent), np.int32)
    name = np.full(len(parent), -1, np.int32)
    regions = 0
    for i in range(len(parent)):
        root = _root(parent, i)
        if name[root] < 0:
            name[root] = regions
            regions += 1
        labels[i] = name[root]
    return labels.reshape(height, width), regions


@kernel
def _insertion_sort(edges):  # type: ignore[no-untyped-def]  # numba infers
    for i in range(1, len(edges)):
        edge = edges[i]
        j = i
        while j > 0 and edges[j - 1] > edge:
            edges[j] = edges[j - 1]
            j -= 1
        edges[j] = edge


@kernel
def _radix_sort(edges, other):  # type: ignore[no-untyped-def]  # numba infers
    """Sort edges of one group by weight, stably, least significant digit first; `other` is for work."""
    count = np.zeros((2, 2048), np.int64)
    for edge in edges:
        count[0, (edge >> _WEIGHT) & _DIGIT] += 1
        count[1, (edge >> _SECOND) & _DIGIT] += 1
    _spread(edges, other, count[0], _WEIGHT)
    _spread(other[: len(edges)], edges, count[1], _SECOND)


@kernel
def _spread(source, target, count, shift):  # type: ignore[no-untyped-def]  # numba infers
    position = 0
    for value in range(len(count)):
        here = count[value]
        count[value] = position
        position += here
    for edge in source:
        value = (edge >> shift) & _DIGIT
        target[count[value]] = edge
        count[value] += 1
