"""Which recipe of a store is meant: the one that is named, or the only one that fits; never a guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from augcache.errors import RecipeError, StoreError
from augcache.recipe import Recipe
from augcache.storage.store import Store


def choose(store: Store, recipe: Recipe | str | None, fits: Callable[[Recipe], bool], what: str) -> Recipe:
    """Return the one recipe of a store that is meant.

    Parameters
    ----------
    store : Store
        Where to look.
    recipe : Recipe or str, optional
        The recipe; or a text, which is the name of its transform or the first characters of its digest in hex, and
        in doubt the name. Without it, the only one that fits.
    fits : callable
        Whether a recipe of the store is of the kind that is looked for; decides between several of one name.
    what : str
        What such a recipe gives, for the error.

    Raises
    ------
    StoreError
        If the store holds no such recipe, or none or several that fit; it lists what there is.
    """
    recipes = store.recipes()
    if recipe is not None:
        found = _meant(recipes, recipe)
        if len(found) > 1:
            found = [each for each in found if fits(each)] or found
        if len(found) != 1:
            named = f"{recipe.name} {recipe.digest.hex()[:8]}" if isinstance(recipe, Recipe) else recipe
            if found:
                raise StoreError(f"{store.path}: several recipes are {named!r}; give a digest: {_listing(found)}")
            raise StoreError(f"{store.path}: no recipe {named!r}; it holds: {_listing(recipes)}")
        return found[0]
    fitting = [each for each in recipes if fits(each)]
    if not fitting:
        raise StoreError(
            f"{store.path}: no recipe here gives {what}; it holds: {_listing(recipes)}; build it, or give another store"
        )
    if len(fitting) > 1:
        raise StoreError(f"{store.path}: several recipes would fit; choose one with recipe=: {_listing(fitting)}")
    return fitting[0]


def _meant(recipes: list[Recipe], recipe: Any) -> list[Recipe]:
    """Find the recipes that one stands for, or the name of a transform, or else the start of a digest."""
    if isinstance(recipe, Recipe):
        return [each for each in recipes if each == recipe]
    if not isinstance(recipe, str):
        raise RecipeError(f"recipe={recipe!r}: give a Recipe, the name of a transform, or the start of a digest")
    named = [each for each in recipes if recipe in (each.name, each.transform)]
    return named or [each for each in recipes if recipe and each.digest.hex().startswith(recipe.lower())]


def _listing(recipes: list[Recipe]) -> str:
    return "; ".join(f"{each.digest.hex()[:8]} = {each.name} {each.params_json}" for each in recipes) or "none"
