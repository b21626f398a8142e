"""A copy of a data file without its free pages that may take its place while others have it open. Imports lmdb.

The lock file stays when the data file is replaced, and with it the number of the last transaction. By the parity of
that number a process that begins to read takes one of the two states that every file holds, the old one or the new:

- In the old file both have to be the same, since the number goes on with the commits to the new one. So its last
  transaction is one that changes nothing.
- In the new file the number has to lead to the copy, which LMDB makes as transaction 1. So that last transaction has an
  odd number. The next one is written over the other state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lmdb

from augcache.errors import StoreError


def write_same(transaction: lmdb.Transaction, databases: dict[bytes, Any]) -> int:
    """Write what is there already; returns the number of the transaction."""
    meta = databases[b"meta"]
    same: Any = transaction.get(b"format", db=meta)
    transaction.put(b"format", bytes(same), db=meta)
    return transaction.id()


def copy_compacted(env: lmdb.Environment, last: int, aside: Path) -> Path | None:
    """Copy a data file durably, where its last transaction allows the copy to take its place.

    Parameters
    ----------
    env : lmdb.Environment
        The open file; a write transaction of the caller keeps writers out.
    last : int
        Number of its last transaction, by `write_same`.
    aside : Path
        Empty folder for the copy.

    Returns
    -------
    Path or None
        The copy; None where the number does not fit, and another transaction is needed.
    """
    if last % 2 == 0:
        return None
    env.copy(str(aside), compact=True)
    with lmdb.open(str(aside), readonly=True, lock=False, lib_version=0) as copy:
        number = copy.info()["last_txnid"]
    if number != 1:
        raise StoreError(f"{aside}: this lmdb begins a copy with transaction {number}, not 1; install lmdb 3.0")
    data = aside / "data.mdb"
    with open(data, "rb") as file:
        os.fsync(file.fileno())
    return data
