"""`store=` and `recipe=` mean the same in every public call."""

import shutil

import numpy as np
import pytest
from stores import RECIPES, key, record

import augcache
from augcache import (
    CachedImages,
    HashedSaliencyDataset,
    Recipe,
    SaliencyLookup,
    Store,
    StoreError,
    VideoFrames,
    build,
    check_transform,
    compact,
    export,
    merge,
    prune,
    resize,
    verify,
    write_report,
    write_sheet,
)
from augcache.errors import RecipeError
from augcache.storage.choose_recipe import choose

TOY = Recipe("toy:toy")
COPIES = Recipe("resize", width=8, height=8)


def any_fits(_):
    return True


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "s.augcache", "w")
    for recipe in (*RECIPES, COPIES):
        made.put(recipe, key(1), record(1))
    return made


@pytest.mark.parametrize("text", ["resize", "augcache.transforms.resize:resize"])
def test_a_name_means_the_one_recipe_of_that_transform(store, text):
    """The short name and the whole path both do."""
    assert choose(store, text, any_fits, "entries") == COPIES


def test_several_recipes_of_a_name_are_told_apart_by_what_fits_and_never_guessed(store):
    """Two that fit are an error of one line, which lists those two alone."""
    assert choose(store, "toy:toy", lambda each: each == RECIPES[1], "x") == RECIPES[1]
    for fits in (any_fits, lambda _: False):
        with pytest.raises(StoreError, match="several recipes are 'toy:toy'; give a digest: ") as caught:
            choose(store, "toy:toy", fits, "entries")
        digests = [each.digest.hex()[:8] in str(caught.value) for each in (*RECIPES, COPIES)]
        assert digests == [True, True, False]
        assert "\n" not in str(caught.value)


def test_the_start_of_a_digest_still_does_in_either_case(store):
    """Eight hex digits, large or small, and the recipe itself."""
    for choice in (COPIES, COPIES.digest.hex()[:8], COPIES.digest.hex().upper()):
        assert choose(store, choice, any_fits, "entries") == COPIES


def test_a_text_that_is_both_a_name_and_a_digest_is_the_name(store, monkeypatch):
    """A transform may be called 'fade'; its name is what a person means."""
    monkeypatch.setattr(Recipe, "name", property(lambda self: RECIPES[0].digest.hex()[:4] if self == COPIES else "x"))
    assert choose(store, RECIPES[0].digest.hex()[:4], any_fits, "entries") == COPIES


@pytest.mark.parametrize("recipe", ["", "nosuch", "zz\n", "pkg.mod:fn", Recipe("saliencycut")])
def test_what_is_not_there_is_listed(store, recipe):
    """The error says what the store holds, in one line."""
    with pytest.raises(StoreError, match=r"no recipe .*; it holds: ") as caught:
        choose(store, recipe, any_fits, "entries")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", [5, b"toy", ["toy"]])
def test_what_is_no_recipe_at_all_is_named(store, recipe):
    """Neither a recipe nor a text: an error of one line, not a traceback from inside."""
    with pytest.raises(RecipeError, match=r"recipe=.*give a Recipe"):
        choose(store, recipe, any_fits, "entries")


@pytest.fixture
def built(images, tmp_path, monkeypatch):
    """A home folder with a store of saliency, copies and nothing else, and its images beside it."""
    build(images, TOY, workers=0)
    resize(images, COPIES, workers=0)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "images.augcache"


CALLS = {
    "SaliencyLookup": lambda store, out: SaliencyLookup(store, recipe="toy:toy"),
    "HashedSaliencyDataset": lambda store, out: HashedSaliencyDataset(store=store, recipe="toy:toy")[0],
    "CachedImages": lambda store, out: CachedImages(store, "resize")[0],
    "export": lambda store, out: export(store, out, recipe="resize"),
    "write_report": lambda store, out: write_report(store, out / "report.html", recipe="toy:toy"),
    "write_sheet": lambda store, out: write_sheet(store, out / "sheet.png", recipe="toy:toy"),
    "verify": lambda store, out: verify(store, recompute=1),
    "compact": lambda store, out: compact(store),
    "merge from": lambda store, out: merge(out / "other.augcache", [store]),
    "prune": lambda store, out: prune(store, "resize"),
}


@pytest.mark.parametrize("form", ["path", "text", "home", "store", "writing"])
@pytest.mark.parametrize("call", CALLS)
def test_a_store_is_a_path_or_a_store_everywhere(built, tmp_path, call, form):
    """Text, path, a path with ~, and a Store opened for reading or writing all do, with the name of a recipe."""
    given = {"path": built, "text": str(built), "home": "~/images.augcache", "store": Store(built)}
    (tmp_path / "out").mkdir()
    CALLS[call](given.get(form) or Store(built, "w"), tmp_path / "out")


@pytest.mark.parametrize("store", [None, 5, b"x", ""])
@pytest.mark.parametrize("call", sorted(CALLS))
def test_what_is_no_store_is_one_line_everywhere(tmp_path, call, store):
    """Nothing else is taken for a store, and nothing is made."""
    with pytest.raises(augcache.AugcacheError) as caught:
        CALLS[call](store, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_merge_takes_stores_of_every_form(built, tmp_path):
    """A Store opened for reading may be merged into; one path in place of the list is an error."""
    into = Store(Store(tmp_path / "into.augcache", "w").path)
    assert merge(into, [Store(built), "~/images.augcache"]).copied == len(Store(built))
    with pytest.raises(StoreError, match="give a list"):
        merge(into, str(built))
    with pytest.raises(StoreError, match="into itself"):
        merge("~/images.augcache", [built])


def test_frames_are_found_by_name(tmp_path):
    """VideoFrames takes the name as the others do; a store without frames says what it holds."""
    store = Store(tmp_path / "s.augcache", "w")
    store.put(COPIES, key(1), {"image": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(StoreError, match=r"no recipe 'frame'; it holds: .*resize"):
        VideoFrames(store, recipe="frame")


def test_no_home_is_needed_where_no_home_is_named(built, monkeypatch):
    """Somebody without a home folder, and a name that is nobody's, get the usual error."""
    monkeypatch.setenv("AUGCACHE_STORE", "~/images.augcache")
    assert HashedSaliencyDataset(built.parent / "images")[0]
    for path in ("~nobody-of-that-name/s.augcache", "~\0/s.augcache"):
        with pytest.raises(StoreError):
            Store(path)


def test_sources_and_folders_may_begin_at_home(built, tmp_path):
    """The originals are found there as well, by datasets and by upkeep."""
    assert HashedSaliencyDataset("~/images", p=0, recipe="toy:toy")[0]
    moved = shutil.move(tmp_path / "images", tmp_path / "moved")
    assert not verify(built, sources=True, source="~/moved").problems
    assert moved.exists()


def test_a_transform_is_checked_by_its_name():
    """check_transform takes the name where the defaults are meant."""
    check_transform("resize")


def test_the_command_line_takes_a_name_too(built, run_cli):
    """--recipe is a name or a digest there as well."""
    assert run_cli("prune", built, "--recipe", "resize").returncode == 0
    assert Store(built).recipes() == [TOY]
