"""The two meta pages of a data file: all that LMDB looks at when it opens one. Layout of LMDB 0.9 (``mdb.c``)."""

from __future__ import annotations

import os

import numpy as np

from augcache.errors import CorruptError, StoreError

INTEGER_KEYS = 8  # flag of a database; the list of free pages has it

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = 8  # page flag
DB = np.dtype([
    ("pad", "u4"), ("flags", "u2"), ("depth", "u2"), ("branches", "u8"), ("leaves", "u8"), ("overflows", "u8"),
    ("entries", "u8"), ("root", "u8"),
])  # fmt: skip  # a table
_META_PAGE = np.dtype([
    ("number", "u8"), ("pad", "u2"), ("flags", "u2"), ("unused", "u4"), ("magic", "u4"), ("version", "u4"),
    ("address", "u8"), ("map_size", "u8"), ("free", DB), ("main", DB), ("last", "u8"), ("transaction", "u8"),
])  # fmt: skip  # a table


def read_meta(path: str) -> tuple[np.void, np.void]:
    """Read and check the two meta pages of a data file, all that LMDB looks at when it opens one.

    Parameters
    ----------
    path : str
        The data file.

    Raises
    ------
    StoreError
        If it is no LMDB file of this kind of machine.
    CorruptError
        If a field is out of bounds.
    """
    try:
        with open(path, "rb") as file:
            first = _meta(file.read(_META_PAGE.itemsize))
            page = int(first["free"]["pad"]) if first is not None else 0
            file.seek(page)
            second = _meta(file.read(_META_PAGE.itemsize))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check its owner") from error
    if first is None or second is None:
        raise StoreError(f"{os.path.dirname(path)}: not an augcache store; give another --store")
    if page not in (4096, 8192, 16384, 32768) or page != second["free"]["pad"]:
        raise damaged(path, f"pages of {page} bytes")
    for slot, meta in enumerate((first, second)):
        transaction = int(meta["transaction"])  # 0 in both where nothing was ever written
        is_its_turn = transaction < 1 << 63 and (transaction & 1 == slot or transaction == 0)
        flags = int(meta["free"]["flags"]), int(meta["main"]["flags"])
        if not is_its_turn or int(meta["number"]) != slot or flags != (INTEGER_KEYS, 0):
            raise damaged(path, f"meta page {slot}")
    return first, second


def missing_bytes(path: str, metas: tuple[np.void, np.void]) -> int:
    """Return how many bytes a data file lacks of the length that its newest state has.

    Not all that is short is damaged: LMDB does not write pages at the end that a transaction both took and gave back.
    """
    newest = max(metas, key=lambda meta: int(meta["transaction"]))
    return max(0, (int(newest["last"]) + 1) * int(newest["free"]["pad"]) - os.path.getsize(path))


def _meta(raw: bytes) -> np.void | None:
    if len(raw) < _META_PAGE.itemsize:
        return None
    meta = np.frombuffer(raw, _META_PAGE)[0]
    sound = meta["flags"] == _META and meta["magic"] == _MAGIC and meta["version"] == _VERSION
    return meta if sound else None


def damaged(path: str, what: str) -> CorruptError:
    """Return the error for a data file whose pages are not sound."""
    return CorruptError(
        f"{os.path.dirname(path)}: the store's pages are damaged ({what}); copy it again, or delete it and rebuild"
    )


def show_one_state(data: str | os.PathLike[str] | int, slot: int, transaction: int) -> None:
    """Make both meta pages of a data file show the state of one, as the state of a transaction and of the one before.

    Parameters
    ----------
    data : path-like or int
        The data file, which nobody writes to, by name or as an open file.
    slot : {0, 1}
        The page whose state it is.
    transaction : int
        Its new number.
    """
    with open(data, "r+b", closefd=not isinstance(data, int)) as file:
        page = int(np.frombuffer(file.read(_META_PAGE.itemsize), _META_PAGE)[0]["free"]["pad"])
        file.seek(slot * page)
        meta = np.frombuffer(file.read(_META_PAGE.itemsize), _META_PAGE).copy()
        for number in (transaction - 1, transaction):  # a number stands on the page of its parity
            meta["number"], meta["transaction"] = number & 1, number
            file.seek((number & 1) * page)
            file.write(meta.tobytes())
        file.flush()
        os.fsync(file.fileno())
