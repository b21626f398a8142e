"""Where a cut may change the image: the part around the salient pixels, and the trimap of a round."""

from __future__ import annotations

import cv2
import numpy as np

BACKGROUND, UNKNOWN, FOREGROUND = 0, 1, 2
SALIENT = 70  # of 255
SMALLEST_CORE = 50  # pixels

_SQUARE = np.ones((3, 3), np.uint8)


def largest_component(mask: np.ndarray, least: float, weight: np.ndarray | None = None) -> np.ndarray | None:
    """Return the largest 4-connected component of bool (H, W), as a mask.

    None where it is less than the share `least` of all pixels. `weight`, uint8 (H, W), says how much of a pixel counts;
    without it, all of each does.
    """
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    area = 255 * stats[:, cv2.CC_STAT_AREA]
    total = area if weight is None else np.bincount(label.ravel(), weight.ravel())
    total[0] = 0  # the background
    best = int(total.argmax())
    if total[best] == 0 or total[best] < least * 255 * mask.size:
        return None
    return np.asarray(label == best)


def salient_box(saliency: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """Box around the largest salient component of a map whose frame is zero, with a margin."""
    values = np.rint(saliency * 255).astype(np.uint8)
    found = largest_component(values > SALIENT, 0.005, values)
    return None if found is None else box_around(found, margin)


def box_around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Box around a mask that is not empty, with a margin."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows = slice(max(y - margin, 0), min(y + height + margin, mask.shape[0]))
    return rows, slice(max(x - margin, 0), min(x + width + margin, mask.shape[1]))


def of_map(saliency: np.ndarray, low: float, high: float) -> np.ndarray:
    """Trimap, uint8 (H, W): background below `low`, foreground above `high`."""
    # Each pixel counts the bounds that it reaches: 0, 1 or 2.
    return np.asarray((saliency >= np.float32(low)).view(np.uint8) + (saliency > np.float32(high)).view(np.uint8))


def around(mask: np.ndarray, frame: np.ndarray, steps: int) -> np.ndarray:
    """Trimap that leaves open a band of some steps on either side of a mask's edge; the frame is background."""
    values = mask.view(np.uint8)
    wide = cv2.dilate(values, _SQUARE, iterations=steps)
    core = cv2.erode(values, _SQUARE, iterations=steps)
    if np.count_nonzero(core) < SMALLEST_CORE:
        core = values
    trimap = np.asarray(wide + core)  # 0, 1 or 2 of them
    trimap[frame] = BACKGROUND
    return trimap
