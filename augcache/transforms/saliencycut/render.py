"""The saliency map of a record; needs neither the kernels nor their compiler."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

FRAME = 0.02  # of each side; the map is zero there
SMALLEST_SIDE = 128  # an image of a smaller area than this squared is enlarged before it is worked on


def saliency_map(record: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rebuild the saliency map of a record.

    Parameters
    ----------
    record : mapping
        With ``labels`` (H, W) and ``region_saliency`` float32 (K,).

    Returns
    -------
    float32 (H, W)
        0..1: the saliency of each pixel's region, zero in a frame of 2 %, smoothed over 3x3 pixels.
        Images under 128 x 128 pixels, where 3x3 pixels are no small neighbourhood, are not smoothed.
    """
    labels = record["labels"]
    height, width = labels.shape
    values: np.ndarray = np.asarray(record["region_saliency"], np.float32)[labels]
    frame_x, frame_y = frame_size(height, width)
    values[:frame_y] = values[height - frame_y :] = 0
    values[:, :frame_x] = values[:, width - frame_x :] = 0
    if enlargement(height, width) > 1:
        return values
    import cv2  # only here: reading labels and palette must not pay for it

    return np.asarray(cv2.GaussianBlur(values, (3, 3), 0))


def enlargement(height: int, width: int) -> int:
    """Whole factor by which a small image is enlarged before it is worked on; 1 from 128 x 128 pixels up."""
    return math.ceil(SMALLEST_SIDE / math.sqrt(height * width))


def frame_size(height: int, width: int) -> tuple[int, int]:
    """Pixels at the left and right, and at the top and bottom, that count as frame."""
    if enlargement(height, width) > 1:
        return int(width * FRAME), int(height * FRAME)
    return round(width * FRAME), round(height * FRAME)
