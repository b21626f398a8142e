"""Graph-based segmentation of Felzenszwalb and Huttenlocher (IJCV 2004)."""

from __future__ import annotations

import cv2
import numpy as np

from augcache.records.compiled import kernel
from augcache.transforms.saliencycut.merge import merge

SIGMA = 0.5
SCALE = 50.0
MIN_SIZE = 200


def segment(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Cut an image into regions of even colour, as the region contrast does.

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
    labels, regions = merge(_weights(np.asarray(lab)), np.float32(SCALE), MIN_SIZE)
    return labels, regions


@kernel
def _weights(lab):  # type: ignore[no-untyped-def]  # numba infers
    """Distance, float32 (H, W, 4), to the pixel at the right, down, down right and up right; inf outside."""
    height, width, _ = lab.shape
    weights = np.empty((height, width, 4), np.float32)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            right = min(x + 1, width - 1)
            weights[y, x, 0] = _distance(lab, y, x, y, right)
            weights[y, x, 1] = _distance(lab, y, x, down, x)
            weights[y, x, 2] = _distance(lab, y, x, down, right)
            weights[y, x, 3] = _distance(lab, y, x, up, right)
    for y in range(height):
        weights[y, width - 1, 0] = weights[y, width - 1, 2] = weights[y, width - 1, 3] = np.inf
    for x in range(width):
        weights[height - 1, x, 1] = weights[height - 1, x, 2] = weights[0, x, 3] = np.inf
    return weights


@kernel
def _distance(lab, y, x, v, u):  # type: ignore[no-untyped-def]  # numba infers
    a = lab[y, x, 0] - lab[v, u, 0]
    b = lab[y, x, 1] - lab[v, u, 1]
    c = lab[y, x, 2] - lab[v, u, 2]
    return np.sqrt(a * a + b * b + c * c)


@kernel
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
    for r in range(regions):
        for c in range(channels):
            mean[r, c] /= count[r]
    return mean
