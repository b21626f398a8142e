"""Records as bytes: ``{name: array}`` in, checksummed bytes out, arrays back one at a time when asked for.

Layout, little-endian::

    magic "AGR1" | xxh3-64 of all that follows | number of arrays (1 byte)
    for each array: name length, name | dtype code | encoding | ndim | payload length (4 bytes) | shape (4 bytes each)
    payloads, in the same order: as they are, a zstd frame of that, or a zstd frame of an array's runs (values, lengths)

Nothing in it is executed or sized on trust: every length is checked against the bytes that are there.
"""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import xxhash
import zstandard

from augcache.errors import CorruptError, RecipeError
from augcache.records.html import record_html
from augcache.records.rules import (
    BOOL,
    ITEM_BYTES,
    MOST_BYTES,
    TEXT,
    UINT8,
    Header,
    check_headers,
    check_labels,
    check_saliency,
    has_regions,
    is_bomb,
)
from augcache.records.run_length import LONGEST, Runs, runs_of

MAGIC = b"AGR1"
MAX_ARRAYS = 64
MAX_NDIM = 8

_PREFIX = struct.Struct("<4sQB")
# By number of axes: dtype code, encoding, ndim, payload length, shape.
_FIELDS = [struct.Struct(f"<BBBI{ndim}I") for ndim in range(MAX_NDIM + 1)]

# A fixed table and not np.dtype(text): numpy's parser accepts object and structured types.
_DTYPES = {
    1: "|b1", 2: "|u1", 3: "<u2", 4: "<u4", 5: "<u8", 6: "|i1", 7: "<i2", 8: "<i4", 9: "<i8",
    10: "<f2", 11: "<f4", 12: "<f8",
}  # fmt: skip  # a table reads better in rows
_CODES = {name: code for code, name in _DTYPES.items()}
# A text is a 0-d string, stored as UTF-8; a bool array is stored as packed bits.
MOST_TEXT = 4096  # bytes

RAW, ZSTD, RUNS = 0, 1, 2
# Below this many bytes a zstd frame saves less than its own header costs.
_WORTH_COMPRESSING = 64

_local = threading.local()  # zstd contexts are costly to make and not safe to share between threads


def encode(record: Mapping[str, np.ndarray], *, level: int = 9) -> bytes:
    """Turn a record into bytes.

    Parameters
    ----------
    record : mapping of str to ndarray
        Arrays of bool, integers or floats of any shape, and 0-d strings. Bool arrays take one bit an element.
    level : int
        zstd level, 1 (fast) to 22 (small); 0 stores the bytes as they are, and so does any for a large record that
        would become so small that it looks like one made to fill a reader's memory.

    Raises
    ------
    RecipeError
        If an array is of another kind, the record too large, or no legal saliency record by its arrays' names: the
        transform that made it must change.
    """
    if len(record) > MAX_ARRAYS:
        raise RecipeError(f"a record has {len(record)} arrays; the most is {MAX_ARRAYS}")
    arrays = {name: np.asarray(value) for name, value in record.items()}
    size = sum(array.nbytes for array in arrays.values())
    if size > MOST_BYTES:
        raise RecipeError(f"a record has {size} bytes; the most is {MOST_BYTES}")
    headers: dict[str, Header] = {}
    head, payloads = [], []
    for name, array in arrays.items():
        code, raw = _to_bytes(name, array)
        encoding, payload = _compress(array, raw, level)
        label = _utf8(name)
        if not 0 < len(label) < 256:
            raise RecipeError(f"array name {name!r}: give 1 to 255 bytes")
        headers[name] = code, encoding, array.ndim, len(payload), *array.shape
        head.append(bytes([len(label)]) + label + _FIELDS[array.ndim].pack(*headers[name]))
        payloads.append(payload)
    body = bytes([len(record)]) + b"".join(head) + b"".join(payloads)
    if level and is_bomb(size, len(body)):
        return encode(record, level=0)
    _check_legal(arrays, headers, len(body))
    return MAGIC + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little") + body


def _check_legal(arrays: Mapping[str, np.ndarray], headers: Mapping[str, Header], stored: int) -> None:
    """Refuse to write what could not be read."""
    try:
        check_headers(headers, stored)
        for name, array in arrays.items():
            _check_values(name, array, _regions(headers))
    except CorruptError as error:
        raise RecipeError(f"no legal {error}") from error


def _regions(headers: Mapping[str, Header]) -> int | None:
    """Return the number of regions of a saliency record, None for another."""
    return headers["palette" if "palette" in headers else "region_saliency"][4] if has_regions(headers) else None


def _check_values(name: str, values: np.ndarray, regions: int | None) -> None:
    """Check the values of an array, or of its runs, in a record of so many regions; raises `CorruptError`."""
    if regions is not None and name == "labels":
        check_labels(values, regions)
    elif regions is not None and name == "region_saliency":
        check_saliency(values)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"text {text!r} of a record is not Unicode: {error.reason}") from error


def _to_bytes(name: str, array: np.ndarray) -> tuple[int, bytes]:
    if array.dtype.kind == "U" and array.ndim == 0:
        text = _utf8(str(array))
        if len(text) > MOST_TEXT:
            raise RecipeError(f"text {name!r} has {len(text)} bytes; the most is {MOST_TEXT}")
        return TEXT, text
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    code = _CODES.get(little.str)
    if code is None or array.ndim > MAX_NDIM:
        raise RecipeError(
            f"array {name!r} is {array.dtype} {array.shape}: a record holds bool, integers, floats and 0-d strings, "
            f"up to {MAX_NDIM} axes"
        )
    if code == BOOL:
        return code, np.packbits(array, axis=None).tobytes()
    return code, array.astype(little, copy=False).tobytes()


def _compress(array: np.ndarray, raw: bytes, level: int) -> tuple[int, bytes]:
    if level == 0 or len(raw) < _WORTH_COMPRESSING:
        return RAW, raw
    runs = runs_of(array) if array.dtype == np.uint8 else None
    plain = raw if runs is None else runs.values.tobytes() + runs.lengths.tobytes()
    packed = _compressor(level).compress(plain)
    if len(packed) >= len(raw):
        return RAW, raw
    return (ZSTD if runs is None else RUNS), packed


def _compressor(level: int) -> zstandard.ZstdCompressor:
    cached: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in cached:
        # The record's own checksum covers the frame; the size is in the frame so that reading can check it.
        cached[level] = zstandard.ZstdCompressor(level, write_checksum=False, write_content_size=True)
    return cached[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    cached: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if cached is None:
        cached = _local.decompressor = zstandard.ZstdDecompressor()
    return cached


class AbsentError(CorruptError, KeyError):
    """A record lacks an array; of two records of one recipe, one does not have what the other has."""

    def __str__(self) -> str:
        return str(self.args[0])


class StoredRecord(Mapping[str, np.ndarray]):
    """A record as it lies in a store: an array is decoded when it is first asked for, and kept.

    Arrays are read-only. A bool array or string is rebuilt with the dtype it was stored with.
    """

    __slots__ = ("_arrays", "_data", "_headers", "_payload", "_regions", "_runs", "_starts", "_where")

    def __init__(self, data: bytes, where: tuple[os.PathLike[str], bytes] | None = None) -> None:
        self._data = data
        self._where = where
        self._headers, self._starts, self._payload = _parse(data)
        self._regions = _regions(self._headers)
        self._arrays: dict[str, np.ndarray] = {}
        self._runs: dict[str, Runs] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays.get(name)
        if array is None:
            try:
                array = self._arrays[name] = self._decode(name)
            except CorruptError as error:
                raise self._explained(error) from error
        return array

    def runs(self, name: str) -> Runs | None:
        """Return the runs of an array that is stored so, else None: enough to colour an index map, and less work."""
        try:
            field = self._field(name)
            return self._kept_runs(name, field) if field.encoding == RUNS else None
        except CorruptError as error:
            raise self._explained(error) from error

    def _explained(self, error: CorruptError) -> CorruptError:
        return error if self._where is None else type(error)(located(error, *self._where))

    def _decode(self, name: str) -> np.ndarray:
        field = self._field(name)
        if field.encoding != RUNS:
            array = _decode_array(self._bytes(field), name, field)
            _check_values(name, array, self._regions)
            return array
        array = self._kept_runs(name, field).array()
        array.flags.writeable = False
        return array

    def _kept_runs(self, name: str, field: _Field) -> Runs:
        runs = self._runs.get(name)
        if runs is None:
            runs = _decode_runs(self._bytes(field), name, field)
            _check_values(name, runs.values, self._regions)
            self._runs[name] = runs
        return runs

    def check(self) -> None:
        """Decode every array, one after the other, and keep none; raises `CorruptError`."""
        for name in self:
            self._decode(name)
            self._runs.clear()

    def _field(self, name: str) -> _Field:
        if name not in self._headers:
            raise AbsentError(f"record: it has no array {name!r}, but {', '.join(map(repr, self)) or 'none'}")
        code, encoding, _, length, *shape = self._headers[name]
        return _Field(code, encoding, tuple(shape), self._payload + self._starts[name], length)

    def _bytes(self, field: _Field) -> memoryview:
        return memoryview(self._data)[field.start : field.start + field.length]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one array, without decoding it."""
        return self._field(name).shape

    def __repr__(self) -> str:
        fields = ((name, self._field(name)) for name in self)
        parts = (f"{name} {field.dtype}{list(field.shape)}" for name, field in fields)
        return f"StoredRecord({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """Draw the arrays that are images, for a notebook."""
        return record_html(self)


# A look-up reads all headers and two payloads, so only what is asked for becomes a `_Field`.
class _Field(NamedTuple):
    code: int
    encoding: int
    shape: tuple[int, ...]
    start: int
    length: int

    @property
    def dtype(self) -> str:
        return "text" if self.code == TEXT else str(np.dtype(_DTYPES[self.code]))


def located(error: CorruptError, store: os.PathLike[str], key: bytes) -> str:
    """Say where a record is that something is wrong with, and what to do."""
    return f"{store}: entry {key.hex()}: {error}; run 'augcache verify {store}' to list all such entries"


def decode(data: bytes, where: tuple[os.PathLike[str], bytes] | None = None) -> StoredRecord:
    """Open bytes that `encode` made; checks the checksum and the header, decodes no array yet.

    Parameters
    ----------
    data : bytes
        The record.
    where : tuple, optional
        Path of the store, and the record's content key; told in an error.

    Raises
    ------
    CorruptError
        If the bytes are not those that were written. Also raised when an array is asked for later, should
        a correctly checksummed record be malformed inside.
    """
    try:
        return StoredRecord(data, where)
    except CorruptError as error:
        raise error if where is None else CorruptError(located(error, *where)) from error


def _parse(data: bytes) -> tuple[dict[str, Header], dict[str, int], int]:
    """Headers of a record's arrays by name, where each payload starts from the first one on, and where that starts."""
    if len(data) < _PREFIX.size or data[:4] != MAGIC:
        raise CorruptError("record: these bytes are not an augcache record")
    _, checksum, count = _PREFIX.unpack_from(data)
    if xxhash.xxh3_64_intdigest(memoryview(data)[12:]) != checksum:
        raise CorruptError("record: its checksum does not fit its bytes")
    try:
        headers, starts, position, payload = _parse_headers(data, count)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
        raise CorruptError(f"record: malformed header ({error!r})") from error
    if position + payload != len(data) or len(headers) != count or count > MAX_ARRAYS:
        raise CorruptError(f"record: {len(data)} bytes, its header accounts for {position + payload}")
    check_headers(headers, len(data))
    return headers, starts, position


def _parse_headers(data: bytes, count: int) -> tuple[dict[str, Header], dict[str, int], int, int]:
    """Headers by name, starts of the payloads by name, bytes of all headers and of all payloads."""
    position, start = _PREFIX.size, 0
    headers, starts = {}, {}
    for _ in range(count):
        stop = position + 1 + data[position]
        name = data[position + 1 : stop].decode()
        layout = _FIELDS[data[stop + 2]]
        header = layout.unpack_from(data, stop)
        if header[1] > RUNS or header[0] not in ITEM_BYTES:
            raise KeyError(name)
        headers[name], starts[name] = header, start
        start += header[3]
        position = stop + layout.size
    return headers, starts, position, start


def _decode_array(raw: bytes | memoryview, name: str, field: _Field) -> np.ndarray:
    if field.code == TEXT:
        return _decode_text(name, bytes(raw), field)
    dtype = np.dtype(_DTYPES[field.code])
    elements = math.prod(field.shape)
    size = (elements + 7) // 8 if field.code == BOOL else elements * dtype.itemsize
    if field.encoding == ZSTD:
        raw = _decompress(name, raw, range(size, size + 1))
    if len(raw) != size:
        raise CorruptError(f"record: array {name!r} has {len(raw)} bytes where its shape needs {size}")
    if field.code == BOOL:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=elements).view(bool)
        bits.flags.writeable = False
        return bits.reshape(field.shape)
    return np.frombuffer(raw, dtype).reshape(field.shape)


def _decode_text(name: str, raw: bytes, field: _Field) -> np.ndarray:
    if field.shape or len(raw) > MOST_TEXT:
        raise CorruptError(f"record: text {name!r} is not a short single string")
    try:
        if field.encoding == ZSTD:
            raw = _decompress(name, raw, range(MOST_TEXT + 1))
        return np.array(raw.decode())
    except UnicodeDecodeError as error:
        raise CorruptError(f"record: text {name!r} cannot be read ({error})") from error


def _decode_runs(raw: memoryview, name: str, field: _Field) -> Runs:
    size = math.prod(field.shape)
    if field.code != UINT8:
        raise CorruptError(f"record: array {name!r} is stored as runs, which only uint8 arrays are")
    # Two bytes a run, as many as the shape needs at least and at most: a few runs must not make a large array.
    plain = _decompress(name, raw, range(2 * -(-size // LONGEST), 2 * size + 1, 2))
    pairs = np.frombuffer(plain, np.uint8).reshape(2, -1)
    return Runs(pairs[0], pairs[1], field.shape)


def _decompress(name: str, raw: bytes | memoryview, fitting: range) -> bytes:
    """Decompress an array; the frame's own claim is checked before there is a buffer."""
    try:
        claimed = zstandard.frame_content_size(raw)
        if claimed not in fitting:
            raise CorruptError(f"record: array {name!r} is compressed from another size than its shape needs")
        return _decompressor().decompress(raw, max_output_size=claimed)
    except zstandard.ZstdError as error:
        raise CorruptError(f"record: array {name!r} cannot be decompressed ({error})") from error
