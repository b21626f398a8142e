"""Where image and label lie in an item of a dataset: the item itself, a tuple's elements, or values of a mapping."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any

from augcache.errors import SourceError
from augcache.text import printable

LONGEST = 200  # characters of the keys in an error
IMAGE_KEYS = ("image", "img", "pixel_values")
FORMAT_KEYS = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff")  # as WebDataset names an image
LABEL_KEYS = ("label", "labels", "target", "targets", "fine_label", "cls")


def image_key(item: Any, wanted: Any = None) -> Any:
    """Return what to index an item with for its image.

    Parameters
    ----------
    item : object
        An image, a tuple or list that starts with one, or a mapping, such as a dict or a row of Hugging Face datasets.
    wanted : object, optional
        A mapping's key of the image. Without it, the only one of `IMAGE_KEYS` and `FORMAT_KEYS` that it has.

    Returns
    -------
    object
        None where the item is the image, 0 for a tuple or list, a mapping's key.

    Raises
    ------
    SourceError
        If a mapping has no such key, or several could be meant; it lists what there is.
    """
    if not isinstance(item, tuple) and isinstance(item, Mapping):  # in this order: the second costs more
        found = _found(item, wanted, (*IMAGE_KEYS, *FORMAT_KEYS))
        if len(found) != 1:
            raise SourceError(_problem("image", item, wanted, found, IMAGE_KEYS))
        return found[0]
    _refuse("image", item, wanted)
    return 0 if isinstance(item, tuple | list) else None


def label_key(item: Any, wanted: Any = None) -> Any:
    """Return what to index an item with for its label; None where it has none.

    Parameters
    ----------
    item : object
        As for `image_key`.
    wanted : object, optional
        A mapping's key of the label. Without it, the only one of `LABEL_KEYS` that it has.

    Raises
    ------
    SourceError
        If a mapping lacks the wanted key, or several could be meant; it lists what there is.
    """
    if isinstance(item, Mapping):
        found = _found(item, wanted, LABEL_KEYS)
        if len(found) > 1 or (wanted is not None and not found):
            raise SourceError(_problem("label", item, wanted, found, LABEL_KEYS))
        return found[0] if found else None
    _refuse("label", item, wanted)
    return 1 if isinstance(item, tuple | list) and len(item) > 1 else None


def value_at(item: Any, key: Any) -> Any:
    """Return what a key of `image_key` stands for."""
    return item if key is None else item[key]


def replaced(item: Any, key: Any, value: Any) -> Any:
    """Copy of an item with another value at a key of `image_key`; the item itself is left as it is.

    Dicts, tuples, lists and named tuples keep their type; any other mapping becomes a dict.
    """
    if key is None:
        return value
    if isinstance(item, Mapping):
        copied: Any = copy.copy(item) if isinstance(item, dict | UserDict) else dict(item)
        copied[key] = value
        return copied
    if hasattr(item, "_replace"):  # a named tuple
        return item._replace(**{item._fields[key]: value})
    return type(item)([*item[:key], value, *item[key + 1 :]])


def _found(item: Mapping[Any, Any], wanted: Any, usual: Iterable[str]) -> list[Any]:
    return [key for key in (usual if wanted is None else (wanted,)) if key in item]


def _problem(what: str, item: Mapping[Any, Any], wanted: Any, found: list[Any], usual: Iterable[str]) -> str:
    keys = printable(", ".join(map(repr, item))[:LONGEST]) or "no keys"
    if wanted is not None:
        return f"the item is a dict without {wanted!r}, which {what}_key= names; it has: {keys}"
    if found:
        return f"the item is a dict with {' and '.join(map(repr, found))}: say which with {what}_key=; it has: {keys}"
    return f"the item is a dict without {_either(usual)}: name its {what} with {what}_key=; it has: {keys}"


def _either(names: Iterable[str]) -> str:
    *rest, last = map(repr, names)
    return f"{', '.join(rest)} or {last}"


def _refuse(what: str, item: Any, wanted: Any) -> None:
    if wanted is not None:
        raise SourceError(f"{what}_key={wanted!r} is for items that are dicts; this one is a {type(item).__name__}")
