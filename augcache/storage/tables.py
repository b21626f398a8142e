"""What lies in a store's databases, and how it is read and written inside one transaction.

Six LMDB databases::

    meta      b"format" -> b"2"
    recipes   recipe digest -> JSON: recipe and provenance
    index     recipe digest + content key -> slab number, offset, length
    slabs     recipe digest + slab number -> the records of one commit, each after its content key
    sources   16-byte prefix + name (+ frame) -> Source
    failures  recipe digest + name -> Failure

A record of 5 KB would take two whole pages (8 KB) as a value of its own; in a slab it takes its length.
"""

from __future__ import annotations

import contextlib
import json
import platform
import struct
import time
from pathlib import Path
from typing import Any

from augcache.errors import CorruptError, RecipeError, StoreError
from augcache.images.keys import KEY_BYTES, ContentKey
from augcache.recipe import Recipe
from augcache.storage.environment import Transaction
from augcache.storage.manifest import row_key

FORMAT = 2
READABLE = (1, 2)  # 1 has no array that is stored as runs; what is written into such a store makes it one of 2

PLACE = struct.Struct("<QII")  # slab number, offset, length
SLAB_BYTES = 1 << 16  # a larger commit makes several slabs: a read touches every page of the one that its record is in
CHUNK = 4096  # rows a scan reads in one transaction: long ones keep old pages alive

Databases = dict[bytes, Any]


def mark_format(transaction: Transaction, databases: Databases) -> None:
    """Note the format of what is written, so that an older augcache says so rather than call it damaged."""
    if transaction.get(b"format", db=databases[b"meta"]) != b"%d" % FORMAT:
        transaction.put(b"format", b"%d" % FORMAT, db=databases[b"meta"])


def as_bytes(view: bytes | memoryview | None) -> bytes | None:
    """Copy a value out of the map, which ends with its transaction."""
    return None if view is None else bytes(view)


def fetch(transaction: Transaction, databases: Databases, digest: bytes, key: bytes, path: Path) -> bytes | None:
    """Return the bytes of one record, or None; raises `CorruptError`."""
    place = transaction.get(digest + key, db=databases[b"index"])
    if place is None:
        _check_miss(transaction, databases, digest + key, path)
        return None
    try:
        number, offset, length = PLACE.unpack(place)
    except struct.error as error:
        raise CorruptError(f"{path}: entry {key.hex()}: malformed index row; rebuild this store") from error
    slab = transaction.get(digest + number.to_bytes(8, "big"), db=databases[b"slabs"])
    # The content key stands before its record, so an index row that points astray is found out.
    start = offset + KEY_BYTES
    if slab is None or length > len(slab) - start or slab[offset:start] != key:
        raise CorruptError(f"{path}: entry {key.hex()}: the index points to another record; rebuild this store")
    return bytes(slab[start : start + length])


def _check_miss(transaction: Transaction, databases: Databases, wanted: bytes, path: Path) -> None:
    """Raise `CorruptError` where a key may be missing only because one is damaged: that is no miss.

    A search that a damaged key has led astray, or that looks for one, ends beside it, or beside keys that do not lie on
    either side of what it looks for. Each record stands after its own key, so a damaged one is found out.
    """
    with transaction.cursor(db=databases[b"index"]) as cursor:
        after = cursor.set_range(wanted)
        rows = [(False, bytes(cursor.key()), bytes(cursor.value()))] if after else []
        if cursor.prev() if after else cursor.last():
            rows.append((True, bytes(cursor.key()), bytes(cursor.value())))
    for is_before, key, place in rows:
        if key == wanted or (key < wanted) != is_before or not _is_backed(transaction, databases, key, place):
            raise CorruptError(
                f"{path}: entry {wanted[KEY_BYTES:].hex()}: the index is damaged where it would be; "
                f"see 'augcache verify {path}', and rebuild this store"
            )


def _is_backed(transaction: Transaction, databases: Databases, key: bytes, place: bytes) -> bool:
    if len(key) != 2 * KEY_BYTES or len(place) != PLACE.size:
        return False
    number, offset, _ = PLACE.unpack(place)
    slab = transaction.get(key[:KEY_BYTES] + number.to_bytes(8, "big"), db=databases[b"slabs"])
    return slab is not None and slab[offset : offset + KEY_BYTES] == key[KEY_BYTES:]


def chunk(
    transaction: Transaction,
    databases: Databases,
    *,
    database: bytes,
    prefix: bytes,
    start: bytes,
    values: bool,
) -> list[tuple[bytes, bytes]]:
    """Return the next rows whose key starts with a prefix, at most `CHUNK`."""
    rows: list[tuple[bytes, bytes]] = []
    with transaction.cursor(db=databases[database]) as cursor:
        if not (cursor.set_range(start) if start else cursor.first()):
            return rows
        found = True
        while found and len(rows) < CHUNK:
            key = bytes(cursor.key())
            if not key.startswith(prefix):
                break
            rows.append((key, bytes(cursor.value()) if values else b""))
            found = cursor.next()
    return rows


def rows_of(transaction: Transaction, databases: Databases, *, prefix: bytes, names: list[str]) -> list[list[bytes]]:
    """Return the manifest rows of each name: its own, or those of its frames."""
    found: list[list[bytes]] = []
    with transaction.cursor(db=databases[b"sources"]) as cursor:
        for name in names:
            key = prefix + row_key(name)
            row = cursor.get(key)
            found.append([] if row is None else [bytes(row)])
            is_there = row is None and cursor.set_range(key + b"\0")
            while is_there and bytes(cursor.key()).startswith(key + b"\0"):
                found[-1].append(bytes(cursor.value()))
                is_there = cursor.next()
    return found


def digests(transaction: Transaction, databases: Databases) -> list[bytes]:
    """Return the recipe digests that have entries, found by leaps rather than by a scan."""
    found: list[bytes] = []
    with transaction.cursor(db=databases[b"index"]) as cursor:
        start = 0
        while start < 1 << 128 and cursor.set_range(start.to_bytes(16, "big")):
            found.append(bytes(cursor.key())[:16].ljust(16, b"\0"))
            start = int.from_bytes(found[-1], "big") + 1
    return found


def count_entries(transaction: Transaction, databases: Databases) -> dict[bytes, int]:
    """Count the entries of each recipe; those of the largest are what the others leave of the total."""
    index, counts = databases[b"index"], dict.fromkeys(digests(transaction, databases), 0)
    largest = max(counts, key=lambda digest: next_slab(transaction, databases[b"slabs"], digest), default=b"")
    with transaction.cursor(db=index) as cursor:
        for digest in counts.keys() - {largest}:
            cursor.set_range(digest)
            for key in cursor.iternext(values=False):
                if key[:16] != digest:
                    break
                counts[digest] += 1
    if counts:
        counts[largest] = int(transaction.stat(index)["entries"]) - sum(counts.values())
    return counts


def parse_recipe(digest: bytes, row: bytes) -> tuple[Recipe, dict[str, Any]]:
    """Read a row of the recipes table: the recipe and its provenance; raises `CorruptError`."""
    try:
        raw = json.loads(row)
        recipe, provenance = Recipe.from_json(raw["recipe"]), raw["provenance"]
        is_flat = all(isinstance(value, str | int) for value in provenance.values())
        if recipe.digest != digest or not isinstance(provenance["created"], int) or not is_flat:
            raise ValueError("it does not fit its digest")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RecipeError) as error:
        raise CorruptError(f"recipe {digest.hex()[:8]}: malformed row ({error!r})") from error
    return recipe, provenance


def put_recipe(transaction: Transaction, databases: Databases, recipe: Recipe) -> None:
    """Note a recipe and where it was run, the first time."""
    if transaction.get(recipe.digest, db=databases[b"recipes"]) is None:
        row = {"recipe": recipe.to_json(), "provenance": provenance()}
        transaction.put(recipe.digest, json.dumps(row).encode(), db=databases[b"recipes"])


def put_records(
    transaction: Transaction,
    databases: Databases,
    digest: bytes,
    records: dict[ContentKey, bytes],
    replace: bool,
) -> None:
    """Write the records that are new, or all with `replace`, as slabs and index rows."""
    index, slabs = databases[b"index"], databases[b"slabs"]
    fresh = [key for key in records if replace or transaction.get(digest + key, db=index) is None]
    if fresh:
        mark_format(transaction, databases)
    number = next_slab(transaction, slabs, digest)
    slab = bytearray()
    for key in fresh:
        value = records[key]
        if len(key) != KEY_BYTES:
            raise StoreError(f"a content key has {KEY_BYTES} bytes, not {len(key)}; make it with content_key()")
        if slab and len(slab) + len(value) > SLAB_BYTES:
            transaction.put(digest + number.to_bytes(8, "big"), bytes(slab), db=slabs)
            number, slab = number + 1, bytearray()
        transaction.put(digest + key, PLACE.pack(number, len(slab), len(value)), db=index)
        slab += key + value
    if slab:
        transaction.put(digest + number.to_bytes(8, "big"), bytes(slab), db=slabs)


def delete(transaction: Transaction, databases: Databases, *, database: bytes, keys: list[bytes]) -> None:
    """Delete rows of one table."""
    for key in keys:
        transaction.delete(key, db=databases[database])


def slab_sizes(transaction: Transaction, databases: Databases, digest: bytes) -> dict[int, int]:
    """Return the number and the bytes of every slab of a recipe."""
    sizes = {}
    with transaction.cursor(db=databases[b"slabs"]) as cursor:
        found = cursor.set_range(digest)
        while found and bytes(cursor.key()).startswith(digest):
            sizes[int.from_bytes(bytes(cursor.key())[16:], "big")] = len(cursor.value())
            found = cursor.next()
    return sizes


def next_slab(transaction: Transaction, slabs: Any, digest: bytes) -> int:
    """Return the number after the recipe's last slab."""
    with transaction.cursor(db=slabs) as cursor:
        found = cursor.set_range(digest + b"\xff" * 8) and bytes(cursor.key()) > digest + b"\xff" * 8
        found = cursor.prev() if found else cursor.last()
        key = bytes(cursor.key()) if found else b""
    return int.from_bytes(key[16:], "big") + 1 if key.startswith(digest) else 0


# The packages that bring OpenCV; any of them serves.
OPENCV = ("opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless", "opencv-python")


def provenance() -> dict[str, Any]:
    """Versions of what decides pixels and results, read without importing any of it."""
    from importlib import metadata  # slow to import, and only a build comes here

    versions: dict[str, Any] = {"created": time.time_ns(), "python": platform.python_version()}
    for package in ("augcache", "numpy", *OPENCV, "pillow", "numba"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
