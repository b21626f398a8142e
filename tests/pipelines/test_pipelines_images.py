"""What the pipelines of resized copies make of a download, before anything trains on it."""

import json

import pytest
import torch
from conftest import REPOSITORY

from augcache import CachedImages

pytestmark = pytest.mark.usefixtures("pipelines")


@pytest.fixture
def pipelines(monkeypatch):
    """Import scripts as they import each other."""
    for name in ("lightly", "timm", "sklearn", "transformers"):
        pytest.importorskip(name, reason="pipelines need the extra: pip install 'augcache[train]'")
    monkeypatch.syspath_prepend(REPOSITORY / "pipelines")


def test_animals_of_both_forms(tmp_path):
    """Plants are left out, in the 2017 form and the 2021 form alike; classes are species."""
    import inat64

    folder = inat64.make_sample(tmp_path / "inat")
    content = json.loads((folder / "train.json").read_text())
    for category in content["categories"]:
        category["supercategory"] = {"Animalia": "Mammalia"}.get(category.pop("kingdom"), "Plantae")
    (folder / "train2017.json").write_text(json.dumps(content))
    for name in ("train", "train2017"):
        store = inat64.make_store(folder, folder / f"{name}.json", tmp_path / f"{name}.augcache", workers=0)
        copies = CachedImages(store, output="tensor")
        assert copies.classes == ["astronaut", "chelsea"]
        assert copies.targets == [0] * 6 + [1] * 6
        assert (copies[0][0].shape, copies[0][0].dtype) == ((3, 64, 64), torch.uint8)


def test_one_hot_trimaps(tmp_path):
    """Images and three layers of 128x128, each pixel in one layer, with the two splits apart."""
    import pets128

    folder, names = pets128.make_sample(tmp_path / "pets"), []
    for split in ("trainval", "test"):
        store = pets128.make_store(folder, split, tmp_path / "pets.augcache", workers=0)
        copies = CachedImages(store, pets128.RECIPE, output="tensor", target="both")
        images, trimaps, breeds = pets128.collate([copies[index] for index in range(len(copies))])
        assert (images.shape[1:], images.dtype) == ((3, 128, 128), torch.uint8)
        assert trimaps.shape == images.shape
        assert torch.equal(trimaps.sum(1), torch.ones(len(images), 128, 128))
        assert trimaps[:, 0, 64, 64].all()  # the middle is pet
        assert trimaps[:, 1, 0, 0].all()  # the corner is background
        assert [copies.classes[breed] for breed in breeds] == [name.rpartition("_")[0] for name in copies.names]
        names.append(set(copies.names))
    assert len(names[0] | names[1]) == 12
    assert not names[0] & names[1]


def test_a_perfect_segmenter(tmp_path):
    """Intersection over union is 1 where all pixels are right, and below where the border is missed."""
    import pets128

    folder = pets128.make_sample(tmp_path / "pets")
    store = pets128.make_store(folder, "test", tmp_path / "pets.augcache", workers=0)
    copies = CachedImages(store, pets128.RECIPE, output="tensor", target="both")
    batch = pets128.collate([copies[index] for index in range(len(copies))])

    class Right(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, _):
            return batch[1] * self.layers

    right = Right()
    assert pets128.intersection_over_union(right, [batch]).tolist() == [1, 1, 1]
    right.layers.data[2] = -1.0
    missed = pets128.intersection_over_union(right, [batch])
    assert missed[2] == 0
    assert missed[0] < 1
    assert missed[1] == 1
