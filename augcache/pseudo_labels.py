"""Pseudo-labels: one number for each image, found offline by a look at all of them, kept by content key.

They lie in the store beside all else, under a recipe of their own that names the method, its parameters, the model's
weights and the set of images. Another clustering has another recipe, so that labels of two of them never mix. They
are data alone: `augcache info` lists them, `merge` copies them, `prune` deletes them, and reading imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from augcache.errors import CorruptError, MissError, RecipeError
from augcache.images.keys import ContentKey
from augcache.recipe import Recipe, transform
from augcache.records import codec
from augcache.storage.store import Batch, Store
from augcache.training.lookup import key_of


@transform(version=1)
def pseudo_label(
    image: np.ndarray,
    *,
    method: str = "",
    parameters: dict[str, Any] | None = None,
    model: str = "",
    images: str = "",
) -> dict[str, np.ndarray]:
    """Stand for what is found over a whole set of images; raises `RecipeError`, as one image does not tell."""
    del image, parameters, model, images  # parts of the name alone
    raise RecipeError(f"a pseudo-label of {method or 'a method'} is found over all images: run the method again")


def label_recipe(method: str, keys: Iterable[ContentKey], *, model: str = "", **parameters: Any) -> Recipe:
    """Name a set of pseudo-labels.

    Parameters
    ----------
    method : str
        What found them, such as "k-means".
    keys : iterable of ContentKey
        All images that were looked at, in any order.
    model : str
        Digest of the weights that the method looked through; see `weights_digest`.
    **parameters
        All else that the labels depend on, as JSON values: the number of clusters, the seed.

    Returns
    -------
    Recipe
        Equal to another exactly where all of these are.
    """
    digest = xxhash.xxh3_128_hexdigest(b"".join(sorted(set(keys))))
    name = f"{__name__}:{pseudo_label.__name__}"
    return Recipe(name, method=method, parameters=parameters, model=model, images=digest)


def is_pseudo_label(recipe: Recipe) -> bool:
    """Whether a recipe's entries are pseudo-labels, which cannot be computed from single images."""
    return recipe.transform == f"{__name__}:{pseudo_label.__name__}"


def write_labels(store: Store, recipe: Recipe, keys: Sequence[ContentKey], labels: np.ndarray) -> None:
    """Store a label for each image, all in one durable transaction.

    Parameters
    ----------
    store : Store
        Opened with mode "w".
    recipe : Recipe
        Of `label_recipe`.
    keys : sequence of ContentKey
        The images.
    labels : ndarray
        Integers (N,), in their order.

    Raises
    ------
    RecipeError
        If the recipe is of something else, or there is not one integer for each key.
    """
    if not is_pseudo_label(recipe):
        raise RecipeError(f"{recipe.name} is not a recipe of pseudo-labels: make one with label_recipe()")
    if labels.dtype.kind not in "iu" or labels.shape != (len(keys),):
        raise RecipeError(f"labels of {labels.dtype} {labels.shape} for {len(keys)} images: give one integer for each")
    numbers = labels.astype(np.int64)
    records = {key: codec.encode({"label": number}) for key, number in zip(keys, numbers, strict=True)}
    # Labels of one method belong together, so a second run of it replaces all of them.
    store.commit(recipe, Batch(records=records), replace=True)


def read_labels(store: Store, recipe: Recipe, keys: Sequence[ContentKey]) -> np.ndarray:
    """Return the labels of images.

    Parameters
    ----------
    store : Store
        Where they are.
    recipe : Recipe
        Of `label_recipe`, or one of ``store.recipes()``.
    keys : sequence of ContentKey
        The images, in any order.

    Returns
    -------
    ndarray
        int64 (N,), in the order of the keys.

    Raises
    ------
    MissError
        If an image has no label.
    """
    labels = np.empty(len(keys), np.int64)
    for index, record in enumerate(store.get_many(recipe, keys)):
        if record is None:
            raise MissError(
                f"{store.path}: image {index} (key {keys[index].hex()}) has no pseudo-label of recipe "
                f"{recipe.digest.hex()[:8]}: run the method again over all images"
            )
        label = record["label"]
        if label.dtype.kind not in "iu" or label.shape:
            raise CorruptError(f"{store.path}: entry {keys[index].hex()}: its label is not one integer")
        labels[index] = label
    return labels


def keys_of(dataset: Any) -> list[ContentKey]:
    """Content keys of a dataset's images, in its order; see `augcache.training.lookup.key_of`."""
    return [key_of(dataset, index) for index in range(len(dataset))]


def weights_digest(state: Mapping[str, Any]) -> str:
    """Hash a model's weights: xxh3-128 as hex of its ``state_dict()``, the same on every device."""
    hasher = xxhash.xxh3_128()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name].detach().cpu().numpy())
        hasher.update(f"{name}{array.dtype}{array.shape}".encode())
        hasher.update(array.reshape(-1).view(np.uint8))
    return hasher.hexdigest()
