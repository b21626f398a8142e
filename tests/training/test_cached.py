import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image
from torch.utils.data import DataLoader

from augcache import CachedImages, HashedSaliencyDataset, Recipe, Store, build
from augcache.building.build import resize
from augcache.errors import MissError, RecipeError, SourceError, StoreError

SMALL = Recipe("resize", width=16, height=12)


@pytest.fixture
def store(images, tmp_path):
    return resize(images, SMALL, tmp_path / "s.augcache", workers=0).store


def test_images_and_labels_come_from_the_store_alone(images, store):
    """Items are in manifest order with ImageFolder's class numbers, and the originals are not needed."""
    expected = [images / name for name in CachedImages(store).names]
    whole = [np.asarray(Image.open(path).resize((16, 12), Image.Resampling.LANCZOS)) for path in expected]
    images.rename(images.with_name("gone"))
    data = CachedImages(store)
    assert (len(data), data.classes, data.targets) == (6, ["a", "b"], [0, 0, 0, 1, 1, 1])
    assert data.names == [f"{name}.png" for name in ("a/0", "a/2", "a/4", "b/1", "b/3", "b/5")]
    for (image, label), target, pixels in zip(data, data.targets, whole, strict=True):
        assert isinstance(image, Image.Image)
        assert label == target
        assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 1
    assert len(list(data)) == 6
    assert data[-1][1] == 1
    with pytest.raises(IndexError, match="index 6 of 6"):
        data[6]


def test_outputs_and_transform(store):
    """PIL image, array and tensor are the same pixels, and may be written to; the transform sees them."""
    image, array, tensor = (CachedImages(store, output=output)[2][0] for output in ("pil", "array", "tensor"))
    assert np.array_equal(np.asarray(image), array)
    assert np.array_equal(array.transpose(2, 0, 1), tensor.numpy())
    assert (array.dtype, tensor.dtype, tensor.is_contiguous()) == (np.uint8, torch.uint8, True)
    array[:], tensor[:] = 0, 0
    assert CachedImages(store, output="array")[2][0].max() > 0
    assert CachedImages(store, transform=lambda image: image.size)[0] == ((16, 12), 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers(store, method):
    """Batches through worker processes, forked or spawned, are what indexing gives."""
    data = CachedImages(store, output="tensor")
    data[0]  # an environment that is open when the workers start
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=method)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert labels.tolist() == data.targets
    assert torch.equal(images, torch.stack([image for image, _ in data]))


def test_pickles_small(store):
    """What travels to a worker is a path and the keys."""
    data = CachedImages(store)
    again = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 2500
    assert (again.targets, again.classes) == (data.targets, data.classes)
    assert np.array_equal(np.asarray(again[3][0]), np.asarray(data[3][0]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(len, [data]) == [6]


@pytest.mark.parametrize("stored", ["webp", "jpeg"])
def test_encoded_copies(images, tmp_path, stored):
    """Copies that are stored as WebP or JPEG come back as pixels too."""
    recipe = Recipe("resize", width=16, height=12, stored=stored)
    resize(images, SMALL, tmp_path / "s.augcache", workers=0)
    store = resize(images, recipe, tmp_path / "s.augcache", workers=0).store
    raw, encoded = (CachedImages(store, each, output="array") for each in (SMALL, recipe))
    assert raw.names == encoded.names
    assert np.abs(raw[1][0].astype(int) - encoded[1][0]).mean() < (1e-9 if stored == "webp" else 6)


def test_which_copies_is_never_guessed(images, store):
    """With two sizes in a store one must be named; with none, the message says what there is."""
    other = Recipe("resize", width=8, height=8)
    resize(images, other, store, workers=0)
    with pytest.raises(StoreError, match="several recipes would fit"):
        CachedImages(store)
    assert CachedImages(store, other)[0][0].size == (8, 8)
    assert CachedImages(store, SMALL.digest.hex()[:6])[0][0].size == (16, 12)
    build(images, Recipe("toy:toy"), images.with_name("t.augcache"), workers=0)
    with pytest.raises(StoreError, match=r"no recipe here gives resized copies; it holds: .*toy"):
        CachedImages(images.with_name("t.augcache"))
    for wrong in ({"output": "jpeg"}, {"target": "box"}):
        with pytest.raises(RecipeError, match="give one of"):
            CachedImages(store, **wrong)
    with pytest.raises(SourceError, match="no masks"):
        CachedImages(store, SMALL, target="mask")


def test_a_store_that_is_being_written_can_be_read(images, store):
    """A dataset keeps the items it opened with while images are added, and a new one sees them."""
    data = CachedImages(store)
    write_image(images / "c/9.png", 9)
    resize(images, SMALL, store, workers=0)
    assert (len(data), len(list(data))) == (6, 6)
    assert CachedImages(store).classes == ["a", "b", "c"]


def test_saliency_of_the_copies(store):
    """Copies are found by their pixels: what is computed from them is looked up for them."""
    copies, toy = CachedImages(store), Recipe("toy:toy")
    build(copies, toy, store, workers=0)
    data = HashedSaliencyDataset(copies, store=store, recipe=toy, view="cut")
    image, label = data[4]
    assert (image.size, label, data.classes) == ((16, 12), 1, ["a", "b"])
    red = np.asarray(copies[4][0])[..., 0]
    assert np.array_equal(np.asarray(image)[..., 0] > 0, red >> 6 > 2)
    images, _ = next(iter(DataLoader(HashedSaliencyDataset(CachedImages(store, output="tensor"), store=store), 6)))
    assert images.shape == (6, 3, 12, 16)


def test_a_missing_record_is_named(images, tmp_path):
    """An image that is not in the saliency store is an error that says so."""
    store = resize(images, SMALL, tmp_path / "s.augcache", workers=0).store
    build(CachedImages(store), Recipe("toy:toy"), store, workers=0, limit=3)
    data = HashedSaliencyDataset(CachedImages(store), store=Store(store))
    with pytest.raises(MissError, match="item 5"):
        data[5]
