"""Which recipe of a store is meant: the one that is named, or the only one that fits; never a guess."""

from __future__ import annotations

from collections.abc import Callable

from augcache.errors import StoreError
from augcache.recipe import Recipe
from augcache.storage.store import Store


def choose(store: Store, recipe: Recipe | str | None, fits: Callable[[Recipe], bool], what: str) -> Recipe:
    """Return the one recipe of a store that is meant.

    Parameters
    ----------
    store : Store
        Where to look.
    recipe : Recipe or str, optional
        The recipe, or the first characters of its digest in hex. Without it, the only one that fits.
    fits : callable
        Whether a recipe of the store is of the kind that is looked for.
    what : str
        What such a recipe gives, for the error.

    Raises
    ------
    StoreError
        If the store holds no such recipe, or none or several that fit; it lists what there is.
    """
    recipes = store.recipes()
    if recipe is not None:
        digest = recipe.digest.hex() if isinstance(recipe, Recipe) else recipe.lower()
        found = [each for each in recipes if digest and each.digest.hex().startswith(digest)]
        if len(found) != 1:
            problem = "no recipe" if not found else "several recipes"
            raise StoreError(f"{store.path}: {problem} {digest!r}; it holds: {_listing(recipes)}")
        return found[0]
    fitting = [each for each in recipes if fits(each)]
    if not fitting:
        raise StoreError(
            f"{store.path}: no recipe here gives {what}; it holds: {_listing(recipes)}; build it, or give another store"
        )
    if len(fitting) > 1:
        raise StoreError(f"{store.path}: several recipes would fit; choose one with recipe=: {_listing(fitting)}")
    return fitting[0]


def _listing(recipes: list[Recipe]) -> str:
    return "; ".join(f"{each.digest.hex()[:8]} = {each.name} {each.params_json}" for each in recipes) or "none"
