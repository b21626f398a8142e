"""Classes and targets of a map-style dataset, also through torch's Subset and ConcatDataset. Imports torch."""

from __future__ import annotations

from typing import Any

from torch.utils.data import ConcatDataset, Subset

from augcache.errors import SourceError

SHOWN = 5  # class names in an error


def of_dataset(dataset: Any, name: str) -> Any:
    """Return ``classes`` or ``class_to_idx`` of a dataset, or None where it has none.

    Raises
    ------
    SourceError
        If the parts of a ``ConcatDataset`` differ in it: one target would mean several classes.
    """
    if isinstance(dataset, Subset):
        return of_dataset(dataset.dataset, name)
    if not isinstance(dataset, ConcatDataset):
        return getattr(dataset, name, None)
    found = [of_dataset(part, name) for part in dataset.datasets]
    first = _comparable(found[0])
    for number, other in enumerate(found):
        if _comparable(other) != first:
            raise SourceError(
                f"parts 0 and {number} of a ConcatDataset differ in their {name}: {_shown(found[0])} and "
                f"{_shown(other)}; a target must mean the same class in all of them: give them one list of classes"
            )
    return found[0]


def of_items(dataset: Any, name: str) -> Any:
    """Return ``targets`` or ``samples`` of a dataset, one for each item; None where it has none.

    Raises
    ------
    SourceError
        If parts of a ``ConcatDataset`` differ in their classes, or some of them have no such list.
    """
    if isinstance(dataset, Subset):
        whole = _listed(of_items(dataset.dataset, name))
        return None if whole is None else [whole[int(index)] for index in dataset.indices]
    if not isinstance(dataset, ConcatDataset):
        return getattr(dataset, name, None)
    for shared in ("classes", "class_to_idx"):
        of_dataset(dataset, shared)
    found = [_listed(of_items(part, name)) for part in dataset.datasets]
    if all(each is None for each in found):
        return None
    joined = []
    for number, (part, values) in enumerate(zip(dataset.datasets, found, strict=True)):
        if values is None or len(values) != len(part):  # type: ignore[arg-type]  # a part that ConcatDataset took has a length
            raise SourceError(f"part {number} of a ConcatDataset has no {name} for its items, and others have")
        joined += list(values)
    return joined


def _listed(values: Any) -> Any:
    """Give an array or tensor as a list of plain values."""
    return values.tolist() if hasattr(values, "tolist") else values


def _comparable(values: Any) -> Any:
    return list(values) if isinstance(values, list | tuple) else values


def _shown(values: Any) -> str:
    if not values:
        return "none"
    listed = [f"{key!r}: {value!r}" for key, value in values.items()] if isinstance(values, dict) else map(repr, values)
    listed = list(listed)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")
