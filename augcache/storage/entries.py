"""Walks over all entries of a store, in the order in which they lie in the file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from augcache.errors import AugcacheError, CorruptError
from augcache.images.keys import KEY_BYTES, ContentKey
from augcache.records import codec
from augcache.storage.environment import Transaction
from augcache.storage.store import Store
from augcache.storage.tables import PLACE, Databases, fetch

BATCH_BYTES = 1 << 24
BATCH_ENTRIES = 4096

_ROW = np.dtype([("key", f"V{KEY_BYTES}"), ("slab", "<u8"), ("offset", "<u4"), ("length", "<u4")])


def rows(store: Store, digest: bytes) -> tuple[np.ndarray, list[bytes]]:
    """Return a recipe's index rows in the order of their records in the file, and keys of rows that are malformed.

    Parameters
    ----------
    store : Store
        Where to look.
    digest : bytes
        The recipe's.

    Returns
    -------
    rows : ndarray
        Structured (N,): `key` (16 bytes), `slab`, `offset`, `length`; 32 bytes a row.
    malformed : list of bytes
    """
    good, malformed = bytearray(), []
    for key, place in store.scan(b"index", digest):
        if len(key) == 2 * KEY_BYTES and len(place) == PLACE.size:
            good += key[KEY_BYTES:] + place
        else:
            malformed.append(key[KEY_BYTES:])
    found = np.frombuffer(bytes(good), _ROW)
    return found[np.lexsort((found["offset"], found["slab"]))], malformed


def batches(found: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into pieces of at most `BATCH_ENTRIES` rows and about `BATCH_BYTES` bytes."""
    start = 0
    while start < len(found):
        piece = found[start : start + BATCH_ENTRIES]
        ends = np.cumsum(piece["length"].astype(np.int64))
        count = max(1, int(np.searchsorted(ends, BATCH_BYTES)))
        yield piece[:count]
        start += count


def read(store: Store, digest: bytes, piece: np.ndarray) -> list[tuple[ContentKey, bytes | CorruptError | None]]:
    """Read the records of some rows in one transaction; None for one that is gone."""
    keys = [ContentKey(key.tobytes()) for key in piece["key"]]
    return store.read(partial(_read, digest=digest, keys=keys, store=store))


def _read(
    transaction: Transaction, databases: Databases, *, digest: bytes, keys: list[ContentKey], store: Store
) -> list[tuple[ContentKey, bytes | CorruptError | None]]:
    found: list[tuple[ContentKey, bytes | CorruptError | None]] = []
    for key in keys:
        try:
            found.append((key, fetch(transaction, databases, digest, key, store.path)))
        except CorruptError as error:
            found.append((key, error))
    return found


def is_sound(data: bytes | CorruptError) -> bool:
    """Whether a stored record is what was written, and every array in it decodes."""
    if isinstance(data, CorruptError):
        return False
    try:
        codec.decode(data).check()
    except AugcacheError:
        return False
    return True


def same(first: bytes, second: bytes) -> bool:
    """Whether two encoded records hold the same arrays, byte for byte, however they are compressed."""
    if first == second:
        return True
    one, other = codec.decode(first), codec.decode(second)
    return set(one) == set(other) and all(
        (one[name].dtype, one[name].shape) == (other[name].dtype, other[name].shape)
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )
