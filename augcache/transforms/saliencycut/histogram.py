"""Histogram-based contrast (HC): a colour is salient when it is far from the image's other colours."""

from __future__ import annotations

import cv2
import numpy as np

from augcache.records.compiled import kernel
from augcache.transforms.saliencycut.quantise import Quantised

SMOOTHING = 0.25  # share of the colours that each one is averaged with


def histogram_contrast(colours: Quantised) -> np.ndarray:
    """HC saliency of each pixel (Cheng et al., TPAMI 2015, section 3).

    Parameters
    ----------
    colours : Quantised

    Returns
    -------
    float32 (H, W)
        0..1; all zero for an image of one colour.
    """
    distance = colour_distances(colours.lab)
    share = colours.count / colours.count.sum()
    saliency = stretch(smooth(_contrast(distance, share), np.ones(len(share)), distance, SMOOTHING))
    table = np.zeros(256, np.float32)
    table[: len(saliency)] = saliency
    blurred = cv2.GaussianBlur(cv2.LUT(colours.index, table), (3, 3), 0)
    return stretch(np.asarray(blurred))


def stretch(values: np.ndarray) -> np.ndarray:
    """Map the least to 0 and the greatest to 1; all zero where they are equal."""
    low, high = values.min(), values.max()
    if high - low <= np.finfo(np.float64).eps:
        return np.zeros_like(values)
    return np.asarray((values - low) * values.dtype.type(1 / (float(high) - float(low))))


@kernel
def colour_distances(lab):  # type: ignore[no-untyped-def]  # numba infers
    """Euclidean distances, float64 (K, K), between Lab colours, float32 (K, 3)."""
    distance = np.zeros((len(lab), len(lab)))
    for i in range(len(lab)):
        for j in range(i):
            total = 0.0
            for c in range(3):
                d = np.float64(lab[i, c]) - np.float64(lab[j, c])
                total += d * d
            distance[i, j] = distance[j, i] = np.sqrt(total)
    return distance


@kernel
def _contrast(distance, share):  # type: ignore[no-untyped-def]  # numba infers
    saliency = np.zeros(len(share))
    for i in range(len(share)):
        for j in range(len(share)):
            saliency[i] += share[j] * distance[i, j]
    return saliency


@kernel
def smooth(saliency, weight, distance, delta):  # type: ignore[no-untyped-def]  # numba infers
    """Average each colour's saliency with those of its nearest colours, the nearer the more.

    `delta` is the share of the colours that count as near, itself among them and at least two.
    """
    number = len(saliency)
    near = min(max(int(np.rint(number * delta)), 2), number)
    result = np.empty(number)
    order = np.empty(near + 1, np.int64)
    for i in range(number):
        _nearest(distance[i], order)
        span = mass = value = 0.0
        for k in range(near):
            span += distance[i, order[k]]
            mass += weight[order[k]]
        for k in range(near):
            value += saliency[order[k]] * weight[order[k]] * (span - distance[i, order[k]])
        result[i] = value / (span * mass) if span > 0 else saliency[i]
    return result


@kernel
def _nearest(distance, order):  # type: ignore[no-untyped-def]  # numba infers
    """Fill all but the last place of `order` with the indices of the least distances, in rising order."""
    near = len(order) - 1
    filled = 0
    for j in range(len(distance)):
        if filled == near and distance[j] >= distance[order[near - 1]]:
            continue
        at = filled
        while at > 0 and distance[order[at - 1]] > distance[j]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = j
        filled = min(filled + 1, near)
