"""Exact minimum cut on an 8-connected pixel grid.

Boykov and Kolmogorov, "An Experimental Comparison of Min-Cut/Max-Flow Algorithms for Energy Minimization in Vision",
PAMI 2004: two search trees grow from the terminals until they meet; the path found is saturated; the nodes that lost
their parent are adopted or set free. Capacities are integers, so the result does not depend on the order of sums.

The grid is padded by one pixel on each side, so that a neighbour is a constant offset away and needs no test for the
edge of the picture. A node's eight residual capacities lie side by side; direction ``d`` and ``7 - d`` are opposite.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FREE, SOURCE, SINK = 0, 1, 2  # the tree that a node belongs to
TERMINAL, ORPHAN, NONE = 8, 9, 10  # parents that are not a direction


@njit(cache=True, nogil=True)
def neighbour_offsets(width: int) -> np.ndarray:
    """Offsets of the eight neighbours in a padded grid of this width, such that ``offset[7 - d] == -offset[d]``."""
    return np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1], np.int32)


@njit(cache=True, nogil=True)
def _root_distance(node, now, offset, parent, stamp, dist):
    """Steps from a node to its terminal, or -1 if it hangs from an orphan; marks the way as checked."""
    steps, at = 0, node
    while True:
        if stamp[at] == now:
            steps += dist[at]
            break
        steps += 1
        up = parent[at]
        if up == TERMINAL:
            stamp[at] = now
            dist[at] = 1
            break
        if up == ORPHAN:
            return -1
        at += offset[up]
    found, at = steps, node
    while stamp[at] != now:
        stamp[at] = now
        dist[at] = steps
        steps -= 1
        at += offset[parent[at]]
    return found


@njit(cache=True, nogil=True)
def _augment(source_side, link, cap, tr, offset, parent, orphans, tail):
    """Saturate the path through ``link`` of ``source_side``; append the nodes cut off to the ring of orphans."""
    size = orphans.size
    sink_side = source_side + offset[link]
    flow = cap[source_side, link]
    at = source_side
    while parent[at] != TERMINAL:
        up = parent[at]
        at += offset[up]
        flow = min(flow, cap[at, 7 - up])
    flow = min(flow, tr[at])
    at = sink_side
    while parent[at] != TERMINAL:
        up = parent[at]
        flow = min(flow, cap[at, up])
        at += offset[up]
    flow = min(flow, -tr[at])

    cap[source_side, link] -= flow
    cap[sink_side, 7 - link] += flow
    at = source_side
    while parent[at] != TERMINAL:
        up = parent[at]
        above = at + offset[up]
        cap[at, up] += flow
        cap[above, 7 - up] -= flow
        if cap[above, 7 - up] == 0:
            parent[at] = ORPHAN
            orphans[tail % size] = at
            tail += 1
        at = above
    tr[at] -= flow
    if tr[at] == 0:
        parent[at] = ORPHAN
        orphans[tail % size] = at
        tail += 1
    at = sink_side
    while parent[at] != TERMINAL:
        up = parent[at]
        above = at + offset[up]
        cap[above, 7 - up] += flow
        cap[at, up] -= flow
        if cap[at, up] == 0:
            parent[at] = ORPHAN
            orphans[tail % size] = at
            tail += 1
        at = above
    tr[at] += flow
    if tr[at] == 0:
        parent[at] = ORPHAN
        orphans[tail % size] = at
        tail += 1
    return tail


@njit(cache=True, nogil=True)
def solve(cap, tr, width):
    """Minimum cut of a padded grid.

    Parameters
    ----------
    cap : int32 (N, 8)
        Capacities to the eight neighbours; becomes the residual capacities. Links into the padding must be 0.
    tr : int32 (N,)
        Capacity from the source (positive) or to the sink (negative); becomes the residual.
    width : int
        Width of the padded grid.

    Returns
    -------
    tree : uint8 (N,)
        ``SOURCE`` for the nodes that can be reached from the source, ``SINK`` for those that reach the sink.
    """
    size = tr.size
    offset = neighbour_offsets(width)
    tree = np.zeros(size, np.uint8)
    parent = np.full(size, NONE, np.uint8)
    stamp = np.zeros(size, np.int32)
    dist = np.zeros(size, np.int32)
    queued = np.zeros(size, np.bool_)
    queue = np.empty(size, np.int32)
    orphans = np.empty(size, np.int32)
    head = tail = 0
    for node in range(size):
        if tr[node] != 0:
            tree[node] = SOURCE if tr[node] > 0 else SINK
            parent[node] = TERMINAL
            dist[node] = 1
            queued[node] = True
            queue[tail] = node
            tail += 1
    now = 0
    lost_head = lost_tail = 0
    while head != tail:
        node = queue[head % size]
        head += 1
        queued[node] = False
        side = tree[node]
        if side == FREE:
            continue
        d = 0
        while d < 8:
            near = node + offset[d]
            open_link = cap[node, d] if side == SOURCE else cap[near, 7 - d]
            if open_link == 0:
                d += 1
                continue
            if tree[near] == FREE:
                tree[near] = side
                parent[near] = 7 - d
                stamp[near] = stamp[node]
                dist[near] = dist[node] + 1
                if not queued[near]:
                    queued[near] = True
                    queue[tail % size] = near
                    tail += 1
                d += 1
                continue
            if tree[near] == side:
                if stamp[near] <= stamp[node] and dist[near] > dist[node]:
                    parent[near] = 7 - d
                    stamp[near] = stamp[node]
                    dist[near] = dist[node] + 1
                d += 1
                continue
            if side == SOURCE:
                lost_tail = _augment(node, d, cap, tr, offset, parent, orphans, lost_tail)
            else:
                lost_tail = _augment(near, 7 - d, cap, tr, offset, parent, orphans, lost_tail)
            now += 1
            while lost_head != lost_tail:
                lost = orphans[lost_head % size]
                lost_head += 1
                own = tree[lost]
                best, best_dist = NONE, 2147483647
                for e in range(8):
                    other = lost + offset[e]
                    if tree[other] != own:
                        continue
                    if (cap[other, 7 - e] if own == SOURCE else cap[lost, e]) == 0:
                        continue
                    steps = _root_distance(other, now, offset, parent, stamp, dist)
                    if steps >= 0 and steps < best_dist:
                        best, best_dist = e, steps
                if best != NONE:
                    parent[lost] = best
                    stamp[lost] = now
                    dist[lost] = best_dist + 1
                    continue
                tree[lost] = FREE
                parent[lost] = NONE
                for e in range(8):
                    other = lost + offset[e]
                    if tree[other] != own:
                        continue
                    if (cap[other, 7 - e] if own == SOURCE else cap[lost, e]) != 0 and not queued[other]:
                        queued[other] = True
                        queue[tail % size] = other
                        tail += 1
                    if parent[other] == 7 - e:
                        parent[other] = ORPHAN
                        orphans[lost_tail % size] = other
                        lost_tail += 1
            if tree[node] != side:
                break
    return tree
