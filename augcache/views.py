"""Pictures made from a record: segments, saliency, cut, cutout."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from augcache.errors import RecipeError
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


def segments(labels: np.ndarray, palette: np.ndarray, *, planar: bool = False) -> np.ndarray:
    """Colour an index map.

    Parameters
    ----------
    labels : ndarray
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
    if labels.dtype != np.uint8:
        picture = palette.take(labels, axis=0)
        return np.ascontiguousarray(picture.transpose(2, 0, 1)) if planar else picture
    # OpenCV's look-up tables are the fastest exact way; they want all 256 entries.
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette[:256]
    if not planar:
        return np.asarray(cv2.applyColorMap(labels, table[:, None]))
    planes = np.empty((3, *labels.shape), np.uint8)
    for channel in range(3):
        cv2.LUT(labels, np.ascontiguousarray(table[:, channel]), planes[channel])
    return planes


def render(
    record: Mapping[str, np.ndarray],
    view: str,
    *,
    palette: np.ndarray,
    image: np.ndarray | None,
    planar: bool = False,
) -> np.ndarray:
    """Make the picture of a view.

    Parameters
    ----------
    record : mapping
        A saliency record.
    view : {"segments", "saliency", "cut", "cutout"}
        Regions in the palette's colours; saliency as grey; the cut as white on black; the original with what is
        outside the cut set to zero.
    palette : ndarray
        uint8 (K, 3), used by "segments".
    image : ndarray or None
        uint8 (H, W, 3), the original; needed by "cutout" alone.
    planar : bool
        Give (3, H, W) instead of (H, W, 3).

    Returns
    -------
    ndarray
        uint8, RGB.
    """
    if view == "segments":
        return segments(record["labels"], palette, planar=planar)
    if view == "cutout":
        if image is None:
            raise RecipeError("view 'cutout' needs the original pictures, and a store holds none: give the folder")
        picture = image * record["cut"][:, :, None]
        return np.ascontiguousarray(picture.transpose(2, 0, 1)) if planar else picture
    if view == "saliency":
        grey = np.rint(saliency_map(record) * 255).astype(np.uint8)
    else:
        grey = record["cut"].view(np.uint8) * np.uint8(255)
    return np.stack([grey] * 3) if planar else np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
