"""Stores that an earlier release wrote, by its commands over the samples and one video."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stores import counts

from augcache import CachedImages, HashedSaliencyDataset, Store, VideoFrames, build, compact, extract_frames, resize
from augcache.upkeep.verify import verify


@pytest.fixture
def earlier(shared_data, tmp_path) -> Callable[[str], Path]:
    """Give a copy of one of the stores that can be written to."""

    def copy(name: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        if not (shared_data / "stores" / name).exists():
            pytest.skip("the stores of an earlier release are not in the larger test data")
        for file in ("data.mdb", "checked"):
            shutil.copyfile(shared_data / "stores" / name / file, path / file)
        return path

    return copy


def recipe_of(path: Path, name: str):
    return next(recipe for recipe in Store(path).recipes() if recipe.name == name)


def test_saliency_of_an_earlier_release_trains_without_a_miss(earlier, samples):
    """Every item of the store and of its folder is found, a build over the folder computes nothing."""
    path = earlier("saliency.augcache")
    for dataset in (HashedSaliencyDataset(store=path, output="array"), HashedSaliencyDataset(samples, store=path)):
        images = [np.asarray(dataset[index][0]) for index in range(len(dataset))]
        assert len(images) == 12
        assert dataset.classes == ["objects", "panels", "roofs"]
        assert all(image.ndim == 3 and image.shape[2] == 3 and image.any() for image in images)
    assert counts(build(samples, recipe_of(path, "saliencycut"), path, workers=0)) == (0, 12, 0)
    compact(path)
    assert len(HashedSaliencyDataset(samples, store=path)[11]) == 2
    assert verify(path).problems == []


def test_copies_of_an_earlier_release_are_found_beside_saliency(earlier, samples):
    """Both recipes of one store: four images of saliency, twelve copies of 64x64, nothing computed anew."""
    path = earlier("mixed.augcache")
    assert counts(build(samples, recipe_of(path, "saliencycut"), path, workers=0, limit=4)) == (0, 4, 0)
    assert counts(resize(samples, recipe_of(path, "resize"), path, workers=0)) == (0, 12, 0)
    copies = CachedImages(path, output="array")
    assert [copies[index][0].shape for index in range(len(copies))] == [(64, 64, 3)] * 12
    dataset = HashedSaliencyDataset(store=path)
    assert len([dataset[index] for index in range(len(dataset))]) == 4
    assert verify(path).problems == []


def test_frames_of_an_earlier_release_are_found(earlier, shared_data, tmp_path):
    """Six frames of 64x64, read and not extracted again."""
    path, video = earlier("frames.augcache"), "mdn__interactive-examples__flower.webm"
    frames = VideoFrames(path, output="array")
    assert [frames[index].shape for index in range(len(frames))] == [(64, 64, 3)] * 6
    (tmp_path / "v").mkdir()
    shutil.copy(shared_data / "videos" / video, tmp_path / "v" / video)
    report = extract_frames(tmp_path / "v", recipe_of(path, "frame"), path, workers=0)
    assert (report.computed, report.failed) == (0, 0)
    assert len(Store(path)) == 6
    assert verify(path).problems == []
