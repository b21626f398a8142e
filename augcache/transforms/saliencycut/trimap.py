"""Where a cut may change the picture: the part around the salient pixels, and the trimap of a round."""

from __future__ import annotations

import cv2
import numpy as np

BACKGROUND, UNKNOWN, FOREGROUND = 0, 1, 2
SALIENT = 70  # of 255
SMALLEST_CORE = 50  # pixels

_SQUARE = np.ones((3, 3), np.uint8)


def largest_component(values: np.ndarray, least: float) -> np.ndarray | None:
    """Mask of the 4-connected component of uint8 (H, W) with the largest sum.

    None where that sum, as a share of 255 at every pixel, is less than `least`.
    """
    _, label = cv2.connectedComponents((values > 0).astype(np.uint8), connectivity=4)
    total = np.bincount(label.ravel(), weights=values.ravel())
    total[0] = 0
    best = int(total.argmax())
    if total[best] == 0 or total[best] < least * 255 * values.size:
        return None
    return np.asarray(label == best)


def salient_box(saliency: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """Box around the largest salient component of a map whose frame is zero, with a margin."""
    values = np.rint(saliency * 255).astype(np.uint8)
    values[values <= SALIENT] = 0
    found = largest_component(values, 0.005)
    return None if found is None else box_around(found, margin)


def box_around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Box around a mask that is not empty, with a margin."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows = slice(max(y - margin, 0), min(y + height + margin, mask.shape[0]))
    return rows, slice(max(x - margin, 0), min(x + width + margin, mask.shape[1]))


def of_map(saliency: np.ndarray, low: float, high: float) -> np.ndarray:
    """Trimap, uint8 (H, W): background below `low`, foreground above `high`."""
    trimap = np.full(saliency.shape, UNKNOWN, np.uint8)
    trimap[saliency < np.float32(low)] = BACKGROUND
    trimap[saliency > np.float32(high)] = FOREGROUND
    return trimap


def around(mask: np.ndarray, frame: np.ndarray, steps: int) -> np.ndarray:
    """Trimap that leaves open a band of some steps on either side of a mask's edge; the frame is background."""
    values = mask.astype(np.uint8)
    wide = cv2.dilate(values, _SQUARE, iterations=steps)
    core = cv2.erode(values, _SQUARE, iterations=steps)
    if np.count_nonzero(core) < SMALLEST_CORE:
        core = values
    trimap = np.where(core > 0, FOREGROUND, np.where(wide > 0, UNKNOWN, BACKGROUND)).astype(np.uint8)
    trimap[frame] = BACKGROUND
    return trimap
