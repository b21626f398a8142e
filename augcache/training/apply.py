"""How a user's transform is called: with the image, or as Albumentations wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from augcache.errors import RecipeError

Transform = Callable[..., Any]


def is_albumentations(transform: Any) -> bool:
    """Whether a transform is one of Albumentations, which takes ``image=`` and gives a dict."""
    return hasattr(transform, "available_keys") and hasattr(transform, "add_targets")


def check_transform_form(transform: Transform | Sequence[Transform] | None, output: str | None) -> None:
    """Raise `RecipeError` where a transform of Albumentations would get no arrays."""
    for each in transform if isinstance(transform, Sequence) else [transform]:
        if is_albumentations(each) and output not in (None, "array"):
            raise RecipeError(f"a transform of Albumentations takes arrays, not output={output!r}: give output='array'")


def applied(transform: Transform, image: Any) -> Any:
    """Return what a transform makes of an image; of Albumentations' dict, the image."""
    if not is_albumentations(transform):
        return transform(image)
    if not isinstance(image, np.ndarray):
        raise RecipeError(f"a transform of Albumentations takes arrays, not a {type(image).__name__}")
    return transform(image=image)["image"]
