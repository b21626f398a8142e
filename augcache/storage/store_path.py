"""Where a store is: the path that a user means, and what stands in the way there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from augcache.errors import RecipeError, StoreError
from augcache.paths import absolute, home_expanded, is_folder, is_there

SUFFIX = ".augcache"


def store_path(source: str | os.PathLike[str], store: str | os.PathLike[str] | None = None) -> Path:
    """Where the store of `source` is: `store`, else ``$AUGCACHE_STORE``, else ``SOURCE.augcache`` beside it."""
    given = store or os.environ.get("AUGCACHE_STORE")
    if given:
        return Path(home_expanded(given))
    if "://" in str(source) and not str(source).startswith("file://"):
        raise RecipeError(f"{source}: a store is a folder of this machine: give --store")
    folder = Path(absolute(str(source).removeprefix("file://"), StoreError))
    if os.path.isfile(folder / "data.mdb"):
        return Path(source)  # a store of frames or copies takes what is computed from them as well
    if not folder.name:
        raise RecipeError("the store of / needs a name; give --store")
    return folder.with_name(folder.name + SUFFIX)


def source_folder(store: Path) -> Path | None:
    """Return the folder whose store this is by its name, or None where the name does not tell."""
    name = _whole(store).name
    return renamed(store, lambda name: name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None


def renamed(path: Path, rename: Callable[[str], str]) -> Path | None:
    """Return the path with another last name; None where it has none, as ``/``, or would have none."""
    path = _whole(path)
    name = rename(path.name) if path.name else ""
    return path.with_name(name) if name else None


def _whole(path: Path) -> Path:
    return path if path.name not in ("", "..") else Path(absolute(path, StoreError))  # ".", "..", "/"


def is_taken(path: Path) -> bool:
    """Whether a folder is at a path; raises `StoreError` for anything else that is."""
    if is_there(path, StoreError) and not is_folder(path, StoreError):
        raise StoreError(f"{path}: a file, not a store; a store is a folder such as name{SUFFIX}")
    return is_there(path, StoreError)


def check_path(path: Path) -> None:
    """Raise `StoreError` unless there is a store, or what looks like one, at `path`."""
    taken = is_taken(path)
    if is_there(path / "data.mdb", StoreError):
        return
    what = "not an augcache store" if taken else "no store there"
    beside = renamed(path, lambda name: name + SUFFIX)
    if beside is not None and os.path.exists(beside / "data.mdb"):
        raise StoreError(f"{path}: {what}; the store of this folder is {beside}")
    folder = path if taken else source_folder(path)
    if folder is not None and beside is not None and os.path.isdir(folder):  # / can have no store beside it
        raise StoreError(f"{path}: {what}; build the store of {folder} first, as by 'augcache build-saliency {folder}'")
    raise StoreError(f"{path}: {what}; check the path, or build one by 'augcache build-saliency FOLDER --store {path}'")


def check_name(path: Path) -> None:
    """Raise `StoreError` where LMDB cannot open a path whatever is there: not UTF-8, or with a NUL."""
    try:
        os.path.realpath(path).encode()
    except ValueError as error:
        raise StoreError(
            f"{path}: no store can have this path ({error}); rename the folder, or give another"
        ) from error
