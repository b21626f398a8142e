"""SaliencyCut: the salient object of an image, found by global contrast and cut out.

Cheng, Mitra, Huang, Torr, Hu, "Global Contrast based Salient Region Detection", TPAMI 2015 (CVPR 2011).
"""

from __future__ import annotations

import numpy as np

from augcache.errors import RecipeError, SourceError
from augcache.recipe import transform
from augcache.transforms.saliencycut.render import saliency_map

__all__ = ["METHODS", "QUALITIES", "saliency_map", "saliencycut"]

METHODS = ("rc", "hc", "mbd", "multiscale")
QUALITIES = ("exact", "fast")
MAX_SCALE = 8.0


def _validate(method: str, quality: str, scale: float) -> None:
    for name, value, known in (("method", method, METHODS), ("quality", quality, QUALITIES)):
        if value not in known:
            raise RecipeError(f"saliencycut: {name} {value!r} is unknown; give one of {', '.join(known)}")
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not (scale == 0 or 0.05 <= scale <= MAX_SCALE):
        raise RecipeError(f"saliencycut: scale {scale!r}: give 0 (by the image's size) or 0.05 to {MAX_SCALE:g}")


@transform(version=2, kind="saliency", validate=_validate)
def saliencycut(
    image: np.ndarray, *, method: str = "rc", quality: str = "exact", scale: float = 0.0
) -> dict[str, np.ndarray]:
    """Segment an image, rate its regions' saliency and cut out the salient object.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB, of any size from 1 x 1 up.
    method : {"rc", "hc", "mbd", "multiscale"}
        What rates the regions: region contrast; the mean over each region of its pixels' histogram contrast
        or minimum barrier distance; or the mean over each region of the region contrast at five scales.
    quality : {"exact", "fast"}
        "exact" follows the published algorithm; "fast" cuts on a coarse image first.
    scale : float
        Work on the image resized by this factor; results are at the image's own size. 0, the
        default, is 1 for an image of at least 128 x 128 pixels and, below that, the least whole factor
        that reaches this area, for the published region size means nothing on 32 x 32 pixels.

    Returns
    -------
    dict
        ``labels`` uint8 (H, W), uint16 where K > 256: region of each pixel;
        ``palette`` uint8 (K, 3): mean RGB of each region;
        ``region_saliency`` float32 (K,): 0..1, all zero where nothing stands out;
        ``cut`` bool (H, W): the salient object, all False where none is found;
        ``status`` str (): "ok", or "no-salient-region" where the map or the cut is empty.
        `saliency_map` makes the saliency map of it.

    Raises
    ------
    SourceError
        If the image is not of that type and shape.
    RecipeError
        If a parameter is out of range.
    """
    _validate(method, quality, scale)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SourceError(f"saliencycut takes a uint8 (H, W, 3) RGB array, not {what}: convert the image first")
    if image.size == 0:
        raise SourceError(f"saliencycut: the image has no pixels, its shape is {image.shape}")
    # The kernels and OpenCV take a second to import, and a process that only reads records needs neither.
    from augcache.transforms.saliencycut.compute import record

    return record(image, method, quality, scale)
