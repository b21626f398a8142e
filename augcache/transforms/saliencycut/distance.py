"""Minimum barrier distance (MBD): what cannot be reached from the border without a change of colour is salient."""

from __future__ import annotations

import cv2
import numpy as np

from augcache.records.compiled import kernel

LONGEST_SIDE = 300
PASSES = 3
STRIP = 0.1  # of the shorter side: the width of the border whose colours are background
CENTRE_FALL_OFF = 9.0
RIDGE = 0.1  # Lab units squared, added to the variances: a flat strip has none


def barrier_distance(image: np.ndarray) -> np.ndarray:
    """Saliency of each pixel by minimum barrier distance and border colours (Zhang et al., ICCV 2015, "MB+").

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.

    Returns
    -------
    float32 (H, W)
        From 0 up: the distance to the border plus the difference from the border's colours, each at most 1,
        times the centre prior.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    lab = np.asarray(cv2.cvtColor(small.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2Lab))
    saliency = _unit(_barrier(lab, PASSES)) + _unit(_unlike_border(lab))
    saliency *= _centre_prior(*saliency.shape)
    return np.asarray(cv2.resize(saliency.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _unit(values: np.ndarray) -> np.ndarray:
    high = float(values.max())
    return values / high if high > 0 else values


def _centre_prior(height: int, width: int) -> np.ndarray:
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-CENTRE_FALL_OFF * (y[:, np.newaxis] ** 2 + x**2))


@kernel
def _barrier(lab, passes):  # type: ignore[no-untyped-def]  # numba infers
    """Sum over the channels of the least range of values on a path to the border, by raster scans."""
    height, width, channels = lab.shape
    total = np.zeros((height, width))
    for c in range(channels):
        high = lab[:, :, c].copy()
        low = high.copy()
        distance = np.zeros((height, width), np.float32)
        distance[1 : height - 1, 1 : width - 1] = np.inf
        for k in range(passes):
            _scan(lab[:, :, c], distance, high, low, k % 2 == 1)
        for y in range(height):
            for x in range(width):
                total[y, x] += distance[y, x]
    return total


@kernel
def _scan(values, distance, high, low, backward):  # type: ignore[no-untyped-def]  # numba infers
    """Try to reach each pixel from the two neighbours scanned before it."""
    height, width = values.shape
    step = -1 if backward else 1
    for i in range(1, height - 1):
        y = height - 1 - i if backward else i
        for j in range(1, width - 1):
            x = width - 1 - j if backward else j
            value = values[y, x]
            for k in range(2):
                v, u = (y - step, x) if k == 0 else (y, x - step)
                top, bottom = max(high[v, u], value), min(low[v, u], value)
                if top - bottom < distance[y, x]:
                    distance[y, x] = top - bottom
                    high[y, x] = top
                    low[y, x] = bottom


def _unlike_border(lab: np.ndarray) -> np.ndarray:
    """Mahalanobis distance from the colours along each side, all but the side most unlike."""
    height, width = lab.shape[:2]
    strip = max(1, round(STRIP * min(height, width)))
    sides = (lab[:strip], lab[-strip:], lab[:, :strip], lab[:, -strip:])
    distances = [_unit(_mahalanobis(lab, side)) for side in sides]
    # An object that touches one side would otherwise hide itself.
    return np.asarray(np.sum(distances, axis=0) - np.max(distances, axis=0))


@kernel
def _mahalanobis(lab, side):  # type: ignore[no-untyped-def]  # numba infers
    """Distance of each pixel from the colours of a side, in that side's own spread."""
    mean, spread = _mean_and_spread(side)
    for c in range(3):
        spread[c, c] += RIDGE
    inverse = _inverse(spread)
    height, width, _ = lab.shape
    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            total = 0.0
            for c in range(3):
                for d in range(3):
                    total += (lab[y, x, c] - mean[c]) * inverse[c, d] * (lab[y, x, d] - mean[d])
            result[y, x] = np.sqrt(max(total, 0.0))
    return result


@kernel
def _mean_and_spread(side):  # type: ignore[no-untyped-def]  # numba infers
    """Mean (3,) and covariance (3, 3) of the colours of a side."""
    mean, spread = np.zeros(3), np.zeros((3, 3))
    height, width, _ = side.shape
    number = height * width
    for y in range(height):
        for x in range(width):
            for c in range(3):
                mean[c] += side[y, x, c] / number
    for y in range(height):
        for x in range(width):
            for c in range(3):
                for d in range(3):
                    spread[c, d] += (side[y, x, c] - mean[c]) * (side[y, x, d] - mean[d]) / number
    return mean, spread


@kernel
def _inverse(m):  # type: ignore[no-untyped-def]  # numba infers
    """Inverse of a symmetric 3 x 3 matrix, by cofactors: no library call whose sums could vary."""
    result = np.empty((3, 3))
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            c, d = (j + 1) % 3, (j + 2) % 3
            result[j, i] = m[a, c] * m[b, d] - m[a, d] * m[b, c]
    determinant = m[0, 0] * result[0, 0] + m[0, 1] * result[1, 0] + m[0, 2] * result[2, 0]
    for i in range(3):
        for j in range(3):
            result[i, j] /= determinant
    return result
