"""The store that a caller means: a `Store`, or a path."""

from __future__ import annotations

import os
from typing import Any

from augcache.errors import StoreError
from augcache.storage.store import Store


def open_store(store: Any, mode: str = "r", *, check: bool = False) -> Store:
    """Return the store that the argument ``store=`` of a public call stands for.

    Parameters
    ----------
    store : path-like or Store
        A leading ``~`` of a path is the home folder.
    mode : {"r", "w"}
        As for `Store`. A `Store` that was opened for reading is opened once more where it is to be written.
    check : bool
        As for `Store`, where a path is given.

    Raises
    ------
    StoreError
        If it is neither, or there is no such store.
    """
    if isinstance(store, Store):
        return Store(store.path, "w") if (store.mode, mode) == ("r", "w") else store
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise StoreError(f"store={store!r}: give a path or a Store")
    return Store(store, mode, check=check)


def open_to_change(store: Any) -> Store:
    """Return a store that is there already, opened for writing; none is made."""
    return open_store(open_store(store), "w")
