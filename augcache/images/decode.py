"""Encoded images to RGB pixels, as a viewer shows them and as a plain loader reads them."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from augcache.errors import SourceError, TooLargeError

T = TypeVar("T")
# Width and height of an image to the least width and height at which it may be decoded.
Least = Callable[[int, int], tuple[float, float]]

MAX_PIXELS = 1 << 28  # more than a photograph has
# By name, so that Pillow's readers that run other programs (EPS) or guess from loose magic stay out.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF",
    "WEBP",
)  # fmt: skip  # a list of names
SUFFIXES = frozenset([
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".svg", ".tga", ".tif", ".tiff", ".webp",
])  # fmt: skip  # a list of names
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def looks_like_image(head: bytes) -> bool:
    """Tell from a file's first bytes whether a file without a suffix is worth decoding."""
    return head.startswith(_MAGIC)


def decode_views(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image twice over: as a viewer shows it, and as ``Image.open(f).convert("RGB")`` gives it.

    They differ where an image has an EXIF orientation, transparency (a viewer shows it over white) or 16 bits a
    channel; otherwise both are one and the same array.

    Parameters
    ----------
    data : bytes
        The encoded file. Of an animation the first frame is taken.
    max_pixels : int
        An image of more is refused before it is decoded.

    Returns
    -------
    seen, plain : ndarray
        uint8 (H, W, 3), RGB.

    Raises
    ------
    SourceError
        If the bytes are no image, are cut short or damaged, or hold too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns of (odd EXIF, large images) it has still decoded
        image = _open(data, max_pixels)
        try:
            image = _load(image, data)
            turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
            seen = _seen(ImageOps.exif_transpose(image) if turned else image)
            plain = seen if _is_plain(image) and not turned else _plain(image)
        except _PILLOW_ERRORS as error:
            raise SourceError(_reason(error)) from error
    return seen, plain


@dataclass(frozen=True, slots=True)
class Reduced:
    """An image with fewer pixels than it has.

    Attributes
    ----------
    image : PIL image
        Of mode RGB. (To an array and back would be two copies.)
    region : tuple of float
        Left, top, right, bottom of the image in `image`: an image of 1001 pixels, read at 1/8, ends in the middle
        of a pixel.
    size : tuple of int
        Width and height of the whole image.
    turn : int
        EXIF orientation that was applied, 1 to 8.
    """

    image: Image.Image
    region: tuple[float, float, float, float]
    size: tuple[int, int]
    turn: int = 1

    @property
    def reduced(self) -> bool:
        """Whether it has fewer pixels indeed."""
        return self.image.size != self.size


def decode_small(data: bytes, least: Least, *, max_pixels: int = MAX_PIXELS) -> Reduced:
    """Decode an image as a viewer shows it, with fewer pixels where its format can: a JPEG at 1/2, 1/4 or 1/8.

    Parameters
    ----------
    data : bytes
        The encoded file. Of an animation the first frame is taken.
    least : callable
        Width and height of the whole image to the least width and height that are wanted.
    max_pixels : int
        An image of more is refused before it is decoded.

    Returns
    -------
    Reduced

    Raises
    ------
    SourceError
        As `decode_views`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(data, max_pixels)
        try:
            full, turn, turned = image.size, 1, _turn_of_tiff(image)
            if image.format in ("JPEG", "MPO"):
                turn = _turn(image)
                wanted = _swap(turn, least(*_swap(turn, full)))
                image.draft(None, (math.ceil(wanted[0]), math.ceil(wanted[1])))  # no mode: it stays as it is
            image = _load(image, data)
            by = round(full[0] / image.width)  # only a JPEG's is not 1
            turn = turn if image.format in ("JPEG", "MPO") else _turn(image)
            seen = image if turn == 1 else ImageOps.exif_transpose(image)
            if seen.mode != "RGB" or "transparency" in seen.info:
                seen = Image.fromarray(_seen(seen))
        except _PILLOW_ERRORS as error:
            raise SourceError(_reason(error)) from error
    width, height = _swap(turn, full)
    # What the last pixels have beyond the image is where the file's right and bottom are.
    left = seen.width - width / by if turn in (2, 3, 6, 7) else 0.0
    top = seen.height - height / by if turn in (3, 4, 7, 8) else 0.0
    return Reduced(seen, (left, top, left + width / by, top + height / by), (width, height), max(turn, turned))


def _turn(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8."""
    turn = image.getexif().get(_ORIENTATION, 1)
    return turn if turn in range(2, 9) else 1


def _swap(turn: int, size: tuple[T, T]) -> tuple[T, T]:
    """Width and height as seen from those in the file, or the other way round."""
    return (size[1], size[0]) if turn >= 5 else size


def _turn_of_tiff(image: Image.Image) -> int:
    """EXIF orientation of a TIFF, which Pillow turns as it loads it; 1 for other formats."""
    return _turn(image) if image.format == "TIFF" else 1


def stored_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Width and height in the file of an image of that size that is shown turned."""
    return _swap(turn, size)


def turned(labels: np.ndarray, turn: int) -> np.ndarray:
    """Turn a label image (H, W) as an EXIF orientation asks for."""
    upright = labels.T if turn in (5, 6, 7, 8) else labels
    if turn in (3, 4, 7, 8):
        upright = upright[::-1]
    return upright[:, ::-1] if turn in (2, 3, 6, 7) else upright


def read_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
    """Width and height of an image in its file, and its EXIF orientation, as far as that stands before the pixels.

    Raises
    ------
    SourceError
        If it is no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=FORMATS)
            late = (
                image.format == "PNG" and "exif" not in image.info
            )  # Pillow would decode it to look behind the pixels
            turn = 1 if late else _turn(image)
        except _PILLOW_ERRORS as error:
            raise SourceError(_reason(error)) from error
    return (_swap(turn, image.size) if image.format == "TIFF" else image.size), turn


def decode_labels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, int]:
    """Decode a label image: the class of each pixel, uint8 (H, W), of a palette image the indices; and how it turned.

    It is turned as its own EXIF orientation asks for, which is given beside it, 1 to 8.

    Raises
    ------
    SourceError
        As `decode_views`; also for colours, or classes above 255.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(data, max_pixels)
        try:
            turn = _turn_of_tiff(image)
            image = _load(image, data)
            labels = turned(np.asarray(image), _turn(image))
            turn = max(turn, _turn(image))
        except _PILLOW_ERRORS as error:
            raise SourceError(_reason(error)) from error
    if labels.ndim == 3 and image.mode == "RGB" and (labels == labels[..., :1]).all():
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise SourceError(f"an image of mode {image.mode}: a mask has one number a pixel")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise SourceError(f"classes from {labels.min()} to {labels.max()}: a mask holds 0 to 255")
    return np.ascontiguousarray(labels, np.uint8), turn


def _load(image: Image.Image, data: bytes) -> Image.Image:
    try:
        image.load()
    except OSError as error:
        # A PNG whose pixels are all there and whose closing chunk alone is cut: viewers show it, so it counts. Only
        # the end is mended, and the whole is decoded again with every check.
        whole = _with_png_end(data) if image.format == "PNG" else None
        if whole is None:
            raise
        try:
            image = Image.open(io.BytesIO(whole), formats=("PNG",))
            image.load()
        except _PILLOW_ERRORS:
            raise error from None
    return image


_ORIENTATION = 0x0112  # EXIF tag; 2 to 8 ask for a turn or a flip
_IEND = b"\0\0\0\0IEND\xaeB`\x82"


def _with_png_end(data: bytes) -> bytes | None:
    """Return the file's whole chunks, closed; None where it is closed already."""
    end = 8
    while data[end + 4 : end + 8] != b"IEND":
        following = end + 12 + int.from_bytes(data[end : end + 4], "big")  # length, type, data, checksum
        if following > len(data):
            return data[:end] + _IEND
        end = following
    return None if len(data) >= end + 12 else data[:end] + _IEND


# Everything that Pillow's decoders raise on damaged files.
_PILLOW_ERRORS = (
    OSError, ValueError, SyntaxError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError, MemoryError,
    EOFError, AttributeError, RuntimeError, NotImplementedError,
    Image.DecompressionBombError,
)  # fmt: skip  # a list of names


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise SourceError("the file is empty")
    try:
        image = _open_any_size(data)
    except UnidentifiedImageError as error:
        raise SourceError(f"not an image that can be read{_hint(data)}") from error
    except _PILLOW_ERRORS as error:
        raise SourceError(_reason(error)) from error
    if image.width * image.height > max_pixels:
        raise TooLargeError(image.width, image.height, max_pixels)
    return image


_pillow_limit = threading.Lock()


def _open_any_size(data: bytes) -> Image.Image:
    """Open an image without Pillow's own limit, which belongs to the whole program; ours is checked right after."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _hint(data: bytes) -> str:
    if data.startswith(b"version https://git-lfs"):
        return ": a Git LFS pointer; fetch the file itself with 'git lfs pull'"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return ": HEIC; convert it to JPEG or PNG first"
    if data.lstrip()[:5] in (b"<?xml", b"<svg ", b"<!DOC", b"<html"):
        return ": a text file (SVG, XML or HTML)"
    return ""


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded: {text[:200]}"


def _is_plain(image: Image.Image) -> bool:
    return image.mode in ("RGB", "L", "CMYK", "YCbCr", "1") and "transparency" not in image.info


def _plain(image: Image.Image) -> np.ndarray:
    if image.mode == "LAB":
        return _seen(image)  # Pillow's own convert() refuses it
    return np.asarray(image.convert("RGB"))


def _seen(image: Image.Image) -> np.ndarray:
    """RGB pixels over white, high bit depths scaled rather than clipped."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        return _from_16_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError("a floating-point image has no fixed range; convert it to 8 bits first")
    if image.mode == "LAB":
        from PIL import ImageCms  # rarely needed

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        try:
            converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        except ImageCms.PyCMSError as error:
            raise ValueError(str(error)) from error
        assert converted is not None  # only in-place conversion returns None
        return np.asarray(converted)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("a 32-bit image has no fixed range; convert it to 8 bits first")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


_BEFORE = ", before they are turned into floats (ToTensor, ToDtype)"


def as_pixels(image: Any) -> np.ndarray:
    """Return the uint8 (H, W, 3) RGB pixels of an image that is already in memory.

    Parameters
    ----------
    image : PIL image, ndarray or tensor
        PIL of any mode; uint8 array (H, W), (H, W, 1) or (H, W, 3); uint8 tensor (3, H, W) or (1, H, W).

    Raises
    ------
    SourceError
        If it is something else, such as floats or a batch.
    """
    if isinstance(image, Image.Image):
        from augcache.images.arrow import rgb_pixels  # ctypes, for images in memory alone

        if image.mode == "F":
            raise SourceError(f"an image of mode F, floats: give 8 bits a channel{_BEFORE}")
        return rgb_pixels(image if image.mode == "RGB" else image.convert("RGB"))
    tensor = not isinstance(image, np.ndarray) and hasattr(image, "detach") and hasattr(image, "numpy")
    array = image.detach().cpu().numpy() if tensor else image
    if isinstance(array, list | tuple):
        raise SourceError(f"a {type(image).__name__} of {len(array)} is a batch: give one image at a time")
    if not isinstance(array, np.ndarray):
        raise SourceError(f"a {type(image).__name__} is not an image: give a PIL image, an array or a tensor")
    if array.dtype != np.uint8:
        raise SourceError(f"an image of dtype {array.dtype}: give uint8 pixels{_BEFORE}")
    given, wanted = (
        (f"a tensor of shape {array.shape}", "(3, H, W)")
        if tensor
        else (f"an array of shape {array.shape}", "(H, W, 3)")
    )
    if array.ndim == 4:
        raise SourceError(f"{given} is a batch: give one image at a time")
    if tensor and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise SourceError(f"{given} is not an image: give {wanted}")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array
