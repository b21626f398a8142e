"""A store against its originals: which files changed, and do entries come out the same when computed anew."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from augcache.building.copies import copier
from augcache.errors import AugcacheError, RecipeError, SourceError
from augcache.images.decode import MAX_PIXELS
from augcache.images.keys import ContentKey, content_key
from augcache.paths import home_expanded, is_folder
from augcache.pseudo_labels import is_pseudo_label
from augcache.recipe import Recipe, import_path, is_installed
from augcache.records import codec
from augcache.sources import BrokenItem, FileItem, Folder, open_regular
from augcache.storage import entries
from augcache.storage.manifest import DECODED, Source
from augcache.storage.store import Store
from augcache.storage.store_path import source_folder
from augcache.training.listing import is_unchanged

Row = tuple[bytes, Source]  # prefix and row of the manifest

SAME, DIFFERENT = "same", "different"
CHANGED, VANISHED, NEW, UNREADABLE = "changed", "vanished", "new", "unreadable"
SWAPPED = "swapped"  # changed, and of the same size and time as before


def originals_folder(store: Path, source: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the originals: `source`, or the store's name without its suffix; raises `SourceError`."""
    folder = source_folder(store) if source is None else Path(home_expanded(source))
    if folder is None or not is_folder(folder, SourceError):
        raise SourceError(f"{folder or store}: the folder of the originals is not there; give it with --source")
    return folder


def recompute(store: Store, rows: Iterable[Row], folder: Path, recipes: Iterable[Recipe]) -> Iterator[tuple[str, str]]:
    """Compute entries anew in random order, and compare every byte of every array.

    Parameters
    ----------
    store : Store
        Where the entries are.
    rows : iterable of (prefix, Source)
        Manifest rows to choose from.
    folder : Path
        Where the sources are. Those that changed or vanished are passed over, and so are video frames.
    recipes : iterable of Recipe
        Those that may be run. What a recipe names is imported, so a store alone must not choose them.

    Yields
    ------
    name, outcome : str
        Name of the source, and `SAME`, `DIFFERENT`, or why its recipe cannot be run; once for each such recipe.
    """
    candidates = list(_candidates({recipe.digest: recipe for recipe in recipes}, rows))
    broken: set[bytes] = set()
    for index in np.random.default_rng().permutation(len(candidates)):
        recipe, row = candidates[index]
        stored, item = store.get_bytes(recipe.digest, row.key), file_of(folder, row.name)
        if recipe.digest in broken or stored is None or item is None or not is_unchanged(item, row):
            continue
        try:
            fresh = _compute(recipe, row.key, item)
            if fresh is not None:
                yield row.name, SAME if entries.same(fresh, stored) else DIFFERENT
        except SourceError:
            continue  # a file that cannot be read any more tells nothing about the entry
        except AugcacheError as error:
            broken.add(recipe.digest)
            yield row.name, str(error)


def _candidates(recipes: dict[bytes, Recipe], rows: Iterable[Row]) -> Iterator[tuple[Recipe, Source]]:
    # Of the recipes that key by their own pixels, copies alone can be made from one file.
    copies = {digest for digest, recipe in recipes.items() if _makes_copies(recipe)}
    for prefix, row in rows:
        if not row.mtime_ns or row.frame is not None:
            continue
        for digest in recipes if prefix == DECODED else [prefix]:
            recipe = recipes.get(digest)
            if recipe is not None and not is_pseudo_label(recipe) and (prefix != DECODED) == (digest in copies):
                yield recipe, row


def _makes_copies(recipe: Recipe) -> bool:
    try:
        return recipe.kind == "image"
    except RecipeError:
        return False  # it cannot be imported, which is said when an entry is computed


def trusted(recipe: Recipe, named: Iterable[str]) -> bool:
    """Whether a recipe of a store may be run: it is an installed one, or its transform is among those named."""
    return is_pseudo_label(recipe) or is_installed(recipe.transform) or recipe.transform in map(import_path, named)


def _compute(recipe: Recipe, key: ContentKey, item: FileItem) -> bytes | None:
    """Encode an item's record; None where its pixels have another key."""
    if recipe.kind == "image":
        return copier(recipe, 9)(item, MAX_PIXELS).records.get(key)
    views = item.load()
    pixels = next((pixels for pixels in (views.seen, views.plain) if content_key(pixels) == key), None)
    if pixels is None:
        return None
    compute = recipe.bind()
    try:
        return codec.encode(compute(pixels))
    except AugcacheError:
        raise
    except Exception as error:  # a user's transform may raise anything
        raise RecipeError(f"the transform raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def compare(store: Store, rows: Iterable[Row], folder: Path, *, digests: bool = False) -> Iterator[tuple[str, str]]:
    """Compare the files of a folder with the manifest; with `digests`, the bytes of all of them.

    Yields
    ------
    name, outcome : str
        Name of the source, and `SAME`, `CHANGED` (a file whose time alone differs is compared by its bytes),
        `SWAPPED`, `VANISHED`, `NEW`: an image that is neither in the manifest nor among the failures; or `UNREADABLE`.
    """
    known = {row.name: row for _, row in rows if row.mtime_ns}
    for name, row in known.items():
        yield name, _compare_one(folder, row, digests=digests)
    failed = {(failure.name, failure.size, failure.mtime_ns) for failure in store.failures()}
    for item in _images(folder):
        if isinstance(item, BrokenItem):
            yield item.name, UNREADABLE
        elif item.name not in known and (item.name, item.size, item.mtime_ns) not in failed:
            yield item.name, NEW


def _compare_one(folder: Path, row: Source, *, digests: bool) -> str:
    item = file_of(folder, row.name)
    if item is None:
        return VANISHED if _is_gone(folder, row.name) else UNREADABLE
    if item.size != row.size:
        return CHANGED
    same_time = item.mtime_ns == row.mtime_ns
    if same_time and not (digests and any(row.digest)):
        return SAME
    try:
        different = SWAPPED if same_time else CHANGED
        return SAME if _digest(item.path) == row.digest else different
    except (OSError, SourceError):
        return UNREADABLE


def _is_gone(folder: Path, name: str) -> bool:
    """Whether a file is not there, rather than out of reach."""
    try:
        os.stat(folder / name)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return True  # what is there is not what the name stands for


def _digest(path: str) -> bytes:
    hasher = xxhash.xxh3_128()
    with open_regular(path) as file:  # a video may be larger than memory
        while block := file.read(1 << 22):
            hasher.update(block)
    return hasher.digest()


def file_of(folder: Path, name: str) -> FileItem | None:
    """Return the file of a manifest row; None where it is gone, or where the row points out of the folder."""
    if os.path.isabs(name) or ".." in name.split("/") or "\0" in name:
        return None
    try:
        status = os.stat(folder / name)
    except (OSError, ValueError):
        return None
    return FileItem(name, "", status.st_size, status.st_mtime_ns, str(folder / name))


def _images(folder: Path) -> Iterator[FileItem | BrokenItem]:
    try:
        files = Folder(folder)
    except SourceError:
        return  # a folder of videos has no images
    yield from files
