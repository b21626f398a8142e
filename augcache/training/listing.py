"""Which images a folder and its store's manifest agree on: names, labels and keys, checked once."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
import xxhash

from augcache.errors import SourceError
from augcache.images.keys import KEY_BYTES, ContentKey
from augcache.recipe import Recipe
from augcache.sources import BrokenItem, FileItem, Folder, read_regular
from augcache.storage.manifest import DECODED, Source
from augcache.storage.store import Store


@dataclass(frozen=True)
class Listing:
    """Images in manifest order.

    Attributes
    ----------
    names : list of str
        Folder-relative paths.
    classes : list of str
        Sorted class names.
    targets : ndarray
        int32 (n,), class index of each image.
    keys : ndarray
        void16 (n,), content key of each. Flat arrays: a forked worker that looks at millions of Python objects copies
        them all, page by page.
    known : ndarray
        bool (n,); False where the image is new or changed since the build: a miss.
    """

    names: list[str]
    classes: list[str]
    targets: np.ndarray
    keys: np.ndarray
    known: np.ndarray

    def key(self, index: int) -> ContentKey | None:
        """Return an image's key, None for a miss."""
        return ContentKey(self.keys[index].tobytes()) if self.known[index] else None


def _listing(names: list[str], labels: list[str], keys: list[ContentKey | None]) -> Listing:
    classes = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    flat = b"".join(key or bytes(KEY_BYTES) for key in keys)
    return Listing(
        names,
        classes,
        np.array([numbers[label] for label in labels], np.int32),
        np.frombuffer(flat, np.dtype((np.void, KEY_BYTES))),
        np.array([key is not None for key in keys], bool),
    )


def from_manifest(store: Store, recipe: Recipe) -> Listing:
    """List what the manifest knows of a recipe's images, without a look at the sources.

    Where none is an image of its own source, its images are frames or copies that the store holds as well.
    """
    rows: list[Source] = []
    for prefix in (DECODED, *(each.digest for each in store.recipes())):
        found = list(store.sources(prefix))
        present = store.has(recipe.digest, [row.key for row in found])
        rows = [row for row, there in zip(found, present, strict=True) if there]
        if rows:
            break
    else:
        raise SourceError(f"{store.path}: its manifest names no image of this recipe; build it from a folder first")
    return _listing([row.name for row in rows], [row.label for row in rows], [row.key for row in rows])


def from_folder(folder: str | os.PathLike[str], store: Store, recipe: Recipe) -> Listing:
    """List the images of a folder with the keys of those that are as they were at the build.

    Files that the build listed as failures, and that have not changed since, are left out with a warning.
    """
    rows = {row.name: row for row in store.sources()}
    failed = {failure.name: (failure.size, failure.mtime_ns) for failure in store.failures(recipe)}
    names: list[str] = []
    labels: list[str] = []
    keys: list[ContentKey | None] = []
    left_out = 0
    for item in Folder(folder):
        if isinstance(item, BrokenItem):  # a dataset with a part of its images would be another dataset
            raise SourceError(f"{folder}: {item.name} {item.reason}")
        row = rows.get(item.name)
        if failed.get(item.name) == (item.size, item.mtime_ns):
            left_out += 1
            continue
        names.append(item.name)
        labels.append(item.label)
        keys.append(row.key if row is not None and is_unchanged(item, row) else None)
    if not any(keys):
        raise SourceError(
            f"{store.path}: it knows none of the images in {folder}; "
            "is it this folder's store? Build it with 'augcache build-saliency'"
        )
    if left_out:
        warnings.warn(
            f"{left_out} images of {folder} are left out: the build could not use them "
            f"(augcache failures {store.path})",
            stacklevel=4,
        )
    return _listing(names, labels, keys)


def is_unchanged(item: FileItem, row: Source) -> bool:
    """Whether a file is as the manifest has it; one whose time alone differs is compared by its bytes."""
    if item.size != row.size:
        return False
    if item.mtime_ns == row.mtime_ns:
        return True
    try:
        return xxhash.xxh3_128_digest(read_regular(item.path)) == row.digest
    except SourceError:
        return False
