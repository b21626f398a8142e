"""The name of an image: a hash of its pixels."""

from __future__ import annotations

import functools
from typing import NewType

import numpy as np
import xxhash

from augcache.errors import SourceError

ContentKey = NewType("ContentKey", bytes)

KEY_BYTES = 16


def content_key(image: np.ndarray) -> ContentKey:
    """Hash the pixels that a transform sees.

    Parameters
    ----------
    image : ndarray
        Decoded image, usually uint8 (H, W, 3) RGB. Memory order does not matter: a C-ordered copy is
        hashed where the array is not C-contiguous.

    Returns
    -------
    ContentKey
        16 bytes, xxh3-128 of dtype, shape and C-order bytes. Not cryptographic: it tells images apart, it
        does not resist somebody who wants two images to collide.

    Raises
    ------
    SourceError
        If the array holds objects, which have no bytes of their own.

    Examples
    --------
    >>> content_key(np.zeros((2, 2, 3), np.uint8)).hex()
    '2618fe991e446e984fa388380b494eb3'
    """
    if image.dtype.hasobject:
        raise SourceError(f"cannot hash an array of dtype {image.dtype}: give numbers, such as uint8 pixels")
    return hash_pixels(np.ascontiguousarray(image).reshape(-1).view(np.uint8), image.dtype.str, image.shape)


def hash_pixels(data: np.ndarray | bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> ContentKey:
    """`content_key` for pixels that are at hand as C-order bytes."""
    hasher = xxhash.xxh3_128(_header(dtype, shape))
    hasher.update(data)
    return ContentKey(hasher.digest())


@functools.lru_cache(maxsize=256)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    return f"{dtype}{shape}".encode()
