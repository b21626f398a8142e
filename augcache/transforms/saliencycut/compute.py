"""From an image to its saliency record."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from augcache.errors import SourceError
from augcache.records.compiled import is_kept
from augcache.transforms.saliencycut import contrast, distance, histogram, maxflow
from augcache.transforms.saliencycut.contrast import region_contrast
from augcache.transforms.saliencycut.cut import saliency_cut
from augcache.transforms.saliencycut.distance import barrier_distance
from augcache.transforms.saliencycut.histogram import histogram_contrast, stretch
from augcache.transforms.saliencycut.quantise import quantise
from augcache.transforms.saliencycut.render import enlargement, saliency_map
from augcache.transforms.saliencycut.segment import region_means, segment

MAX_REGIONS = 1 << 16
SCALES = (0.7, 0.5, 0.35, 0.25)  # of the "multiscale" method, besides 1
SMALLEST_AREA = 64 * 64


def record(image: np.ndarray, method: str, quality: str, scale: float) -> dict[str, np.ndarray]:
    """Compute the record that `augcache.transforms.saliencycut.saliencycut` describes."""
    height, width = image.shape[:2]
    work = _resize(image, scale or enlargement(height, width))
    labels, regions = segment(work)
    if regions > MAX_REGIONS:
        raise SourceError(
            f"image of {width} x {height} pixels has {regions} regions, at most {MAX_REGIONS} can be "
            "kept: give a scale below 1"
        )
    saliency = REGION_SALIENCY[method](work, labels, regions)
    found = bool(saliency.any())
    cut = np.zeros((height, width), np.bool_)
    if found:
        mask = saliency_cut(work, saliency_map({"labels": labels, "region_saliency": saliency}), quality=quality)
        cut = _resize_mask(mask, height, width)
    labels, saliency = _resize_labels(labels, saliency, height, width)
    palette = np.rint(region_means(labels, image, len(saliency))).astype(np.uint8)
    return {
        "labels": labels.astype(np.uint8 if len(saliency) <= 256 else np.uint16),
        "palette": palette,
        "region_saliency": saliency,
        "cut": cut,
        "status": np.array("ok" if found and cut.any() else "no-salient-region"),
    }


def is_compiled(method: str) -> bool:
    """Whether this machine keeps the kernels of a method compiled; else half a minute goes by until it has them."""
    return is_kept(maxflow.cut) and is_kept(_OWN[method])


def _rc(image: np.ndarray, labels: np.ndarray, regions: int) -> np.ndarray:
    return region_contrast(labels, regions, quantise(image))


def _multiscale(image: np.ndarray, labels: np.ndarray, regions: int) -> np.ndarray:
    """Average of region contrast over the image's scales: each segments it anew, and errs elsewhere."""
    height, width = image.shape[:2]
    total = saliency_map({"labels": labels, "region_saliency": _rc(image, labels, regions)})
    for scale in SCALES:
        if height * width * scale**2 < SMALLEST_AREA:
            continue
        small = _resize(image, scale)
        found, number = segment(small)
        values = saliency_map({"labels": found, "region_saliency": _rc(small, found, number)})
        total += cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return stretch(_means(labels, total, regions)).astype(np.float32)


def _hc(image: np.ndarray, labels: np.ndarray, regions: int) -> np.ndarray:
    return _means(labels, histogram_contrast(quantise(image)), regions).astype(np.float32)


def _mbd(image: np.ndarray, labels: np.ndarray, regions: int) -> np.ndarray:
    return stretch(_means(labels, barrier_distance(image), regions)).astype(np.float32)


def _means(labels: np.ndarray, values: np.ndarray, regions: int) -> np.ndarray:
    return np.asarray(region_means(labels, values[..., np.newaxis], regions)[:, 0])


# A method gives each region its saliency, float32 (regions,) in 0..1.
REGION_SALIENCY: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "rc": _rc,
    "hc": _hc,
    "mbd": _mbd,
    "multiscale": _multiscale,
}


# A kernel of each method alone; all of them end with the cut.
_OWN = {
    "rc": contrast._contrast, "multiscale": contrast._contrast, "hc": histogram._contrast, "mbd": distance._barrier
}  # fmt: skip  # a table


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA))


def _resize_labels(labels: np.ndarray, saliency: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Take the nearest label for each pixel, and drop the regions that this leaves without one."""
    if labels.shape == (height, width):
        return labels, saliency
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    kept, labels = np.unique(labels[np.ix_(rows, columns)], return_inverse=True)
    return labels.reshape(height, width), saliency[kept]


def _resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    if mask.shape == (height, width):
        return mask
    method = cv2.INTER_AREA if mask.shape[0] > height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask.astype(np.float32), (width, height), interpolation=method) >= 0.5)
