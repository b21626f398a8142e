"""Colour quantisation shared by the histogram and the region contrast."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from augcache.records.compiled import kernel

BINS = 12
COLOURS = BINS**3
KEPT_SHARE = 0.95
MIN_COLOURS = 10
MAX_COLOURS = 256

# 8-bit value -> bin. The bins are half open but for the last, hence the published 12 - 0.0001.
_VALUE = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
_BIN = (_VALUE * np.float32(BINS - 0.0001)).astype(np.uint16)


@dataclass(frozen=True)
class Quantised:
    """An image in its most frequent colours.

    Attributes
    ----------
    index : uint8 (H, W)
        Colour of each pixel, 0..K-1; colours are in falling order of frequency before merging.
    count : int64 (K,)
        Pixels of each colour.
    lab : float32 (K, 3)
        Mean colour in CIE Lab, L in 0..100.
    """

    index: np.ndarray
    count: np.ndarray
    lab: np.ndarray


def quantise(image: np.ndarray) -> Quantised:
    """Quantise an image to the colours that cover 95 % of it (Cheng et al., TPAMI 2015, section 3.2).

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.

    Returns
    -------
    Quantised
        1 to 256 colours; the pixels of a rare colour take the nearest kept one.
    """
    height, width = image.shape[:2]
    code, count = _bin_pixels(image.reshape(-1, 3), _BIN)
    present = np.flatnonzero(count)
    order = present[np.lexsort((present, count[present]))[::-1]]
    kept = order[: _kept(count[order], round_half_even(code.size * (1 - KEPT_SHARE)))]
    target = _nearest(order, len(kept))
    table = np.zeros(COLOURS, np.uint8)
    table[order] = target
    index, number, mean = _average(image.reshape(-1, 3), code, table, _VALUE, len(kept))
    lab = cv2.cvtColor(mean[np.newaxis], cv2.COLOR_RGB2Lab)[0]
    return Quantised(index.reshape(height, width), number, lab)


def round_half_even(value: float) -> int:
    """Round as C's ``rint`` does."""
    return int(np.rint(value))


def _kept(count: np.ndarray, limit: int) -> int:
    """How many of the colours, sorted by falling count, stay when the tail sums to less than `limit`."""
    tail = np.cumsum(count[::-1])
    kept = len(count) - int(np.searchsorted(tail[:-1], limit, side="left"))
    kept = min(kept, MAX_COLOURS)
    return kept if kept > MIN_COLOURS else min(MIN_COLOURS, len(count))


@kernel
def _bin_pixels(pixels, bins):  # type: ignore[no-untyped-def]  # numba infers
    code = np.empty(len(pixels), np.uint16)
    count = np.zeros(COLOURS, np.int64)
    for i in range(len(pixels)):
        r, g, b = pixels[i, 0], pixels[i, 1], pixels[i, 2]
        c = np.int64(bins[b]) * (BINS * BINS) + np.int64(bins[g]) * BINS + np.int64(bins[r])
        code[i] = c
        count[c] += 1
    return code, count


@kernel
def _nearest(order, kept):  # type: ignore[no-untyped-def]  # numba infers
    """Position among the first `kept` colours of the one nearest in bins to each colour; itself if kept."""
    target = np.empty(len(order), np.uint8)
    for i in range(len(order)):
        if i < kept:
            target[i] = i
            continue
        b, g, r = order[i] // (BINS * BINS), order[i] // BINS % BINS, order[i] % BINS
        best = 1 << 30
        for j in range(kept):
            db = b - order[j] // (BINS * BINS)
            dg = g - order[j] // BINS % BINS
            dr = r - order[j] % BINS
            distance = db * db + dg * dg + dr * dr
            if distance < best:
                best = distance
                target[i] = j
    return target


@kernel
def _average(pixels, code, table, value, kept):  # type: ignore[no-untyped-def]  # numba infers
    """Colour of each pixel, and the number and mean of the pixels of each colour."""
    index = np.empty(len(code), np.uint8)
    number = np.zeros(kept, np.int64)
    mean = np.zeros((kept, 3), np.float32)
    # Single precision in scan order: the Lab table below is coarse enough for the rounding to show.
    for i in range(len(code)):
        c = table[code[i]]
        index[i] = c
        number[c] += 1
        mean[c, 0] += value[pixels[i, 0]]
        mean[c, 1] += value[pixels[i, 1]]
        mean[c, 2] += value[pixels[i, 2]]
    for c in range(kept):
        for k in range(3):
            mean[c, k] /= np.float32(number[c])
    return index, number, mean
