"""Small stores and records, and what is compared of them."""

import numpy as np

from augcache import Recipe, Store
from augcache.images.keys import ContentKey

RECIPES = [Recipe("toy:toy"), Recipe("toy:toy", shift=5)]


def key(number: int) -> ContentKey:
    return ContentKey(number.to_bytes(16, "big"))


def record(number: int) -> dict[str, np.ndarray]:
    return {"x": np.full(number % 50, number, np.int32)}


def counts(report):
    return report.computed, report.reused, report.failed


def contents(store: Store) -> dict:
    found = {}
    for recipe in store.recipes():
        found |= {(recipe.digest, key): store.get_bytes(recipe.digest, key) for key in store.keys(recipe)}
    return found
