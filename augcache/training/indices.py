"""The indices that a dataset takes."""

from __future__ import annotations

import operator
from typing import Any

from augcache.errors import SourceError


def checked_index(index: Any, length: int) -> int:
    """Return an index as a whole number, as it was given.

    Raises
    ------
    IndexError
        If there is no such item, which ends a plain for loop.
    SourceError
        If it is no whole number, such as a slice.
    """
    try:
        number = operator.index(index)
    except TypeError as error:
        raise SourceError(
            f"index {index!r}: give one whole number; of several items, torch.utils.data.Subset(dataset, range(...)) "
            "makes a dataset"
        ) from error
    if not -length <= number < length:
        raise IndexError(f"index {number} of {length} items")
    return number
