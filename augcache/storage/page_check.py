"""Is a data file a sound LMDB file? LMDB itself trusts its pages, and a damaged one can end the process.

lmdb brings a verifier that reads a file without LMDB: headers, the place of every node, the order of the keys, that
each page is used once. Two things that it leaves are done elsewhere: LMDB 0.9.36 and later refuse to write to a page
whose nodes overlap, and `check_searches` compares what a scan finds with what a search finds.
"""

from __future__ import annotations

import os
from typing import Any

import lmdb
from lmdb import verify

from augcache.errors import CorruptError, StoreError


def check_pages(folder: str) -> None:
    """Check all pages of the newest state of a store's data file, without following them through LMDB.

    Parameters
    ----------
    folder : str
        The store; a read transaction must hold this state, or an earlier one, while this runs.

    Raises
    ------
    CorruptError
        If following the pages could lead LMDB astray. What stands in the records is not looked at.
    """
    data = os.path.join(folder, "data.mdb")
    try:
        problems = verify.verify(data, subdir=False)  # type: ignore[no-untyped-call]  # it has no types
    except OSError as error:
        raise StoreError(f"{data}: cannot be read ({error.strerror}); check its owner") from error
    except verify.VerifyError as error:
        raise _damaged(folder, str(error)) from error
    except RecursionError as error:
        raise _damaged(folder, "tables inside tables") from error
    if problems:
        raise _damaged(folder, problems[0])


def check_searches(env: lmdb.Environment, databases: dict[bytes, Any], folder: str) -> None:
    """Check that every key is found by a search for it: the keys of inner pages may be wrong, and the tree sound.

    Parameters
    ----------
    env : lmdb.Environment
        The open file, whose pages are known to be sound.
    databases : dict of bytes to table
        Its tables.
    folder : str
        The store.

    Raises
    ------
    CorruptError
        If a search misses a key.
    """
    for name, database in databases.items():
        with env.begin(db=database, buffers=True) as transaction:
            # Both ways: a cursor does not search for what is on the page where it stands.
            for keys in (transaction.cursor().iternext(values=False), transaction.cursor().iterprev(values=False)):
                search = transaction.cursor()
                if not all(search.set_key(key) for key in keys):
                    raise _damaged(folder, f"a search in the table {name.decode()} misses a key")


def _damaged(folder: str, what: str) -> CorruptError:
    return CorruptError(f"{folder}: the store's pages are damaged ({what}); copy it again, or delete it and rebuild")
