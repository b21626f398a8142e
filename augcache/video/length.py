"""Whether a video file is shorter than its own header says, told from the sizes of its outermost parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def cut_short(path: Path, container: str) -> str | None:
    """Say by how much a file is cut short.

    Parameters
    ----------
    path : Path
    container : str
        FFmpeg's name of the format.

    Returns
    -------
    str or None
        None for a whole file, and for a format that does not state its size.
    """
    declare = {"mov,mp4,m4a,3gp,3g2,mj2": _boxes, "matroska,webm": _ebml, "avi": _riff}.get(container)
    if declare is None:
        return None
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        declared = declare(file, size)
    return f"the file is cut short, at {size} of {declared} bytes" if declared > size else None


def _boxes(file: BinaryIO, size: int) -> int:
    """ISO/IEC 14496-12, 4.2: a box is its size, its type, and for size 1 a longer size; size 0 is up to the end."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return size
        at += length
    return at


def _ebml(file: BinaryIO, size: int) -> int:
    """RFC 8794 and RFC 9559: an EBML header, then a segment; a size of all ones is unknown (live)."""
    at = 0
    for _ in range(2):
        file.seek(at + 4)  # both have an identifier of 4 bytes
        head = file.read(8)
        width = 9 - head[0].bit_length() if head and head[0] else 8
        value = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
        if value == (1 << 7 * width) - 1:
            return size
        at += 4 + width + value
    return at


def _riff(file: BinaryIO, size: int) -> int:
    """RIFF: a tag of 4 bytes, the size of the rest; recorders that were cut off leave 0."""
    length = int.from_bytes(file.read(8)[4:8], "little")
    return length + 8 if length else size
