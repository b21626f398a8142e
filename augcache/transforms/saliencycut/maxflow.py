"""Exact minimum cuts on an 8-connected pixel grid, again and again with other data terms.

Boykov and Kolmogorov, "An Experimental Comparison of Min-Cut/Max-Flow Algorithms for Energy Minimization in Vision",
PAMI 2004: two search trees grow from the terminals until they meet; the path found is saturated; the nodes that lost
their parent are adopted or set free. Kohli and Torr, "Dynamic graph cuts", PAMI 2007: when only the capacities to the
terminals change, the flow and the trees of the cut before are kept.

The grid is padded by one pixel on each side, so that a neighbour is a constant distance away and needs no test for the
edge of the image. All that is known of a node lies in one cache line of 16 integers: `state` is int32 (16 N,), and a
node is named by the index of its first field. Capacities are integers: the cut does not depend on the order of sums.
"""

from __future__ import annotations

import numpy as np
from numpy import uint64 as u64  # an index that cannot be negative spares the test for it, a fifth of the time

from augcache.records.compiled import kernel

FIELDS = 16
# Fields of a node. The first eight are the residual capacities to its neighbours; directions d and 7 - d are opposite.
TR = 8  # residual capacity from the source (positive) or to the sink (negative)
TREE = 9
PARENT = 10  # direction of the parent, or TERMINAL, ORPHAN, NONE
STAMP = 11  # when DIST was last known to be right
DIST = 12  # steps to the terminal
QUEUED = 13

FREE, SOURCE, SINK = 0, 1, 2
TERMINAL, ORPHAN, NONE = 8, 9, 10
WAVES = 10


@kernel
def steps(width):  # type: ignore[no-untyped-def]  # numba infers
    """Distance in `state` to the eight neighbours in a padded grid of this width; ``steps[7 - d] == -steps[d]``."""
    return FIELDS * np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1], np.int64)


@kernel
def cut(state, step, nodes, change, clock):  # type: ignore[no-untyped-def]  # numba infers
    """Add capacity to the terminals and find the minimum cut.

    Parameters
    ----------
    state : int32 (16 N,)
        The nodes: at first all zero but for the capacities between neighbours, then as the cut before left them.
        Capacities into the padding must be 0.
    step : int64 (8,)
        See `steps`.
    nodes, change : int64 (M,), int32 (M,)
        All nodes of the grid outside its padding and islands, and what to add to their ``TR``.
    clock : int
        0 at first, then what the cut before returned.

    Returns
    -------
    int
        The clock. In `state`, ``TREE`` is ``SOURCE`` where the source reaches and ``SINK`` where the sink is reached;
        the cut costs the same on whichever side the ``FREE`` nodes are put.
    """
    queue = np.empty(len(nodes) + 1, np.int64)
    lost = np.empty(len(nodes) + 1, np.int64)
    if clock == 0:
        for i in range(len(nodes)):
            state[nodes[i] + TR] += change[i]
        _push_waves(state, step, nodes, queue)
    clock += 1
    tail, orphans = 0, 0
    for i in range(len(nodes)):
        more = change[i]
        if clock == 1:  # the trees start here
            more, state[nodes[i] + TR] = state[nodes[i] + TR], 0
        if more != 0:
            tail, orphans = _alter(state, step, nodes[i], more, clock, queue, tail, lost, orphans)
    tail = _adopt(state, step, lost, orphans, clock, queue, tail)
    return _grow(state, step, queue, tail, lost, clock)


@kernel
def _push_waves(state, step, nodes, queue):  # type: ignore[no-untyped-def]  # numba infers
    """Push source capacity over to its nearest sinks, many paths at a time; only before there are trees.

    Each wave measures the steps to the nearest node with sink capacity (breadth first), then lets every node, the
    farthest first, push what it has one step nearer: Dinic's blocking flow without its last word. What a node holds
    then is as good as capacity from the source. It makes the search that follows much shorter.
    """
    for _ in range(WAVES):
        n, head = 0, 0
        for node in nodes:
            state[u64(node + DIST)] = 0
            if state[u64(node + TR)] < 0:
                state[u64(node + DIST)] = 1
                queue[n] = node
                n += 1
        while head < n:
            node = queue[head]
            head += 1
            for d in range(8):
                near = node + step[d]
                if state[u64(near + 7 - d)] > 0 and state[u64(near + DIST)] == 0:
                    state[u64(near + DIST)] = state[u64(node + DIST)] + 1
                    queue[n] = near
                    n += 1
        for i in range(n - 1, -1, -1):
            node = queue[i]
            for d in range(8):
                near = node + step[d]
                if (
                    state[u64(node + TR)] > 0
                    and state[u64(node + d)] > 0
                    and state[u64(near + DIST)] == state[u64(node + DIST)] - 1
                ):
                    flow = min(state[u64(node + d)], state[u64(node + TR)])
                    state[u64(node + d)] -= flow
                    state[u64(near + 7 - d)] += flow
                    state[u64(node + TR)] -= flow
                    state[u64(near + TR)] += flow


@kernel
def _activate(state, node, queue, tail):  # type: ignore[no-untyped-def]  # numba infers
    if state[u64(node + QUEUED)]:
        return tail
    state[u64(node + QUEUED)] = 1
    queue[tail] = node
    return tail + 1 if tail + 1 < len(queue) else 0


@kernel
def _alter(state, step, node, change, clock, queue, tail, lost, orphans):  # type: ignore[no-untyped-def]
    """Change a node's terminal capacity and make it a root of the tree that it now belongs to."""
    state[u64(node + TR)] += change
    if state[u64(node + TR)] == 0:
        if state[u64(node + TREE)] != FREE and state[u64(node + PARENT)] == TERMINAL:
            state[u64(node + PARENT)] = ORPHAN
            lost[orphans] = node
            orphans += 1
        return tail, orphans
    side, before = SOURCE if state[u64(node + TR)] > 0 else SINK, state[u64(node + TREE)]
    if before != side:
        if before != FREE:
            for d in range(8):
                near = node + step[d]
                if state[u64(near + TREE)] == before:
                    tail = _activate(state, near, queue, tail)  # it may take the node back should it be set free
                    if state[u64(near + PARENT)] == 7 - d:
                        state[u64(near + PARENT)] = ORPHAN
                        lost[orphans] = near
                        orphans += 1
        state[u64(node + TREE)] = side
        tail = _activate(state, node, queue, tail)
    state[u64(node + PARENT)] = TERMINAL
    state[u64(node + DIST)] = 1
    state[u64(node + STAMP)] = clock
    return tail, orphans


@kernel
def _grow(state, step, queue, tail, lost, clock):  # type: ignore[no-untyped-def]  # numba infers
    """Grow both trees until no path is left between them."""
    head = 0
    while head != tail:
        node = queue[head]
        head = head + 1 if head + 1 < len(queue) else 0
        state[u64(node + QUEUED)] = 0
        side = state[u64(node + TREE)]
        if side == FREE:
            continue
        d = 0
        while d < 8:
            near = node + step[d]
            if state[u64(node + d if side == SOURCE else near + 7 - d)] == 0:
                d += 1
                continue
            other = state[u64(near + TREE)]
            if other == FREE or (
                other == side
                and state[u64(near + STAMP)] <= state[u64(node + STAMP)]
                and state[u64(near + DIST)] > state[u64(node + DIST)]
            ):
                state[u64(near + PARENT)] = 7 - d
                state[u64(near + STAMP)] = state[u64(node + STAMP)]
                state[u64(near + DIST)] = state[u64(node + DIST)] + 1
                if other == FREE:
                    state[u64(near + TREE)] = side
                    tail = _activate(state, near, queue, tail)
                d += 1
            elif other == side:
                d += 1
            else:
                orphans = _augment(state, step, node if side == SOURCE else near, d if side == SOURCE else 7 - d, lost)
                clock += 1
                tail = _adopt(state, step, lost, orphans, clock, queue, tail)
                if state[u64(node + TREE)] != side:
                    break
    return clock


@kernel
def _augment(state, step, source_side, link, lost):  # type: ignore[no-untyped-def]  # numba infers
    """Saturate the path through a link between the trees; return the number of nodes that it cut off."""
    sink_side = source_side + step[link]
    flow = state[u64(source_side + link)]
    at = source_side
    while state[u64(at + PARENT)] != TERMINAL:
        up = state[u64(at + PARENT)]
        at += step[up]
        flow = min(flow, state[u64(at + 7 - up)])
    flow = min(flow, state[u64(at + TR)])
    at = sink_side
    while state[u64(at + PARENT)] != TERMINAL:
        up = state[u64(at + PARENT)]
        flow = min(flow, state[u64(at + up)])
        at += step[up]
    flow = min(flow, -state[u64(at + TR)])

    orphans = 0
    state[u64(source_side + link)] -= flow
    state[u64(sink_side + 7 - link)] += flow
    for side in range(2):
        at = sink_side if side else source_side
        while True:
            up = state[u64(at + PARENT)]
            if up == TERMINAL:
                state[u64(at + TR)] += flow if side else -flow
                left = state[u64(at + TR)]
                above = at
            else:
                above = at + step[up]
                inward, outward = (at + up, above + 7 - up) if side else (above + 7 - up, at + up)
                state[u64(inward)] -= flow
                state[u64(outward)] += flow
                left = state[u64(inward)]
            if left == 0:
                state[u64(at + PARENT)] = ORPHAN
                lost[orphans] = at
                orphans += 1
            if up == TERMINAL:
                break
            at = above
    return orphans


@kernel
def _adopt(state, step, lost, orphans, clock, queue, tail):  # type: ignore[no-untyped-def]  # numba infers
    """Find each orphan the parent nearest to the terminal, or set it free and its children orphans."""
    i = 0
    while i < orphans:
        node = lost[i]
        i += 1
        if state[u64(node + PARENT)] != ORPHAN:  # it has since become a root
            continue
        best, best_dist = _nearest_parent(state, step, node, clock)
        if best != NONE:
            state[u64(node + PARENT)] = best
            state[u64(node + STAMP)] = clock
            state[u64(node + DIST)] = best_dist + 1
        else:
            orphans, tail = _set_free(state, step, node, lost, orphans, queue, tail)
    return tail


@kernel
def _nearest_parent(state, step, node, clock):  # type: ignore[no-untyped-def]  # numba infers
    """Direction of the neighbour of a node's tree that is nearest to the terminal, or NONE; and its distance."""
    side = state[u64(node + TREE)]
    best, best_dist = NONE, 2147483647
    for d in range(8):
        near = node + step[d]
        if state[u64(near + TREE)] == side and state[u64(near + 7 - d if side == SOURCE else node + d)] != 0:
            dist = _root_distance(state, step, near, clock)
            if 0 <= dist < best_dist:
                best, best_dist = d, dist
    return best, best_dist


@kernel
def _set_free(state, step, node, lost, orphans, queue, tail):  # type: ignore[no-untyped-def]  # numba infers
    """Take a node out of its tree: its children become orphans, and neighbours that can reach it active."""
    side = state[u64(node + TREE)]
    state[u64(node + TREE)] = FREE
    state[u64(node + PARENT)] = NONE
    for d in range(8):
        near = node + step[d]
        if state[u64(near + TREE)] == side:
            if state[u64(near + 7 - d if side == SOURCE else node + d)] != 0:
                tail = _activate(state, near, queue, tail)
            if state[u64(near + PARENT)] == 7 - d:
                state[u64(near + PARENT)] = ORPHAN
                lost[orphans] = near
                orphans += 1
    return orphans, tail


@kernel
def _root_distance(state, step, node, clock):  # type: ignore[no-untyped-def]  # numba infers
    """Count the steps from a node to its terminal, -1 if it hangs from an orphan; mark the way as checked."""
    dist, at = 0, node
    while True:
        if state[u64(at + STAMP)] == clock:
            dist += state[u64(at + DIST)]
            break
        dist += 1
        up = state[u64(at + PARENT)]
        if up == TERMINAL:
            state[u64(at + STAMP)] = clock
            state[u64(at + DIST)] = 1
            break
        if up == ORPHAN:
            return -1
        at += step[up]
    found, at = dist, node
    while state[u64(at + STAMP)] != clock:
        state[u64(at + STAMP)] = clock
        state[u64(at + DIST)] = dist
        dist -= 1
        at += step[state[u64(at + PARENT)]]
    return found
