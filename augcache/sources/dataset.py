"""Map-style datasets, such as torchvision's: at hand in this process, or made in each worker."""

from __future__ import annotations

import functools
import importlib
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from augcache.errors import SourceError, SourceWarning
from augcache.images.decode import MAX_PIXELS
from augcache.sources.dataset_classes import Taker, class_names
from augcache.sources.items import ArrayItem, Images, Item, Views, views_of
from augcache.user_code import call, not_to_stdout


class MapDataset(Images):
    """The images of a map-style dataset: ``dataset[i]`` is an image, a tuple that starts with one, or a dict.

    Parameters
    ----------
    dataset : object
        With ``__len__`` and ``__getitem__``, such as a torchvision dataset without a transform, or a list of arrays.
    image_key, label_key : str, optional
        Where image and label are in an item that is a dict; by default the one that is called "image", "img" or the
        like, and "label", "labels", "target" or "fine_label".

    Raises
    ------
    SourceError
        If it is no dataset; and, when an item is read, if its image is not to be found.

    Notes
    -----
    The label is a tuple's second element, or the dict's, where that is a name or an integer, which stays as it is. The
    classes are the dataset's own ``classes``, else those of its ``class_to_idx`` or ``features``; those of
    torch's ``Subset`` and ``ConcatDataset`` are those of what they are made of. Labels of another kind (several,
    boxes, measures) are left out, with a warning.
    """

    def __init__(self, dataset: Any, image_key: str | None = None, label_key: str | None = None) -> None:
        _check(dataset)
        self.dataset = dataset
        self._taker = Taker(repr(self), class_names(dataset, label_key), image_key, label_key)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the dataset; its first item is loaded to see whether its labels are numbers of classes."""
        return _classes(self.dataset, self._taker)

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
                image, label, target, _ = self._taker.take(item_at(self.dataset, index))
                yield ArrayItem(name, label, image=image, target=target)

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

    @property
    def classes(self) -> tuple[str, ...] | None:
        """As of `MapDataset`."""
        return _classes(make(self.factory), _taker(self.factory))

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # the process that opened the source says it
            image, label, target, _ = _taker(self.factory).take(item_at(make(self.factory), self.index))
        return replace(views_of(image, max_pixels), label=label, target=target)


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


@functools.lru_cache(maxsize=2)
def _taker(factory: str) -> Taker:
    return Taker(f"dataset {factory!r}", class_names(make(factory)))


def _import(factory: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SourceError(f"dataset {factory!r}: there is no module {error.name!r}; check PYTHONPATH") from error


def _check(dataset: Any) -> None:
    if not is_map_style(dataset):
        raise SourceError(
            f"a {type(dataset).__name__} is no source of images: give a folder, or a dataset with __len__ and "
            "__getitem__ (one that has __iter__ alone is for build() in Python)"
        )


def is_map_style(dataset: Any) -> bool:
    """Whether items can be had by number; torch's streams have a ``__getitem__`` by inheritance alone."""
    stream = any(kind.__name__ == "IterableDataset" for kind in type(dataset).__mro__)
    return not stream and hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


def item_at(dataset: Any, index: int) -> Any:
    """Return an item; raises `SourceError`, whatever the dataset raises."""
    return call(SourceError, "the dataset", operator.getitem, dataset, index)


def _classes(dataset: Any, taker: Taker) -> tuple[str, ...] | None:
    """Class names, where the labels are numbers of classes; the first item shows it."""
    if taker.names is None or not len(dataset):
        return None
    try:
        return taker.names if taker.take(item_at(dataset, 0)).is_single else None
    except SourceError:
        return taker.names  # it is told when the item is read
