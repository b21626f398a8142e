"""Map-style datasets, such as torchvision's: at hand in this process, or made in each worker."""

from __future__ import annotations

import functools
import importlib
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from augcache.errors import SourceError
from augcache.images.decode import MAX_PIXELS, as_pixels
from augcache.sources.items import ArrayItem, Images, Item, Views, check_size
from augcache.user_code import call, not_to_stdout


class MapDataset(Images):
    """The images of a map-style dataset: ``dataset[i]`` is an image, or a tuple that starts with one.

    Parameters
    ----------
    dataset : object
        With ``__len__`` and ``__getitem__``, such as a torchvision dataset without a transform, or a list of arrays.

    Notes
    -----
    The label is a tuple's second element where that is a string, or a number, which ``dataset.classes`` names.
    """

    def __init__(self, dataset: Any) -> None:
        _check(dataset)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Item]:
        return self.some(lambda _: True)

    def names(self) -> Iterator[str]:
        """Names; no image is loaded."""
        return (f"{index:09d}" for index in range(len(self.dataset)))

    def some(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        """Items of the wanted names; no other is loaded."""
        for index, name in enumerate(self.names()):
            if wanted(name):
                image, label = image_and_label(self.dataset, index)
                yield ArrayItem(name, label, image=image)

    def __repr__(self) -> str:
        return f"MapDataset({type(self.dataset).__name__})"


class MadeDataset(Images):
    """The images of a dataset that a function makes, here for its length and in each worker for its images.

    Parameters
    ----------
    factory : str
        ``"package.module:function"``; called without arguments.

    Raises
    ------
    SourceError
        If there is no such function, or it makes no dataset.
    """

    def __init__(self, factory: str) -> None:
        self.factory = factory
        self._length = len(make(factory))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        for index in range(self._length):
            yield MadeItem(f"{index:09d}", factory=self.factory, index=index)

    def __repr__(self) -> str:
        return f"MadeDataset({self.factory!r})"


@dataclass(frozen=True, slots=True)
class MadeItem(Item):
    """An image that a worker takes from its own copy of the dataset."""

    factory: str = ""
    index: int = 0

    def load(self, max_pixels: int = MAX_PIXELS) -> Views:
        """Take the pixels."""
        image, label = image_and_label(make(self.factory), self.index)
        pixels = as_pixels(image)
        check_size(pixels, max_pixels)
        return Views(pixels, pixels, bytes(16), label)


@functools.lru_cache(maxsize=2)
def make(factory: str) -> Any:
    """Call a factory, once in a process."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", factory):
        raise SourceError(f"dataset {factory!r}: give package.module:function")
    module, _, name = factory.partition(":")
    try:
        with not_to_stdout():
            function = getattr(call(SourceError, f"dataset {factory!r}: its module", _import, factory, module), name)
    except AttributeError as error:
        raise SourceError(f"dataset {factory!r}: module {module!r} has no {name!r}") from error
    with not_to_stdout():
        dataset = call(SourceError, f"dataset {factory!r}", function)
    _check(dataset)
    return dataset


def _import(factory: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SourceError(f"dataset {factory!r}: there is no module {error.name!r}; check PYTHONPATH") from error


def _check(dataset: Any) -> None:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise SourceError(
            f"a {type(dataset).__name__} is no source of images: give a folder, or a dataset with "
            "__len__ and __getitem__"
        )


def image_and_label(dataset: Any, index: int) -> tuple[Any, str]:
    """Image and class name of an item; the name is empty where there is none."""
    item = call(SourceError, "the dataset", operator.getitem, dataset, index)
    if not isinstance(item, tuple | list):
        return item, ""
    if len(item) < 2:
        return item[0], ""
    label = item[1]
    if isinstance(label, str):
        return item[0], label
    try:
        number = operator.index(label)
    except (TypeError, ValueError):
        return item[0], ""  # boxes, masks, ...
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, list | tuple) and 0 <= number < len(classes)
    return item[0], str(classes[number]) if named and classes is not None else str(number)
