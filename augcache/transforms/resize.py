"""resize: a copy of fixed size, and where the image lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from augcache.errors import CorruptError, RecipeError
from augcache.images.decode import Least, Reduced
from augcache.recipe import Record, transform
from augcache.records.rules import check_encoded, check_pixels

FITS = ("stretch", "crop", "pad")
FORMATS = ("raw", "webp", "jpeg")
_ENCODING = {
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100 means lossless
    # Full colour resolution: half of 64 pixels is too little.
    "jpeg": [
        *(cv2.IMWRITE_JPEG_QUALITY, 95),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
}
LARGEST_SIDE = 16_384
# A copy is filtered from at least this many pixels a pixel and side. What a JPEG decoder or a box filter has averaged
# before that hardly shows: real photographs, wherever the ratio falls, are 44 dB (median) and at least 37 dB from a
# full decode. 1.75 gives 2 dB more for a tenth more time; see benchmarks/resize.py.
MARGIN = 1.5
# The same for images that were decoded whole, of which filtering is the smaller part of the work.
MARGIN_WHOLE = 3.0


@dataclass(frozen=True)
class Placement:
    """How an image lies in its copy.

    Attributes
    ----------
    box : tuple of float
        Left, top, right, bottom of what is kept of the image, in shares of its width and height.
    width, height : int
        Size of what is kept, in the copy.
    left, top : int
        Where it lies in the copy; what is around it is black, and 0 in a mask.
    """

    box: tuple[float, float, float, float]
    width: int
    height: int
    left: int = 0
    top: int = 0

    def least(self, margin: float = MARGIN) -> tuple[float, float]:
        """Width and height below which the whole image must not be decoded."""
        left, top, right, bottom = self.box
        return margin * self.width / (right - left), margin * self.height / (bottom - top)


def place(width: int, height: int, into: tuple[int, int], fit: str) -> Placement:
    """Place an image of `width` x `height` pixels into a copy.

    Parameters
    ----------
    width, height : int
        Of the image.
    into : tuple of int
        Width and height of the copy.
    fit : {"stretch", "crop", "pad"}
        Fill the copy with all of the image, whatever that does to its shape; keep its shape, and fill the copy
        with the middle of it; or keep its shape, and put all of it in the middle of the copy.
    """
    wide, high = into
    if fit == "crop":
        share_x, share_y = min(1.0, height * wide / (high * width)), min(1.0, width * high / (wide * height))
        box = ((1 - share_x) / 2, (1 - share_y) / 2, (1 + share_x) / 2, (1 + share_y) / 2)
        return Placement(box, wide, high)
    if fit == "pad":
        scale = min(wide / width, high / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return Placement((0, 0, 1, 1), *inner, (wide - inner[0]) // 2, (high - inner[1]) // 2)
    return Placement((0, 0, 1, 1), wide, high)


def render(
    image: Image.Image,
    placement: Placement,
    into: tuple[int, int],
    region: tuple[float, float, float, float] | None = None,
    *,
    reduced: bool = False,
) -> np.ndarray:
    """Make the copy: Lanczos over all the pixels that fall into one, or nearest neighbour for a mask.

    Parameters
    ----------
    image : PIL image
        An image of mode RGB, or a mask of mode L.
    placement : Placement
        From `place`.
    into : tuple of int
        Width and height of the copy.
    region : tuple of float, optional
        Left, top, right, bottom of the image in `image`; default all of it.
    reduced : bool
        Whether `image` has fewer pixels than the image, as `images.decode_small` may give it.

    Returns
    -------
    ndarray
        uint8 (height, width, 3) or (height, width).
    """
    x, y, end_x, end_y = region or (0, 0, image.width, image.height)
    left, top, right, bottom = placement.box
    wide, high = end_x - x, end_y - y
    box = (x + left * wide, y + top * high, x + right * wide, y + bottom * high)
    size = placement.width, placement.height
    if image.mode == "L":
        kept = image.resize(size, Image.Resampling.NEAREST, box)
    else:
        margin = MARGIN if reduced else MARGIN_WHOLE
        kept = image.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=margin)
    if size != into:
        copy = Image.new(image.mode, into)
        copy.paste(kept, (placement.left, placement.top))
        kept = copy
    return np.asarray(kept)


def store_as(copy: np.ndarray, stored: str) -> tuple[Record, np.ndarray]:
    """Return the record of a copy, and the pixels that come back from it."""
    if stored == "raw":
        return {"image": copy}, copy
    done, data = cv2.imencode(f".{stored}", cv2.cvtColor(copy, cv2.COLOR_RGB2BGR), _ENCODING[stored])
    if not done:
        raise RecipeError(f"a copy of {copy.shape[1]} x {copy.shape[0]} pixels cannot be stored as {stored}")
    return {"encoded": data.reshape(-1)}, copy if stored == "webp" else decode_encoded(data)


def decode_encoded(data: np.ndarray) -> np.ndarray:
    """Pixels of a record's ``encoded``: uint8 (n,) to uint8 (H, W, 3) RGB."""
    check_encoded(data)
    copy = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if copy is None:
        raise CorruptError("record: its encoded image cannot be decoded")
    return np.asarray(cv2.cvtColor(copy, cv2.COLOR_BGR2RGB))


def pixels(record: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pixels of a copy's record, uint8 (H, W, 3); raises `CorruptError`."""
    if "encoded" in record and "image" not in record:
        return decode_encoded(record["encoded"])
    check_pixels(record["image"])
    return record["image"]


def _validate(*, width: int, height: int, fit: str, stored: str, masks: bool | str) -> None:
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= LARGEST_SIDE:
            raise RecipeError(f"{name} {side!r}: give a whole number of pixels from 1 to {LARGEST_SIDE}")
    if fit not in FITS:
        raise RecipeError(f"fit {fit!r}: give one of {', '.join(FITS)}")
    if stored not in FORMATS:
        raise RecipeError(f"format {stored!r}: give one of {', '.join(FORMATS)}")
    if not isinstance(masks, bool) and masks not in ("stored", "shown"):
        raise RecipeError(f"masks {masks!r}: give true or false, or what the masks are of: stored or shown")


def least(into: tuple[int, int], fit: str) -> Least:
    """Size of an image to the least size at which it may be decoded."""
    return lambda width, height: place(width, height, into, fit).least()


def _reduced(
    load: Callable[[Least], tuple[Reduced, np.ndarray | None]],
    *,
    width: int,
    height: int,
    fit: str,
    stored: str,
    masks: bool | str,  # noqa: ARG001  # whether there is a mask is seen
) -> tuple[Record, np.ndarray]:
    """Make the copy from an image that is decoded no larger than it needs, and its mask where there is one."""
    into = (width, height)
    image, mask = load(least(into, fit))
    placement = place(*image.size, into, fit)
    record, pixels = store_as(render(image.image, placement, into, image.region, reduced=image.reduced), stored)
    if mask is not None:
        record["mask"] = render(Image.fromarray(mask), placement, into)
        pixels = np.dstack([pixels, record["mask"]])
    return record, pixels


@transform(version=1, kind="image", validate=_validate, reduced=_reduced)
def resize(
    image: np.ndarray,
    *,
    width: int = 64,
    height: int = 64,
    fit: str = "stretch",
    stored: str = "raw",
    masks: bool | str = False,  # noqa: ARG001  # a mask comes with a file, see `_reduced`
) -> Record:
    """Make a copy of fixed size.

    Parameters
    ----------
    image : ndarray
        uint8 (H, W, 3) RGB.
    width, height : int
        Of the copy.
    fit : {"stretch", "crop", "pad"}
        See `place`.
    stored : {"raw", "webp", "jpeg"}
        Pixels as they are, compressed by the store; lossless WebP: smaller, slower to read; JPEG of quality 95
        (4:4:4): smaller still, and not lossless, so that the copy's pixels are those that come back from it.
    masks : bool, "stored" or "shown"
        Whether the record has a mask beside the image; or true, and what masks are of where an EXIF orientation turns
        the image and the sizes do not show it: the pixels as stored, or as shown. See `augcache.sources.Masked`.

    Returns
    -------
    dict
        ``image`` uint8 (height, width, 3), or ``encoded`` uint8 (n,), the bytes of a WebP or JPEG file.
    """
    into = (width, height)
    copy = render(Image.fromarray(image), place(image.shape[1], image.shape[0], into, fit), into)
    return store_as(copy, stored)[0]
