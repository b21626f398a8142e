"""Annotation files of COCO's and iNaturalist's form (2017 to 2021): images, categories, annotations."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from augcache.errors import SourceError, SourceWarning
from augcache.paths import is_folder
from augcache.sources.folder import Folder
from augcache.sources.items import BrokenItem, FileItem, Images
from augcache.sources.json_stream import members
from augcache.sources.remote import root_of

_TRIED = 200


class Annotated(Images):
    """The images that an annotation file lists, with the name of their category as label, sorted by name.

    Parameters
    ----------
    root : path-like
        Folder, or the URL of one, that the file's ``file_name`` entries are relative to.
    file : path-like
        JSON with ``images`` (id, file_name), ``categories`` (id, name and other fields such as supercategory or
        kingdom) and ``annotations`` (image_id, category_id).
    keep : sequence of str
        ``"field=value,value"``: only categories whose field is one of the values; of several, all must hold.

    Raises
    ------
    SourceError
        If a file or folder is missing or of another form, or nothing is left to keep.

    Notes
    -----
    An image with several kept categories, as in COCO, has their names as its label, sorted and joined by commas.
    Without `keep`, images without annotations are included, and have no label.

    The classes are the kept categories in the order of their ids, which `category_ids` has, and a target is a place in
    that order: iNaturalist's ``category_id`` itself where all categories are kept, and 0 to 79 for COCO's 1 to 90,
    which torchvision's ``CocoDetection`` gives as they are. Where any image has several, there are neither classes nor
    targets.
    """

    def __init__(self, root: str | os.PathLike[str], file: str | os.PathLike[str], keep: Sequence[str] = ()) -> None:
        self.root, self.file = root_of(root), Path(file)
        if isinstance(self.root, Path) and not is_folder(self.root, SourceError):
            raise SourceError(f"{self.root}: no such folder; give the folder that the images of {self.file} are in")
        # What a bucket holds is asked for once and not for each image.
        there = Folder(root) if isinstance(self.root, str) else ()
        self._there = {item.name: item for item in there if not isinstance(item, BrokenItem)}
        content = _read(self.file)
        kept = keep_categories(content.categories, keep, self.file)
        self.category_ids = tuple(sorted(kept, key=_order))
        names = {identity: str(content.categories[identity].get("name", identity)) for identity in self.category_ids}
        listed = _labelled(content, names, everything=not keep)
        self._listed = sorted(listed, key=lambda entry: os.fsencode(entry.name))
        if not self._listed:
            raise SourceError(f"{self.file}: no image has a category with {' and '.join(keep)}")
        several = sum(entry.several for entry in self._listed)
        self._classes = None if several else tuple(names.values())
        self._check_folder()
        if several:
            warnings.warn(
                f"{self.file}: {several} of {len(self._listed)} images have several categories, so there are no "
                "targets; for training wrap a dataset that has the labels (HashedSaliencyDataset), which then pass "
                "through",
                SourceWarning,
                stacklevel=2,
            )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the categories in the order of `category_ids`; None where an image has several."""
        return self._classes

    def _check_folder(self) -> None:
        # A few are tried first: looking for millions takes a while, and is worth it only before an error.
        step = max(1, len(self._listed) // _TRIED)
        names = (entry.name for entries in (self._listed[::step], self._listed) for entry in entries)
        if not any(map(self._exists, names)):
            raise SourceError(
                f"{self.root}: none of the images of {self.file} is here, such as {self._listed[0].name!r}; "
                "give the folder that these paths start from"
            )

    def _exists(self, name: str) -> bool:
        return is_there(self.root / name) if isinstance(self.root, Path) else name in self._there

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[FileItem]:
        return self.some(lambda _: True)

    def names(self) -> Iterator[str]:
        """Names, without a look at the files."""
        return (entry.name for entry in self._listed)

    def some(self, wanted: Callable[[str], bool]) -> Iterator[FileItem]:
        """Items of the wanted names."""
        for entry in self._listed:
            if wanted(entry.name):
                yield replace(self._item(entry.name, entry.label), target=entry.target if self._classes else None)

    def _item(self, name: str, label: str) -> FileItem:
        if isinstance(self.root, Path):
            return file_item(self.root / name, name, label)
        there = self._there.get(name)
        return (
            FileItem(name, label, path=f"{self.root.rstrip('/')}/{name}")
            if there is None
            else replace(there, label=label)
        )

    def __repr__(self) -> str:
        return f"Annotated({str(self.root)!r}, {str(self.file)!r})"


def file_item(path: Path, name: str, label: str) -> FileItem:
    """Item of a file that a list names; one that is not there is listed, and fails when it is read."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a list may name anything, also what no file system can
        return FileItem(name, label, path=os.path.abspath(path))
    return FileItem(name, label, status.st_size, status.st_mtime_ns, os.path.abspath(path))


def is_there(path: Path) -> bool:
    """Whether something is at a path that a list names; not where that cannot be told."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


@dataclass
class _Content:
    images: dict[Any, str]
    categories: dict[Any, dict[str, Any]]
    pairs: dict[Any, tuple[Any, ...]]  # image id to the ids of its categories


def _read(path: Path) -> _Content:
    content = _Content({}, {}, {})
    try:
        for key, element in members(path):
            if key == "images":
                content.images[element["id"]] = _inside(element["file_name"])
            elif key == "categories":
                content.categories[element["id"]] = element
            elif key == "annotations":
                have = content.pairs.get(element["image_id"], ())
                if element["category_id"] not in have:
                    content.pairs[element["image_id"]] = (*have, element["category_id"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: an entry of {key!r} is not of COCO's or iNaturalist's form ({error!r})") from error
    if not content.images:
        raise SourceError(f"{path}: it lists no images; give an annotation file of COCO's or iNaturalist's form")
    return content


def _inside(name: str) -> str:
    """Refuse a path that leads out of the folder."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith("/") or ".." in parts:
        raise TypeError(f"file_name {name!r} leads out of the folder")
    return "/".join(part for part in parts if part not in ("", "."))


def keep_categories(categories: dict[Any, dict[str, Any]], keep: Sequence[str], path: Path) -> set[Any]:
    """Ids of the categories for which every ``field=value,value`` holds; raises `SourceError` for one that cannot."""
    kept = set(categories)
    for rule in keep:
        field, separator, text = rule.partition("=")
        values = {value.strip() for value in text.split(",")} - {""}
        if not separator or not values:
            raise SourceError(f"--keep {rule}: give FIELD=VALUE,VALUE such as supercategory=Aves,Mammalia")
        known: dict[str, list[Any]] = {}
        for identity, category in categories.items():
            if field in category:
                known.setdefault(str(category[field]), []).append(identity)
        if not known:
            fields = sorted({name for category in categories.values() for name in category})
            raise SourceError(f"{path}: no category has a field {field!r}; they have: {', '.join(fields) or 'nothing'}")
        missing = sorted(values - set(known))
        if missing:
            some = ", ".join(sorted(known)[:30]) + (" ..." if len(known) > 30 else "")
            raise SourceError(f"{path}: no category has {field}={missing[0]}; there are: {some}")
        kept &= {identity for value in values for identity in known[value]}
    return kept


class _Entry(NamedTuple):
    """An image with its label; of several categories it has no target."""

    name: str
    label: str
    target: int | None
    several: bool


def _labelled(content: _Content, names: dict[Any, str], *, everything: bool) -> Iterator[_Entry]:
    place = {identity: number for number, identity in enumerate(names)}
    for image, file_name in content.images.items():
        found = [category for category in content.pairs.get(image, ()) if category in names]
        if found or everything:
            label = ",".join(sorted(names[category] for category in found))
            yield _Entry(file_name, label, place[found[0]] if len(found) == 1 else None, len(found) > 1)


def _order(identity: Any) -> tuple[bool, Any, str]:
    """Sort ids: numbers by value, before texts."""
    number = isinstance(identity, int | float)
    return not number, identity if number else 0, str(identity)
