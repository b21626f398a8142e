"""frame: which frames of a video, and at which size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from augcache.errors import RecipeError, SourceError
from augcache.recipe import Record, transform
from augcache.transforms.resize import FITS, LARGEST_SIDE
from augcache.video.child_process import decode_isolated
from augcache.video.read import Frame
from augcache.video.sampling import Sampling

TIMEOUT = 20.0  # seconds without a decoded packet until a decoder counts as hung


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


def frames(
    video: str | os.PathLike[str], timeout: float, *, width: int, height: int, fit: str, **sampling: Any
) -> Iterator[Frame]:
    """Yield the frames of a video; `frame` with the seconds after which a decoder that gives nothing counts as hung."""
    return decode_isolated(video, Sampling(**sampling), (width, height) if width else None, fit, timeout)


@transform(version=2, kind="frame", validate=_validate)
def frame(
    video: str | os.PathLike[str],
    *,
    every: int | None = 1,
    seconds: float | None = None,
    keyframes: bool = False,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
    anchors: int = 0,
    gap: int = 1,
    width: int = 0,
    height: int = 0,
    fit: str = "stretch",
) -> Iterator[Record]:
    """Yield the chosen frames of a video.

    Parameters
    ----------
    video : path-like
        A file.
    every, seconds, keyframes, start, end, max_frames, anchors, gap
        Which frames; see `augcache.video.read.Sampling`.
    width, height : int
        Of what is stored; 0 for the video's own size.
    fit : {"stretch", "crop", "pad"}
        How a frame of another shape is made to fit.

    Yields
    ------
    dict
        ``image`` uint8 (height, width, 3).

    Raises
    ------
    VideoError
        If the video is damaged, after the frames before the damage.
    """
    chosen = frames(
        video, TIMEOUT, every=every, seconds=seconds, keyframes=keyframes, start=start, end=end, max_frames=max_frames,
        anchors=anchors, gap=gap, width=width, height=height, fit=fit,
    )  # fmt: skip  # what is passed on
    return ({"image": each.image} for each in chosen)
