"""Measures of regions: size, place, spread, colours, and whether they belong to the border."""

from __future__ import annotations

import numpy as np

from augcache.records.compiled import kernel

BORDER_LIKELIHOOD = 0.4


@kernel
def label_runs(labels):  # type: ignore[no-untyped-def]  # numba infers
    """Split a label map into rows of equal label, int32 (N, 4): y, first x, end x, label.

    Sums over a run have a closed form, and there are ten times fewer of them than pixels.
    """
    height, width = labels.shape
    runs = np.empty((height * width, 4), np.int32)
    n = 0
    for y in range(height):
        x = 0
        while x < width:
            first, label = x, labels[y, x]
            while x < width and labels[y, x] == label:
                x += 1
            runs[n, 0], runs[n, 1], runs[n, 2], runs[n, 3] = y, first, x, label
            n += 1
    return runs[:n]


@kernel
def joint_histogram(runs, index, regions, colours):  # type: ignore[no-untyped-def]  # numba infers
    """Count the pixels of each colour in each region, int32 (regions, colours)."""
    histogram = np.zeros((regions, colours), np.int32)
    for i in range(len(runs)):
        row = histogram[runs[i, 3]]
        for x in range(runs[i, 1], runs[i, 2]):
            row[index[runs[i, 0], x]] += 1
    return histogram


@kernel
def region_moments(runs, shape, regions):  # type: ignore[no-untyped-def]  # numba infers
    """Sum over each region, float64 (regions, 5): 1, x, y, |x - W / 2|, |y - H / 2|."""
    height, width = shape
    result = np.zeros((regions, 5))
    for i in range(len(runs)):
        y, first, end, r = runs[i, 0], runs[i, 1], runs[i, 2], runs[i, 3]
        pixels = end - first
        result[r, 0] += pixels
        result[r, 1] += pixels * (first + end - 1) / 2
        result[r, 2] += pixels * y
        result[r, 3] += _offsets(first, end, width / 2)
        result[r, 4] += pixels * abs(y - height / 2)
    return result


@kernel
def _offsets(first, end, centre):  # type: ignore[no-untyped-def]  # numba infers
    """Sum |x - centre| over first <= x < end."""
    middle = min(max(np.int64(np.ceil(centre)), first), end)
    before, after = middle - first, end - middle
    return centre * (before - after) - before * (first + middle - 1) / 2 + after * (middle + end - 1) / 2


@kernel
def on_border(runs, shape, moments, frame_x, frame_y):  # type: ignore[no-untyped-def]  # numba infers
    """Find the regions that lie along the border: many pixels in the frame for their mean extent along that side."""
    height, width = shape
    spread = np.zeros((len(moments), 2))
    touch = np.zeros((len(moments), 2))
    for i in range(len(runs)):
        y, first, end, r = runs[i, 0], runs[i, 1], runs[i, 2], runs[i, 3]
        spread[r, 0] += _offsets(first, end, moments[r, 1] / moments[r, 0])
        spread[r, 1] += (end - first) * abs(y - moments[r, 2] / moments[r, 0])
        touch[r, 0] += max(0, min(end, frame_x) - first) + max(0, end - max(first, width - frame_x))
        touch[r, 1] += (end - first) * ((y < frame_y) + (y >= height - frame_y))
    result = np.zeros(len(moments), np.bool_)
    for r in range(len(moments)):
        # The published code divides the pixels at the left and right by the frame's height, and the reverse.
        likelihood = touch[r, 0] * moments[r, 0] / (4 * max(frame_y, 1) * max(spread[r, 1], 1e-9))
        likelihood += touch[r, 1] * moments[r, 0] / (4 * max(frame_x, 1) * max(spread[r, 0], 1e-9))
        result[r] = likelihood > BORDER_LIKELIHOOD
    return result
