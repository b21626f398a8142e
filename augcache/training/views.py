"""Images made from a record: segments, saliency, cut, cutout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import cv2
import numpy as np
from PIL import Image

from augcache.errors import CorruptError, RecipeError
from augcache.records.codec import StoredRecord
from augcache.records.run_length import Runs
from augcache.transforms.saliencycut import saliency_map

# What a record must hold for each view.
NEEDS: dict[str, tuple[str, ...]] = {
    "segments": ("labels", "palette"),
    "saliency": ("labels", "region_saliency"),
    "cut": ("cut",),
    "cutout": ("cut",),
}


def check_view(view: str) -> None:
    """Raise `RecipeError` unless there is such a view."""
    if view not in NEEDS:
        raise RecipeError(f"no view {view!r}: give one of {', '.join(NEEDS)}")


def index_map(record: Mapping[str, np.ndarray]) -> np.ndarray | Runs:
    """Index map of a record, as runs where it is stored so."""
    runs = record.runs("labels") if isinstance(record, StoredRecord) else None
    return record["labels"] if runs is None else runs


def segments(labels: np.ndarray | Runs, palette: np.ndarray, *, planar: bool = False) -> np.ndarray:
    """Colour an index map.

    Parameters
    ----------
    labels : ndarray or Runs
        uint8 or uint16 (H, W), below K.
    palette : ndarray
        uint8 (K, 3).
    planar : bool
        Give (3, H, W) instead of (H, W, 3), at the same cost.

    Returns
    -------
    ndarray
        uint8: ``palette[labels]``.
    """
    if planar:
        planes = np.empty((3, *labels.shape), np.uint8)
        fill_segments(planes, labels, palette)
        return planes
    if _is_wide(labels):
        return palette.take(labels, axis=0)
    return np.asarray(cv2.cvtColor(_four_bytes(labels, palette), cv2.COLOR_RGBA2RGB))


def fill_segments(planes: np.ndarray, labels: np.ndarray | Runs, palette: np.ndarray) -> None:
    """Colour an index map into uint8 (3, H, W), C-contiguous; see `segments`."""
    if isinstance(labels, Runs):
        labels.paint(np.ascontiguousarray(palette.T), planes)
    elif _is_wide(labels):
        planes[...] = palette.take(labels, axis=0).transpose(2, 0, 1)
    else:
        cv2.split(_four_bytes(labels, palette), [*planes, np.empty(labels.shape, np.uint8)])


def segments_image(labels: np.ndarray | Runs, palette: np.ndarray) -> Image.Image:
    """`segments` as a PIL image of mode RGB; four bytes a pixel are what Pillow keeps, so it takes them in as is."""
    if _is_wide(labels):
        return Image.fromarray(segments(labels, palette))
    height, width = labels.shape
    return Image.frombytes("RGB", (width, height), _four_bytes(labels, palette), "raw", "RGBX")


def _is_wide(labels: np.ndarray | Runs) -> TypeGuard[np.ndarray]:
    """Whether an index map has more than 256 regions."""
    return not isinstance(labels, Runs) and labels.dtype != np.uint8


def _four_bytes(labels: np.ndarray | Runs, palette: np.ndarray) -> np.ndarray:
    """Colour an index map by one look-up a pixel or run: uint8 (H, W, 4), the last byte 255.

    One look-up of four bytes in OpenCV takes a third of the time of three look-ups of one byte.
    """
    table = np.full((256, 4), 255, np.uint8)
    table[: len(palette), :3] = palette[:256]
    if isinstance(labels, Runs):
        pixels = np.empty((1, *labels.shape), np.uint32)
        labels.paint(table.view(np.uint32)[:, 0][None], pixels)
    else:
        pixels = np.asarray(cv2.LUT(labels, table.view(np.int32)[:, 0]))
    return pixels.view(np.uint8).reshape(*labels.shape, 4)


def _cut(record: Mapping[str, np.ndarray]) -> np.ndarray:
    cut = record["cut"]
    if cut.dtype != bool or cut.ndim != 2 or not cut.size:  # beside no labels, it may be anything
        raise CorruptError(f"record: its cut is {cut.dtype} {cut.shape}, not bool (H, W)")
    return cut


def render(
    record: Mapping[str, np.ndarray], view: str, *, image: np.ndarray | None = None, planar: bool = False
) -> np.ndarray:
    """Make the image of a view.

    Parameters
    ----------
    record : mapping
        A saliency record.
    view : {"segments", "saliency", "cut", "cutout"}
        Regions in their mean colours; saliency as grey; the cut as white on black; the original with what is outside
        the cut set to zero.
    image : ndarray, optional
        uint8 (H, W, 3), the original; needed by "cutout" alone.
    planar : bool
        Give (3, H, W) instead of (H, W, 3).

    Returns
    -------
    ndarray
        uint8, RGB.
    """
    check_view(view)
    if view == "segments":
        return segments(index_map(record), record["palette"], planar=planar)
    if view == "cutout":
        if image is None:
            raise RecipeError("view 'cutout' needs the original images, and a store holds none: give the folder")
        cut = _cut(record)
        if image.shape[:2] != cut.shape:
            raise CorruptError(f"record: its cut is of {cut.shape}, and its image of {image.shape[:2]}")
        made = image * cut[:, :, None]
        return np.ascontiguousarray(made.transpose(2, 0, 1)) if planar else made
    if view == "saliency":
        values = saliency_map(record)
        values *= 255
        grey = np.rint(values, out=values).astype(np.uint8)
    else:
        grey = _cut(record).view(np.uint8) * np.uint8(255)
    return np.stack([grey] * 3) if planar else np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
