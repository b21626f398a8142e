import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from augcache import Recipe, transform
from augcache.errors import RecipeError


def test_an_explicit_default_equals_an_omitted_one():
    """Spelling out a default does not recompute a store."""
    assert Recipe("toy:toy", shift=6) == Recipe("toy:toy")
    assert Recipe("toy:toy", shift=6).digest == Recipe("toy:toy").digest


def test_whole_numbers_for_floats_are_the_same_recipe():
    """seconds=1 and seconds=1.0 are one recipe."""
    assert Recipe("toy:slow", seconds=1) == Recipe("toy:slow", seconds=1.0)


@given(st.integers(0, 7), st.text())
def test_other_parameters_give_another_digest(shift, note):
    """Any changed parameter is another recipe."""
    one, other = Recipe("toy:toy", shift=shift, note=note), Recipe("toy:toy")
    assert (one.digest == other.digest) == (shift == 6 and note == "x")


def test_the_digest_never_changes():
    """Stores are keyed by it."""
    assert Recipe("toy:toy").digest.hex() == "ccf9da07977d7ddcba14b569069b27d9"


def test_json_round_trip_imports_nothing():
    """A recipe from a stranger's store is read without importing what it names."""
    text = json.dumps({"transform": "no.such.module:f", "version": 3, "params": {"a": 1}})
    recipe = Recipe.from_json(text)
    assert recipe.version == 3
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(RecipeError, match="no module 'no'"):
        recipe.bind()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"transform": "os:system; x", "version": 1, "params": {}}'])
def test_malformed_json_is_refused(text):
    """What is no recipe is one clear error."""
    with pytest.raises(RecipeError, match="not a recipe"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("nothing", {}, "built in are"),
        ("toy:nothing", {}, "no function 'nothing'"),
        ("json:dumps", {}, "not a transform"),
        ("a b", {}, "give a built-in name"),
        ("toy:toy", {"shfit": 5}, "no parameter 'shfit'; it has: shift, note"),
        ("toy:toy", {"shift": object()}, "JSON"),
        ("toy:toy", {"shift": float("nan")}, "JSON"),
        ("saliencycut", {"method": "nonsense"}, "method"),
    ],
)
def test_mistakes_are_named(name, params, message):
    """A wrong name or parameter fails when the recipe is made, and the message says which."""
    with pytest.raises(RecipeError, match=message):
        Recipe(name, **params)


def test_a_parameter_without_a_default_is_refused():
    """Leaving a parameter out must have one meaning."""
    with pytest.raises(RecipeError, match="needs a default"):

        @transform(version=1)
        def bad(image, *, size):
            return {}


def test_another_version_is_not_bound():
    """A store of an older version is not mixed with results of the installed one."""
    old = Recipe.from_json(json.dumps({"transform": "toy:toy", "version": 9, "params": {}}))
    with pytest.raises(RecipeError, match=r"version 9.*installed is version 1"):
        old.bind()
