"""Images and classes of the items of a dataset; a class is one integer or name, or it is none."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from augcache.errors import SourceError, SourceWarning
from augcache.sources.dataset_items import LABEL_KEYS, image_key, label_key


class Taken(NamedTuple):
    """An item's image, the name of its class and its number; `is_single` is False for labels that are no one class."""

    image: Any
    label: str = ""
    target: int | None = None
    is_single: bool = True


@dataclass
class Taker:
    """Takes images and classes out of the items of a dataset.

    Attributes
    ----------
    what : str
        Names the dataset in a message.
    names : tuple of str or None
        Its class names.
    image_key, label_key : str or None
        Where image and label are in an item that is a dict; None finds the one that has a usual name.
    """

    what: str
    names: tuple[str, ...] | None
    image_key: str | None = None
    label_key: str | None = None
    has_warned: bool = False

    def take(self, item: Any) -> Taken:
        """Return what an item holds: an image, a tuple that starts with one, or a dict; raises `SourceError`."""
        if isinstance(item, Mapping):
            try:
                image = item[image_key(item, self.image_key)]
            except SourceError as error:
                raise SourceError(f"{self.what}: {error}") from error
            return self._taken(_encoded(image), self._label(item))
        if not isinstance(item, tuple | list):
            return Taken(item)
        return self._taken(item[0], item[1] if len(item) > 1 else None)

    def _label(self, item: Mapping[Any, Any]) -> Any:
        try:
            key = label_key(item, self.label_key)
        except SourceError as error:
            if self.label_key is not None:
                raise SourceError(f"{self.what}: {error}") from error
            self._warn("has several labels, and gets no targets: say which by label_key=")
            return None
        return None if key is None else item[key]

    def _taken(self, image: Any, label: Any) -> Taken:
        found = class_of(label, self.names)
        if found is None:
            self._warn(
                f"has labels that are not one integer an image ({type(label).__name__}), and gets no targets; wrap it "
                "for training (HashedSaliencyDataset): its own labels then pass through"
            )
            return Taken(image, is_single=False)
        return Taken(image, *found)

    def _warn(self, text: str) -> None:
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(f"{self.what} {text}", SourceWarning, stacklevel=2)


def _encoded(image: Any) -> Any:
    """Return an image; of one that Hugging Face has not decoded yet, the bytes of its file."""
    data = image.get("bytes") if isinstance(image, Mapping) else None
    return image if data is None else data


def class_of(label: Any, names: tuple[str, ...] | None) -> tuple[str, int | None] | None:
    """Name and number of a class; None where a label is neither, such as a list of boxes, or a measure."""
    if label is None:
        return "", None
    if isinstance(label, bytes):  # as WebDataset has it, not decoded
        label = label.decode("utf-8", "surrogateescape").strip()
        label = int(label) if re.fullmatch(r"-?[0-9]{1,18}", label) else label
    if isinstance(label, str):
        return label, names.index(label) if names is not None and label in names else None
    try:
        number = operator.index(label)
    except (TypeError, ValueError):
        return None
    if np.ndim(label):
        return None  # a tensor with a single element, of as many as there are labels
    return names[number] if names is not None and 0 <= number < len(names) else str(number), number


def class_names(dataset: Any, label_key: str | None = None) -> tuple[str, ...] | None:
    """Return the class names of a dataset by number, where it has some; those of a part are those of the whole."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple | np.ndarray) and len(names):
        return tuple(map(str, names))
    numbers = getattr(dataset, "class_to_idx", None)
    if isinstance(numbers, Mapping) and numbers and sorted(numbers.values()) == list(range(len(numbers))):
        return tuple(str(name) for name in sorted(numbers, key=numbers.__getitem__))
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):  # of Hugging Face
        found = [key for key in (LABEL_KEYS if label_key is None else [label_key]) if key in features]
        names = getattr(features[found[0]], "names", None) if len(found) == 1 else None
        return tuple(map(str, names)) if names else None
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]  # torch's ConcatDataset, Subset
    if not isinstance(parts, list | tuple) or any(part is None or part is dataset for part in parts):
        return None
    every = {class_names(part, label_key) for part in parts}
    return every.pop() if len(every) == 1 else None
