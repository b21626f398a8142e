"""From what a user names to the source of its images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from augcache.errors import SourceError
from augcache.paths import is_folder, is_there
from augcache.sources.annotations import Annotated
from augcache.sources.dataset import MapDataset, is_map_style
from augcache.sources.folder import Folder
from augcache.sources.items import Images
from augcache.sources.list_file import SUFFIXES, ListFile
from augcache.sources.masks import Masked
from augcache.sources.packed import Packed, is_packed
from augcache.sources.remote import root_of
from augcache.sources.stream import Streamed


def open_source(
    source: Any,
    *,
    annotations: str | os.PathLike[str] | None = None,
    keep: Sequence[str] = (),
    split: str | None = None,
    masks: str | os.PathLike[str] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
) -> Images:
    """Return the images of a source.

    Parameters
    ----------
    source : path-like, Images or dataset
        A folder of images, or its URL; a folder of CIFAR-10, CIFAR-100 or STL-10; a list file (.txt, .lst, .csv,
        .tsv); an opened source; a map-style dataset, with ``__len__`` and ``__getitem__``; or an iterable one.
    annotations : path-like, optional
        A file of COCO's or iNaturalist's form, for the folder `source`; see `Annotated`.
    keep : sequence of str
        Rules for its categories, such as ``"supercategory=Aves,Mammalia"``.
    split : str, optional
        Of CIFAR or STL-10: "train" (the default), "test" or "unlabeled".
    masks : path-like, optional
        Folder of label images; see `Masked`.
    image_key, label_key : str, optional
        For a dataset whose items are dicts; see `MapDataset`.

    Raises
    ------
    SourceError
        If there is no such source, or an option does not go with it.
    """
    if keep and annotations is None:
        raise SourceError("--keep chooses categories of an annotation file: give --annotations as well")
    if isinstance(source, Images | str | os.PathLike):
        if image_key is not None or label_key is not None:
            raise SourceError(f"{source}: image_key and label_key are for datasets; leave them out")
        images = _open(source, annotations, keep, split)
    elif annotations is not None:
        raise SourceError("annotations are for a folder; a dataset has labels of its own")
    else:
        images = _dataset(source, image_key, label_key)
    if split is not None and not isinstance(images, Packed):
        raise SourceError(f"{source}: --split is for folders of CIFAR and STL-10")
    return images if masks is None else Masked(images, masks)


def _dataset(dataset: Any, image_key: str | None, label_key: str | None) -> Images:
    stream = not is_map_style(dataset) and hasattr(dataset, "__iter__")
    return (Streamed if stream else MapDataset)(dataset, image_key, label_key)


def _open(
    source: Images | str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None,
    keep: Sequence[str],
    split: str | None,
) -> Images:
    if isinstance(source, Images):
        return source
    path = root_of(source)
    if annotations is not None:
        return Annotated(path, annotations, keep)
    if isinstance(path, str):
        return Folder(path)
    return _local(path, split)


def _local(path: Path, split: str | None) -> Images:
    if is_folder(path, SourceError):
        return Packed(path, split or "train") if is_packed(path) else Folder(path)
    if path.suffix.lower() in SUFFIXES and is_there(path, SourceError):
        return ListFile(path)
    return Folder(path)
