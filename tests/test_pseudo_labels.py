"""Pseudo-labels: whole clusterings under names that tell them apart, found by the images' content."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import write_image

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.errors import MissError, RecipeError
from augcache.pseudo_labels import keys_of, label_recipe, read_labels, weights_digest, write_labels
from augcache.upkeep.merge import merge
from augcache.upkeep.prune import prune
from augcache.upkeep.verify import verify


@pytest.fixture
def store(images):
    return Store(build(images, Recipe("toy:toy"), workers=0).store, "w")


def test_labels_come_back_by_content(images, store, tmp_path):
    """Written in one order and read in another, from copies of the files and from images in memory."""
    dataset = HashedSaliencyDataset(images)
    keys = keys_of(dataset)
    recipe = label_recipe("k-means", keys, clusters=3, seed=0)
    write_labels(store, recipe, keys, np.array([2, 0, 1, 1, 0, 2], np.int32))
    shutil.copytree(images / "b", tmp_path / "copy/b", copy_function=shutil.copyfile)
    copy = keys_of(HashedSaliencyDataset(tmp_path / "copy", store=store))
    assert read_labels(Store(store.path), recipe, copy).tolist() == [1, 0, 2]
    in_memory = [(write_image(tmp_path / "again.png", seed), 7) for seed in (4, 1)]
    assert read_labels(store, recipe, keys_of(in_memory)).tolist() == [1, 1]
    assert keys_of(HashedSaliencyDataset(in_memory, store=store)) == keys_of(in_memory)


def test_another_clustering_is_another_recipe(store, images):
    """Method, parameters, weights and images are all part of the name; the order of images is not."""
    keys = keys_of(HashedSaliencyDataset(images))
    recipe = label_recipe("k-means", keys, model="ab", clusters=3)
    assert recipe == label_recipe("k-means", [*reversed(keys), keys[0]], model="ab", clusters=3)
    others = [
        label_recipe("k-medoids", keys, model="ab", clusters=3),
        label_recipe("k-means", keys[1:], model="ab", clusters=3),
        label_recipe("k-means", keys, model="ac", clusters=3),
        label_recipe("k-means", keys, model="ab", clusters=4),
    ]
    assert len({each.digest for each in [recipe, *others]}) == 5
    write_labels(store, recipe, keys, np.arange(6))
    with pytest.raises(MissError, match="has no pseudo-label of recipe"):
        read_labels(store, others[0], keys)


def test_a_second_run_replaces_all_labels(store, images):
    """Labels of two runs of one method never mix."""
    keys = keys_of(HashedSaliencyDataset(images))
    recipe = label_recipe("k-means", keys)
    write_labels(store, recipe, keys, np.zeros(6, int))
    write_labels(store, recipe, keys, np.arange(6))
    assert read_labels(store, recipe, keys).tolist() == [0, 1, 2, 3, 4, 5]


def test_weights_have_one_digest(tmp_path):
    """The digest is of the numbers: it survives saving, and changes with any of them."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    digest = weights_digest(model.state_dict())
    assert weights_digest(torch.load(tmp_path / "model.pt")) == digest
    with torch.no_grad():
        model[0].bias[0] += 1
    assert weights_digest(model.state_dict()) != digest


def test_upkeep_treats_them_as_all_else(store, images, tmp_path):
    """verify passes, recomputing what can be; merge copies, prune deletes, and a build adds no more work."""
    keys = keys_of(HashedSaliencyDataset(images))
    recipe = label_recipe("k-means", keys, clusters=3)
    write_labels(store, recipe, keys, np.arange(6))
    assert HashedSaliencyDataset(images).lookup.recipe == Recipe("toy:toy")  # no other recipe would fit
    found = verify(store.path, recompute=6, transforms=["toy:toy"])
    assert (found.problems, found.recomputed) == ([], 6)
    merged = tmp_path / "merged.augcache"
    merge(merged, [store.path])
    assert read_labels(Store(merged), recipe, keys).tolist() == list(range(6))
    assert build(images, Recipe("toy:toy"), workers=0).reused == 6
    prune(merged, recipe.digest.hex())
    assert verify(merged).problems == []
    assert len(Store(merged)) == 6


def test_a_build_of_pseudo_labels_says_what_to_do(images, tmp_path):
    """One image does not tell its cluster; each fails with that reason."""
    recipe = label_recipe("k-means", [])
    report = build(images, recipe, tmp_path / "other.augcache", workers=0)
    assert report.failed == 6
    [reason] = {failure.reason for failure in Store(report.store).failures()}
    assert "found over all images: run the method again" in reason


@pytest.mark.parametrize("labels", [np.zeros(6), np.zeros(5, int), np.zeros((6, 1), int)])
def test_what_are_no_labels_is_refused(store, images, labels):
    """One integer for each image."""
    keys = keys_of(HashedSaliencyDataset(images))
    with pytest.raises(RecipeError, match="give one integer for each"):
        write_labels(store, label_recipe("k-means", keys), keys, labels)
    with pytest.raises(RecipeError, match="make one with label_recipe"):
        write_labels(store, Recipe("toy:toy"), keys, labels)


def test_reading_imports_nothing_that_made_them(store, images):
    """A process that reads labels by their recipe in the store has neither torch nor the pipeline."""
    keys = keys_of(HashedSaliencyDataset(images))
    write_labels(store, label_recipe("k-means", keys, clusters=2), keys, np.arange(6))
    code = f"""
import sys
from augcache import Store
store = Store({str(store.path)!r})
[recipe] = [each for each in store.recipes() if each.params.get("method") == "k-means"]
assert recipe.params["parameters"] == {{"clusters": 2}}
assert sorted(int(store.get(recipe, key)["label"]) for key in store.keys(recipe)) == list(range(6))
assert not {{"torch", "sklearn", "augcache.pseudo_labels"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
