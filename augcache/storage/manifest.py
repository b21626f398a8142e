"""Rows of a store's manifest: which source gave which content key, and which source failed and why."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass

import xxhash

from augcache.errors import CorruptError
from augcache.images.keys import KEY_BYTES, ContentKey

# Sources whose pixels were taken as decoded. A transform that keys its result by its own output (a resized
# copy, a video frame) keeps its rows under its recipe's digest instead, since one file then has several keys.
DECODED = bytes(16)

_ROW = struct.Struct("<16s16sQqqdHHH")  # key, digest, size, mtime_ns, frame, seconds, rotation, name and label lengths
_LONGEST_NAME = 400  # LMDB keys have at most 511 bytes; 16 are the prefix, 9 the frame


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image came from.

    Attributes
    ----------
    name : str
        Path relative to the source folder, with ``/``; or what else names the item in its source.
    key : ContentKey
        16 bytes, the image's pixels.
    size : int
        Bytes of the file; 0 for an item that is no file.
    mtime_ns : int
        The file's modification time in nanoseconds.
    digest : bytes
        16 bytes, xxh3-128 of the file's bytes; zeros for an item that is no file.
    label : str
        Class name; empty where there is none.
    frame : int or None
        Index of the video frame in presentation order.
    seconds : float
        The frame's timestamp.
    rotation : int
        Degrees that were applied to the frame, as the video's metadata asks.
    """

    name: str
    key: ContentKey
    size: int = 0
    mtime_ns: int = 0
    digest: bytes = bytes(16)
    label: str = ""
    frame: int | None = None
    seconds: float = 0.0
    rotation: int = 0

    def row_key(self) -> bytes:
        """Key of this row after its prefix; rows sort by name, then by frame."""
        return row_key(self.name, self.frame)

    def to_bytes(self) -> bytes:
        """Row value."""
        name, label = os.fsencode(self.name), self.label.encode("utf-8", "surrogateescape")
        frame = -1 if self.frame is None else self.frame
        fixed = _ROW.pack(
            self.key, self.digest, self.size, self.mtime_ns, frame, self.seconds, self.rotation, len(name), len(label)
        )
        return seal(fixed + name + label)

    @classmethod
    def from_bytes(cls, data: bytes) -> Source:
        """Read a row value back.

        Raises
        ------
        CorruptError
            If the bytes are no row.
        """
        try:
            data = unseal(data)
            key, digest, size, mtime_ns, frame, seconds, rotation, name, label = _ROW.unpack_from(data)
            text = data[_ROW.size :]
            if len(text) != name + label:
                raise ValueError("wrong length")
            class_name = text[name:].decode("utf-8", "surrogateescape")  # a folder's name may be in any encoding
            return cls(
                os.fsdecode(text[:name]), ContentKey(key), size, mtime_ns, digest, class_name,
                None if frame < 0 else frame, seconds, rotation,
            )  # fmt: skip  # one row of the struct a line
        except (struct.error, ValueError) as error:
            raise CorruptError(f"manifest: malformed row ({error})") from error


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that gave no entry, and why.

    Attributes
    ----------
    name : str
        As in `Source`.
    reason : str
        One line.
    size, mtime_ns : int
        State of the file when it failed.
    """

    name: str
    reason: str
    size: int = 0
    mtime_ns: int = 0

    def to_bytes(self) -> bytes:
        """Row value."""
        return seal(json.dumps(asdict(self), ensure_ascii=True).encode())

    @classmethod
    def from_bytes(cls, data: bytes) -> Failure:
        """Read a row value back; raises `CorruptError`."""
        try:
            raw = json.loads(unseal(data))
            str(raw["name"]).encode("utf-8", "surrogateescape")  # raises ValueError where no file can have this name
            return cls(str(raw["name"]), str(raw["reason"]), int(raw["size"]), int(raw["mtime_ns"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CorruptError(f"failures: malformed row ({error!r})") from error


def seal(row: bytes) -> bytes:
    """Put a checksum before a row."""
    return xxhash.xxh3_64_digest(row) + row


def unseal(data: bytes) -> bytes:
    """Check and remove the checksum; raises ValueError."""
    row = data[8:]
    if xxhash.xxh3_64_digest(row) != data[:8]:
        raise ValueError("its checksum does not fit its bytes")
    return row


def row_key(name: str, frame: int | None = None) -> bytes:
    """Key of a source's row after its 16-byte prefix."""
    raw = os.fsencode(name)
    if len(raw) > _LONGEST_NAME:
        raw = raw[: _LONGEST_NAME - KEY_BYTES] + xxhash.xxh3_128_digest(raw)
    return raw if frame is None else raw + b"\0" + frame.to_bytes(8, "big")
