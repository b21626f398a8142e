import os
import pickle
import shutil
import time
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image
from torch.utils.data import DataLoader
from toy import toy

from augcache import HashedSaliencyDataset, Recipe, SaliencyLookup, Store, build
from augcache.errors import MissError, RecipeError, SourceError, StoreError
from augcache.transforms.saliencycut import saliency_map

TOY = Recipe("toy:toy")


def pixels_of(folder, name):
    return np.asarray(Image.open(folder / name).convert("RGB"))


def test_a_folder_gives_views_and_targets_as_image_folder_does(built):
    """Items are (image, class index), sorted, with the stored segments in their mean colours without jitter."""
    dataset = HashedSaliencyDataset(built, jitter=None)
    assert (len(dataset), dataset.classes, dataset.targets) == (6, ["a", "b"], [0, 0, 0, 1, 1, 1])
    image, target = dataset[3]
    record = toy(pixels_of(built, "b/1.png"))
    assert target == 1
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), record["palette"][record["labels"]])


def test_each_view_is_what_its_name_says(built):
    """Saliency is the map in grey, cut a mask, cutout the original on black."""
    image = pixels_of(built, "a/0.png")
    record = toy(image)
    views = {
        "saliency": np.rint(saliency_map(record) * 255).astype(np.uint8)[..., None].repeat(3, axis=2),
        "cut": (record["cut"] * np.uint8(255))[..., None].repeat(3, axis=2),
        "cutout": image * record["cut"][..., None],
    }
    for view, expected in views.items():
        shown, _ = HashedSaliencyDataset(built, view=view, output="array")[0]
        assert np.array_equal(shown, expected), view


def test_with_p_one_no_original_is_read(built):
    """Training on views alone needs the originals neither readable nor intact, only unchanged in size and time."""
    for path in built.rglob("*.png"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(list(HashedSaliencyDataset(built))) == 6


def test_a_store_alone_is_enough(built, tmp_path):
    """With neither folder nor dataset, the store is read in manifest order; the originals may be elsewhere."""
    expected = [np.asarray(image) for image, _ in HashedSaliencyDataset(built, jitter=None)]
    shutil.rmtree(built)
    dataset = HashedSaliencyDataset(store=tmp_path / "images.augcache", jitter=None)
    assert dataset.classes == ["a", "b"]
    assert all(np.array_equal(image, other) for (image, _), other in zip(dataset, expected, strict=True))
    with pytest.raises(SourceError, match="give the folder"):
        HashedSaliencyDataset(store=tmp_path / "images.augcache", view="cutout")[0]


def test_the_same_seed_gives_the_same_colours_and_the_next_epoch_others(built):
    """torch.manual_seed reproduces a run; two epochs differ."""
    loader = DataLoader(HashedSaliencyDataset(built, output="tensor"), batch_size=6, num_workers=2)

    def epoch():
        return next(iter(loader))[0]

    torch.manual_seed(3)
    first, second = epoch(), epoch()
    torch.manual_seed(3)
    assert torch.equal(epoch(), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_right(built, context):
    """A loader with two workers, started either way and kept over epochs, gives what one process gives."""
    dataset = HashedSaliencyDataset(built, jitter=None, output="tensor")
    expected = torch.stack([image for image, _ in dataset])
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=context, persistent_workers=True)
    for _ in range(2):
        assert torch.equal(torch.cat([images for images, _ in loader]), expected)


def test_many_epochs_leak_nothing(built):
    """Workers that come and go every epoch leave neither file descriptors nor processes behind."""
    loader = DataLoader(HashedSaliencyDataset(built, output="tensor"), batch_size=3, num_workers=2)
    next(iter(loader))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(15):
        assert sum(len(images) for images, _ in loader) == 6
    deadline = time.monotonic() + 10  # the threads that feed the last workers' queues close their pipes when they end
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_p_is_the_chance_of_the_view(built):
    """p=0 gives originals, p=0.5 about half views, each item drawn anew."""
    original = HashedSaliencyDataset(built, p=0, output="array")
    assert np.array_equal(original[0][0], pixels_of(built, "a/0.png"))
    torch.manual_seed(0)
    half = HashedSaliencyDataset(built, p=0.5, jitter=None, output="array")
    views = sum(not np.array_equal(half[0][0], original[0][0]) for _ in range(200))
    assert 70 < views < 130


@pytest.mark.parametrize("form", ["pil", "array", "tensor", "dict", "tuple", "named"])
def test_a_wrapped_dataset_keeps_its_items(built, tmp_path, form):
    """Type of image, shape of item, labels and everything else pass through."""
    image = pixels_of(built, "a/2.png")
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    pair = namedtuple("pair", "image label extra")
    item = {
        "pil": Image.fromarray(image), "array": image, "tensor": tensor, "dict": {"label": 7, "image": image},
        "tuple": (tensor, 7, "x"), "named": pair(image, 7, "x"),
    }[form]  # fmt: skip
    dataset = HashedSaliencyDataset([item], store=tmp_path / "images.augcache", jitter=None)
    out = dataset[0]
    assert type(out) is type(item)
    shown = out["image"] if form == "dict" else out[0] if form in ("tuple", "named") else out
    as_array = shown.permute(1, 2, 0).numpy() if isinstance(shown, torch.Tensor) else np.asarray(shown)
    assert np.array_equal(as_array, toy(image)["palette"][toy(image)["labels"]])
    if form == "tuple":
        assert out[1:] == (7, "x")
    if form == "named":
        assert (out.label, out.extra) == (7, "x")
    if form == "dict":
        assert list(out) == ["label", "image"]


def test_a_miss_is_an_error_the_original_or_computed(built, tmp_path):
    """An image that the store lacks does what on_miss says, and the error says what to do."""
    image = np.full((9, 9, 3), 200, np.uint8)
    store = tmp_path / "images.augcache"
    with pytest.raises(MissError, match="before any crop, resize or colour change"):
        SaliencyLookup(store)(image)
    assert SaliencyLookup(store, on_miss="original")(image) is image
    computed = SaliencyLookup(store, recipe=Recipe("toy:toy"), on_miss="compute", jitter=None)(image)
    assert np.array_equal(computed, toy(image)["palette"][toy(image)["labels"]])


def test_changed_and_new_files_are_misses_and_copies_are_not(built, tmp_path):
    """A changed file never gives the old view; a copy with new times still hits."""
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, copy_function=shutil.copyfile)
    assert len([*HashedSaliencyDataset(copy, store=tmp_path / "images.augcache")]) == 6
    write_image(built / "a/0.png", 777)
    write_image(built / "c/new.png", 778)
    dataset = HashedSaliencyDataset(built)
    assert dataset.classes == ["a", "b", "c"]
    for index in (0, 6):
        with pytest.raises(MissError):
            dataset[index]
    assert dataset[1]
    original = HashedSaliencyDataset(built, on_miss="original", output="array")
    assert np.array_equal(original[0][0], pixels_of(built, "a/0.png"))


def test_files_the_build_could_not_use_are_left_out_with_a_warning(images):
    """A broken file costs a line at the start, not a crash in the middle of an epoch."""
    (images / "a/bad.jpg").write_text("no image")
    build(images, TOY, workers=0)
    with pytest.warns(UserWarning, match="1 images of .* left out"):
        assert len(HashedSaliencyDataset(images)) == 6


def test_an_intact_folder_opens_without_a_warning(built):
    """Nothing is said where there is nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HashedSaliencyDataset(built)


def test_several_recipes_are_never_guessed_between(built, tmp_path):
    """Where two recipes would fit, the error lists both, and a digest chooses."""
    other = Recipe("toy:toy", shift=7)
    build(built, other, workers=0)
    build(built, Recipe("toy:slow", seconds=0), workers=0)  # fits no view
    with pytest.raises(StoreError, match="several recipes would fit") as caught:
        HashedSaliencyDataset(built)
    assert TOY.digest.hex()[:8] in str(caught.value)
    assert "slow" not in str(caught.value)
    for choice in (other, other.digest.hex()[:8]):
        assert HashedSaliencyDataset(built, recipe=choice).lookup.recipe == other
    with pytest.raises(StoreError, match="no recipe"):
        HashedSaliencyDataset(built, recipe="ffff")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "sideways"}, "no view 'sideways'"),
        ({"p": 1.5}, "p=1.5"),
        ({"on_miss": "ignore"}, "on_miss='ignore'"),
        ({"output": "jpeg"}, "output='jpeg'"),
    ],
)
def test_a_bad_option_is_named(built, options, message):
    """A wrong value fails when the dataset is made."""
    with pytest.raises(RecipeError, match=message):
        HashedSaliencyDataset(built, **options)


@pytest.mark.parametrize(
    ("image", "message"), [(np.zeros((4, 4, 3)), "float64"), (np.zeros((2, 4, 4, 3), np.uint8), "batch")]
)
def test_misuse_of_a_look_up_is_named(built, tmp_path, image, message):
    """Floats and batches are told apart from misses."""
    with pytest.raises(SourceError, match=message):
        SaliencyLookup(tmp_path / "images.augcache")(image)


def test_a_dataset_pickles_small(built):
    """Sent to workers, a dataset takes its lists along, and no store."""
    dataset = HashedSaliencyDataset(built)
    assert len(pickle.dumps(dataset)) < 3000
    assert pickle.loads(pickle.dumps(dataset))[0][1] == 0


def test_reading_while_the_store_is_built(images, tmp_path):
    """Build and read in one notebook process: what is committed can be read at once."""
    store = Store(build(images, TOY, limit=3, workers=0).store)
    dataset = HashedSaliencyDataset(store=store)
    assert len(dataset) == 3
    build(images, TOY, workers=0)
    assert len(HashedSaliencyDataset(store=store)) == 6
    assert dataset[0]
