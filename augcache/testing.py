"""The contract that every transform keeps, as one call; use it in your own tests."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np

from augcache.errors import RecipeError
from augcache.recipe import Recipe, Record
from augcache.records import codec


def check_transform(recipe: Recipe | str, *images: np.ndarray, tiny: bool = True) -> None:
    """Assert that a transform is pure, total and storable.

    Parameters
    ----------
    recipe : Recipe or str
        The transform with the parameters to check; the name of one means its defaults.
    *images : ndarray
        uint8 (H, W, 3) images to try besides the built-in ones.
    tiny : bool
        Whether to try images down to one pixel.

    Raises
    ------
    AssertionError
        That says which promise is broken, and for which image. The promises: a dict of named arrays that a store
        can hold; the same bytes on every call, whatever the memory order of the image; the image unchanged;
        no NaN or infinity; no use of a global random generator; no exception for degenerate images.

    Examples
    --------
    >>> check_transform(Recipe("resize"))  # silence: it keeps every promise
    """
    recipe = Recipe(recipe) if isinstance(recipe, str) else recipe
    if recipe.kind == "frame":
        raise RecipeError(f"{recipe.name} takes videos: check_transform tries images")
    compute = recipe.bind()
    for name, image in [*_degenerate(tiny), *((f"images[{i}]", image) for i, image in enumerate(images))]:
        before, states = image.copy(), _random_states()
        try:
            record = compute(image)
        except Exception as error:
            raise AssertionError(f"{recipe.name} raised {error!r} for {name} {image.shape}") from error
        assert _random_states() == states, f"{recipe.name} used a global random generator for {name}"
        assert np.array_equal(image, before), f"{recipe.name} changed its input {name}"
        stored = _check_record(recipe, record, name)
        locked = np.asfortranarray(image)
        locked.flags.writeable = False
        for variant, again in (
            ("a second call", compute(image)),
            ("a read-only Fortran-ordered copy", compute(locked)),
        ):
            assert codec.encode(again) == stored, f"{recipe.name}: {variant} of {name} gave another record"


def _check_record(recipe: Recipe, record: Record, name: str) -> bytes:
    assert isinstance(record, Mapping), f"{recipe.name} gave {type(record).__name__}, not a dict, for {name}"
    assert record, f"{recipe.name} gave an empty record for {name}"
    for key, array in record.items():
        assert isinstance(array, np.ndarray), f"{recipe.name}: {key!r} of {name} is a {type(array).__name__}, no array"
        if array.dtype.kind == "f":
            assert np.isfinite(array).all(), f"{recipe.name}: {key!r} of {name} holds NaN or infinity"
    data = codec.encode(record)
    back = codec.decode(data)
    for key, array in record.items():
        same = back[key].dtype == array.dtype and np.array_equal(back[key], array)
        assert same, f"{recipe.name}: {key!r} of {name} does not come back from a store as it went in"
    return data


def _degenerate(tiny: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Images that break careless code: flat, tiny, thin, noise, gradient."""
    noise = np.random.default_rng(0)
    yield "black", np.zeros((48, 64, 3), np.uint8)
    yield "white", np.full((48, 64, 3), 255, np.uint8)
    yield "noise", noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    yield "gradient", np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    square = np.full((64, 64, 3), 30, np.uint8)
    square[20:44, 20:44] = (220, 40, 40)
    yield "a red square on grey", square
    for shape in ((1, 1), (1, 2), (2, 1), (3, 3), (1, 100), (100, 1), (7, 300)) if tiny else ():
        yield f"{shape[0]} x {shape[1]} noise", noise.integers(0, 256, (*shape, 3), dtype=np.uint8)


def _random_states() -> tuple[object, ...]:
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)  # asked for with legacy=False
    return random.getstate(), str(state)
