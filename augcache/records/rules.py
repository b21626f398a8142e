"""What a legal record is: how large it may become, and what the arrays of a saliency record are to one another.

All that reads a record passes here first. What the headers tell is checked when a record is opened, before there is
an array; what the values tell, when the array is first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from augcache.errors import CorruptError

MOST_BYTES = 1 << 30  # of all arrays of a record together, decoded: an image of 16384 x 16384 with its mask
# A small file must not make much memory: beyond so many decoded bytes, a record has at least a 1024th of them.
FREE_BYTES = 1 << 27
MOST_RATIO = 1 << 10
MOST_PIXELS = 178_956_970  # of an index map: no larger image is decoded, see `images.MAX_PIXELS`
MOST_REGIONS = 1 << 16

# dtype codes; fixed, since they are in every record
TEXT, BOOL, UINT8, UINT16, FLOAT32 = 0, 1, 2, 3, 11
ITEM_BYTES = {0: 1, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8}

Header = tuple[int, ...]  # dtype code, encoding, ndim, payload bytes, and the shape


def check_headers(headers: Mapping[str, Header], stored: int) -> None:
    """Check what the headers of a record tell.

    Parameters
    ----------
    headers : mapping of str to tuple
        Header of each array.
    stored : int
        Bytes of the whole record as it is stored.

    Raises
    ------
    CorruptError
        If it would become too large, or is a saliency record whose arrays do not fit one another.
    """
    elements = 0
    for header in headers.values():
        elements += (header[4] * header[5] if header[2] == 2 else math.prod(header[4:])) or FREE_BYTES
    if elements > FREE_BYTES // 8:  # else it is small, whatever its dtypes
        _check_size(headers, stored)
    if has_regions(headers):
        _check_saliency(headers)
    if "mask" in headers and ("image" in headers or "encoded" in headers):
        _check_mask(headers)


def _check_mask(headers: Mapping[str, Header]) -> None:
    mask, image = headers["mask"], headers.get("image")
    if mask[0] != UINT8 or mask[2] != 2 or (image is not None and mask[4:] != image[4:6]):
        raise _unfit(headers, "mask", "uint8 of the height and width of its image")


def has_regions(headers: Mapping[str, Header]) -> bool:
    """Whether a record is a saliency record by its names; `labels` alone may be anything of a transform's own."""
    return "labels" in headers and ("palette" in headers or "region_saliency" in headers)


def _check_size(headers: Mapping[str, Header], stored: int) -> None:
    size = sum(map(_decoded_bytes, headers.values()))
    if size > MOST_BYTES:
        raise CorruptError(f"record: its arrays have {size} bytes; the most is {MOST_BYTES}")
    if is_bomb(size, stored):
        raise CorruptError(f"record: {stored} bytes that would become {size}; the most is {MOST_RATIO} times as many")


def _decoded_bytes(header: Header) -> int:
    """Bytes of an array once it is decoded; of one without elements too, since numpy bounds its other axes."""
    return ITEM_BYTES[header[0]] * (math.prod(header[4:]) or math.prod(side or 1 for side in header[4:]))


def is_bomb(size: int, stored: int) -> bool:
    """Whether so few stored bytes may not become so many."""
    return size > FREE_BYTES and size > MOST_RATIO * stored


def _check_saliency(headers: Mapping[str, Header]) -> None:
    labels, palette, saliency = headers["labels"], headers.get("palette"), headers.get("region_saliency")
    if labels[0] not in (UINT8, UINT16) or labels[2] != 2 or not 0 < labels[4] * labels[5] <= MOST_PIXELS:
        raise _unfit(headers, "labels", "uint8 or uint16 (H, W), of no more pixels than an image may have")
    if palette is not None and (palette[:3:2] != (UINT8, 2) or palette[5] != 3 or not 0 < palette[4] <= MOST_REGIONS):
        raise _unfit(headers, "palette", "uint8 (K, 3)")
    if "cut" in headers and (headers["cut"][0] != BOOL or headers["cut"][4:] != labels[4:]):
        raise _unfit(headers, "cut", "bool of the shape of its labels")
    if saliency is not None and (
        saliency[0] != FLOAT32 or saliency[2] != 1 or (palette is not None and saliency[4] != palette[4])
    ):
        raise _unfit(headers, "region_saliency", "float32, one for each colour of its palette")
    if "status" in headers and headers["status"][0] != TEXT:
        raise _unfit(headers, "status", "a text")


def _unfit(headers: Mapping[str, Header], name: str, right: str) -> CorruptError:
    return CorruptError(f"record: {name} is not {right}, but dtype {headers[name][0]} of shape {headers[name][4:]}")


def check_labels(values: np.ndarray, regions: int) -> None:
    """Check the values of an index map, or of its runs, against the number of colours; raises `CorruptError`."""
    if values.size and int(values.max()) >= regions:
        raise CorruptError(f"record: its labels name region {int(values.max())}, and its palette has {regions} colours")


def check_saliency(values: np.ndarray) -> None:
    """Check the saliency of regions; raises `CorruptError` unless all are from 0 to 1."""
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # nor NaN
        raise CorruptError("record: its region_saliency is not from 0 to 1")


def check_pixels(image: np.ndarray) -> None:
    """Check an image of a frame or copy; raises `CorruptError` unless it is uint8 (H, W, 3) with pixels in it."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise CorruptError(f"record: its image is {image.dtype} {image.shape}, not uint8 (H, W, 3)")


def check_encoded(data: np.ndarray) -> None:
    """Check the bytes of an encoded image before they are decoded.

    Raises
    ------
    CorruptError
        If they are no WebP or JPEG file, or would become too many pixels.
    """
    size = None
    if data.dtype == np.uint8 and data.ndim == 1:
        head = bytes(data[:30])
        is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
        size = _webp_size(head) if is_webp else _jpeg_size(memoryview(data))
    if size is None:
        raise CorruptError("record: its encoded image is no WebP or JPEG file")
    if 3 * math.prod(size) > MOST_BYTES or is_bomb(3 * math.prod(size), len(data)):
        raise CorruptError(f"record: an encoded image of {len(data)} bytes claims {size[0]} x {size[1]} pixels")


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if len(head) < 30:
        return None
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Width and height of the first frame header."""
    at = 2
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6]
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None
