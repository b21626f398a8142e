"""frame: which frames of a video, and at which size; what `augcache.building.extract_frames` stores is keyed by it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from augcache.errors import RecipeError, SourceError
from augcache.recipe import Record, transform
from augcache.transforms.resize import FITS, LARGEST_SIDE, place, render


def _validate(
    *,
    every: int | None,
    seconds: float | None,
    keyframes: bool,
    start: float | None,
    end: float | None,
    max_frames: int | None,
    anchors: int,
    gap: int,
    width: int,
    height: int,
    fit: str,
) -> None:
    from augcache.video.sampling import Sampling

    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int) or not 0 <= side <= LARGEST_SIDE:
            raise RecipeError(
                f"{name} {side!r}: give a whole number of pixels to {LARGEST_SIDE}, or 0 for the video's own"
            )
    if (width == 0) != (height == 0):
        raise RecipeError("give both width and height, or neither")
    if fit not in FITS:
        raise RecipeError(f"fit {fit!r}: give one of {', '.join(FITS)}")
    try:
        Sampling(every, seconds, keyframes, start, end, max_frames, anchors, gap)
    except SourceError as error:
        raise RecipeError(str(error)) from error


@transform(version=2, validate=_validate)
def frame(
    image: np.ndarray,
    *,
    every: int | None = 1,  # noqa: ARG001  # these choose frames, and tell one choice's store entries from another's
    seconds: float | None = None,  # noqa: ARG001
    keyframes: bool = False,  # noqa: ARG001
    start: float | None = None,  # noqa: ARG001
    end: float | None = None,  # noqa: ARG001
    max_frames: int | None = None,  # noqa: ARG001
    anchors: int = 0,  # noqa: ARG001
    gap: int = 1,  # noqa: ARG001
    width: int = 0,
    height: int = 0,
    fit: str = "stretch",
) -> Record:
    """Fit one frame, as `augcache.building.extract_frames.extract_frames` has it from the video decoder.

    Parameters
    ----------
    image : ndarray
        uint8 (H, W, 3) RGB.
    every, seconds, keyframes, start, end, max_frames, anchors, gap
        Which frames; see `augcache.video.read.Sampling`.
    width, height : int
        Of what is stored; 0 for the video's own size.
    fit : {"stretch", "crop", "pad"}
        How a frame of another shape is made to fit.

    Returns
    -------
    dict
        ``image`` uint8 (height, width, 3).
    """
    if not width:
        return {"image": np.ascontiguousarray(image)}
    into = (width, height)
    return {"image": render(Image.fromarray(image), place(image.shape[1], image.shape[0], into, fit), into)}
