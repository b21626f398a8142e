"""Which column of a list is the class of its images, if any is: one name or integer, never a guess."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What a first line begins with that names columns. Such a word is no image.
_PATHS = frozenset([
    "path", "paths", "file", "files", "filename", "filenames", "filepath", "image", "images", "img", "imageid",
    "imagename", "imagepath", "imagefile", "imgid", "imgname", "imgpath", "imgfile",
])  # fmt: skip  # a list of names
_LABELS = frozenset([
    "label", "class", "target", "category", "labelid", "classid", "targetid", "categoryid", "labelname", "classname",
    "categoryname", "labelidx", "classidx", "y",
])  # fmt: skip  # a list of names
_LISTS = frozenset(["labels", "classes", "targets", "categories", "tags", "attributes", "genres"])
_BITS = frozenset(["0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false", ""])


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names columns."""
    return bool(cells) and _plain(cells[0]) in _PATHS


def label_column(header: Sequence[str]) -> int | None:
    """Column of the class: the one that is called so, or the second of two; None where it cannot be told."""
    named = [number for number, name in enumerate(header) if number and _plain(name) in _LABELS]
    if named:
        return named[0] if len(named) == 1 or named[0] == 1 else None
    return 1 if len(header) <= 2 else None


def why_not_one(labels: Iterable[str], header: Sequence[str], *, bits: bool) -> str:
    """Say why labels are not one class for each image; empty where they are.

    Parameters
    ----------
    labels : iterable of str
        All that there are.
    header : sequence of str
        The first line, where it names columns.
    bits : bool
        Whether all columns, of two and more, are 0 or 1 in every line.
    """
    given = {label for label in labels if label}
    named = bool(header) and any(_plain(name) in _LABELS for name in header)
    if bits and not named:
        return "its columns are 0 or 1, so that an image may have several classes"
    if header and label_column(header) is None:
        return "which of its columns is the class cannot be told by their names"
    several = "[|;]" if not any(_plain(name) in _LISTS for name in header) else "[|;, ]"
    if any(re.search(several, label) or re.fullmatch(r"[0-9]+([ ,][0-9]+)+", label) for label in given):
        return "an image has several labels"
    if given and all(map(_is_number, given)) and not all(map(is_integer, given)):
        return "its labels are measures, not classes"
    return ""


def is_integer(text: str) -> bool:
    """Whether a label is an integer, of 18 digits at most."""
    return re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None


def is_bits(cells: Sequence[str]) -> bool:
    """Whether all cells are 0 or 1."""
    return all(cell.strip().lower() in _BITS for cell in cells)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?nan|[+-]?inf", text) is not None


def _plain(name: str) -> str:
    """Return a column's name without case, spaces and lines."""
    return re.sub(r"[\s_\-]", "", name).lower()
