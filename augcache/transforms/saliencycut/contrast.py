"""Region-based contrast (RC): histogram contrast between regions, near ones counting more."""

from __future__ import annotations

import numpy as np

from augcache.records.compiled import kernel
from augcache.transforms.saliencycut.histogram import colour_distances, smooth, stretch
from augcache.transforms.saliencycut.quantise import Quantised
from augcache.transforms.saliencycut.regions import joint_histogram, label_runs, on_border, region_moments
from augcache.transforms.saliencycut.render import frame_size
from augcache.transforms.saliencycut.segment import region_means

SPATIAL_VARIANCE = 0.4
CENTRE_FALL_OFF = 9.0
SMOOTHING = 0.1


def region_contrast(labels: np.ndarray, regions: int, colours: Quantised) -> np.ndarray:
    """RC saliency of each region (Cheng et al., TPAMI 2015, section 4).

    Parameters
    ----------
    labels : int32 (H, W)
        Region of each pixel, 0..regions-1, each of them present.
    regions : int
    colours : Quantised
        The same image's colours.

    Returns
    -------
    float32 (regions,)
        0..1, 0 for the regions that lie along the border. With two colours, as in the authors' program, the
        share of the rarer one; all zero with one.
    """
    if len(colours.count) < 3:
        rarer = (colours.index == 1).astype(np.float32)
        return stretch(region_means(labels, rarer[..., np.newaxis], regions)[:, 0]).astype(np.float32)
    distance = colour_distances(colours.lab)
    frame = frame_size(*labels.shape)
    runs = label_runs(labels)
    histogram = joint_histogram(runs, colours.index, regions, len(colours.count))
    moments = region_moments(runs, labels.shape, regions)
    border = on_border(runs, labels.shape, moments, *frame)
    saliency = stretch(_contrast(histogram, moments, distance, labels.shape))
    saliency[border] = 0
    by_colour = _colour_means(labels, colours.index, histogram, saliency, *frame)
    by_colour = smooth(stretch(by_colour), colours.count.astype(np.float64), distance, SMOOTHING)
    saliency = stretch(_region_means(histogram, by_colour))
    saliency[border] = 0
    return saliency.astype(np.float32)


@kernel
def _contrast(histogram, moments, distance, shape):  # type: ignore[no-untyped-def]  # numba infers
    """Distance of each region's colours from the others', weighted by their size, nearness and the centre prior."""
    height, width = shape
    regions, colours = histogram.shape
    present, start = _present(histogram)
    saliency = np.zeros(regions)
    expected = np.empty(colours)
    for i in range(regions):
        for b in range(colours):
            expected[b] = 0  # distance of each colour from this region's
        for k in range(start[i], start[i + 1]):
            share = histogram[i, present[k]] / moments[i, 0]
            for b in range(colours):
                expected[b] += share * distance[present[k], b]
        for j in range(regions):
            if j == i:
                continue
            dx = (moments[i, 1] / moments[i, 0] - moments[j, 1] / moments[j, 0]) / width
            dy = (moments[i, 2] / moments[i, 0] - moments[j, 2] / moments[j, 0]) / height
            total = 0.0
            for k in range(start[j], start[j + 1]):
                total += histogram[j, present[k]] * expected[present[k]]
            saliency[i] += total * np.exp(-(dx * dx + dy * dy) / SPATIAL_VARIANCE)
        ox = moments[i, 3] / (moments[i, 0] * width)
        oy = moments[i, 4] / (moments[i, 0] * height)
        saliency[i] *= np.exp(-CENTRE_FALL_OFF * (ox * ox + oy * oy))
    return saliency


@kernel
def _present(histogram):  # type: ignore[no-untyped-def]  # numba infers
    """List the colours of each region, one region after the other, and where each region's start."""
    regions, colours = histogram.shape
    present = np.empty(regions * colours, np.int32)
    start = np.zeros(regions + 1, np.int64)
    n = 0
    for i in range(regions):
        for a in range(colours):
            if histogram[i, a]:
                present[n] = a
                n += 1
        start[i + 1] = n
    return present[:n], start


@kernel
def _colour_means(labels, index, histogram, saliency, frame_x, frame_y):  # type: ignore[no-untyped-def]
    """Mean saliency of each colour's pixels, those in the frame being zero."""
    height, width = labels.shape
    colours = histogram.shape[1]
    total, count = np.zeros(colours), np.zeros(colours)
    for r in range(len(saliency)):
        for c in range(colours):
            total[c] += histogram[r, c] * saliency[r]
            count[c] += histogram[r, c]
    for y in range(height):
        inner = frame_y <= y < height - frame_y
        for x in range(width):
            if inner and x == frame_x:
                break
            total[index[y, x]] -= saliency[labels[y, x]]
        if inner:
            for x in range(max(frame_x, width - frame_x), width):
                total[index[y, x]] -= saliency[labels[y, x]]
    for c in range(colours):
        total[c] /= count[c]
    return total


@kernel
def _region_means(histogram, values):  # type: ignore[no-untyped-def]  # numba infers
    mean = np.zeros(len(histogram))
    for r in range(len(histogram)):
        pixels = 0
        for c in range(len(values)):
            pixels += histogram[r, c]
            mean[r] += histogram[r, c] * values[c]
        mean[r] /= pixels
    return mean
