"""What people get wrong with look-ups, and the one line that tells them."""

import warnings

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image
from torch.utils.data import DataLoader

from augcache import HashedSaliencyDataset, PaletteJitter, Recipe, SaliencyLookup, build
from augcache.errors import AugcacheError, MissError, RecipeError, SourceError, StoreError
from augcache.training.misses import PATIENCE

TOY = Recipe("toy:toy")


@pytest.fixture
def store(images):
    return build(images, TOY, workers=0).store


class Base:
    """The images of a folder, cropped too early, or brightened."""

    def __init__(self, folder, change=lambda image: image, repeat=1):
        self.files = sorted(folder.rglob("*.png")) * repeat
        self.change = change

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.change(Image.open(self.files[index]).convert("RGB")), index


def cropped(image):
    return image.crop((0, 0, 16, 16))


def brightened(image):
    return image.point(lambda value: min(255, value + 1))


def mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def test_a_crop_before_the_look_up_is_named_at_the_first_miss(images, store):
    """The size of the image, which the store does not have, tells the mistake; also from a loader's worker."""
    dataset = HashedSaliencyDataset(Base(images, cropped), store=store)
    message = "every image so far missed .*16x16; the store's are 24x20.* is a crop or resize applied"
    with pytest.raises(MissError, match=message):
        dataset[0]
    with pytest.raises(MissError, match=message):
        next(iter(DataLoader(dataset, num_workers=1)))


def test_a_crop_is_not_suspected_of_an_image_that_is_new(images, store):
    """After a hit, a miss is that image's own."""
    lookup = SaliencyLookup(store)
    lookup(Base(images)[0][0])
    with pytest.raises(MissError, match="run the build again if the image is new"):
        lookup(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize("on_miss", ["original", "compute"])
def test_a_crop_is_not_passed_over_in_silence(images, store, on_miss):
    """Where misses are put up with, a dataset that never hits stops, and does not train on something else for days."""
    dataset = HashedSaliencyDataset(Base(images, cropped, repeat=20), store=store, recipe=TOY, on_miss=on_miss)
    with pytest.raises(MissError, match=rf"every image so far missed \({PATIENCE} of 16x16"):
        for _ in dataset:
            pass


@pytest.mark.parametrize("change", [brightened, mirrored])
def test_a_change_that_keeps_the_size_is_warned_of(images, store, change):
    """A flip, or images that were never built: the run may be meant so, and it is said once."""
    dataset = HashedSaliencyDataset(Base(images, change, repeat=40), store=store, on_miss="original")
    with pytest.warns(UserWarning, match="every image so far missed") as caught:
        assert sum(1 for _, _ in (dataset[index] for index in range(240))) == 240
    assert len(caught) == 1


def test_a_store_that_knows_some_images_is_not_suspected(images, store):
    """One hit is enough for a partial store to be used as it is."""
    for seed in range(150):
        write_image(images / f"c/{seed}.png", 1000 + seed, size=(30, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = HashedSaliencyDataset(Base(images), store=store, on_miss="original")
        assert all(dataset[index][1] == index for index in range(156))


def test_a_store_for_another_recipe_lists_what_it_has(images, tmp_path):
    """A store of something else is refused when the dataset is made, and says what is in it."""
    other = build(images, Recipe("toy:slow", seconds=0), workers=0).store
    with pytest.raises(StoreError, match=r"no recipe here gives the view 'segments'; it holds: .*toy:slow.*; build it"):
        HashedSaliencyDataset(Base(images), store=other)
    with pytest.raises(StoreError, match=r"no recipe '.*; it holds: .*toy:slow"):
        HashedSaliencyDataset(Base(images), store=other, recipe=TOY)


def test_a_store_of_other_images_is_told_by_their_size(images, store, tmp_path):
    """Saliency of small copies does not serve the photographs."""
    for seed in range(3):
        write_image(tmp_path / f"large/{seed}.png", seed, size=(60, 40))
    with pytest.raises(MissError, match=r"60x40; the store's are 24x20.* build the store of these images"):
        HashedSaliencyDataset(Base(tmp_path / "large"), store=store)[0]
    with pytest.raises(SourceError, match="knows none of the images"):
        HashedSaliencyDataset(tmp_path / "large", store=store)


def test_a_view_that_the_record_lacks_is_named_at_once(images):
    """A recipe that is asked for by name must hold what the view needs."""
    build(images, TOY, workers=0)
    plain = Recipe("toy:slow", seconds=0)
    build(images, plain, workers=0)
    with pytest.raises(StoreError, match=r"'segments' needs labels and palette, and records of toy:slow .* hold mean"):
        HashedSaliencyDataset(images, recipe=plain)
    with pytest.raises(StoreError, match="'cut' needs cut, and records"):
        SaliencyLookup(images.with_suffix(".augcache"), recipe=plain.digest.hex()[:8], view="cut")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 24, 3), np.float32), "dtype float32: give uint8 pixels, before they are turned into floats"),
        (torch.zeros(3, 20, 24), "dtype float32"),
        (Image.new("F", (24, 20)), "floats"),
        (np.zeros((4, 20, 24, 3), np.uint8), r"array of shape \(4, 20, 24, 3\) is a batch"),
        (torch.zeros(4, 3, 20, 24, dtype=torch.uint8), r"tensor of shape \(4, 3, 20, 24\) is a batch"),
        ([np.zeros((20, 24, 3), np.uint8)] * 2, "a list of 2 is a batch"),
        (np.zeros((3, 20, 24), np.uint8), r"array of shape \(3, 20, 24\) is not an image: give \(H, W, 3\)"),
        (
            torch.zeros(20, 24, 3, dtype=torch.uint8),
            r"tensor of shape \(20, 24, 3\) is not an image: give \(3, H, W\)",
        ),
        ("a.png", "a str is not an image"),
    ],
)
def test_what_is_no_single_image_of_bytes_is_named(store, image, message):
    """Floats, batches and turned axes are told apart, by a look-up and by a dataset around such items."""
    with pytest.raises(SourceError, match=message):
        SaliencyLookup(store)(image)
    with pytest.raises(SourceError, match=f"item 0: .*{message}"):
        HashedSaliencyDataset([(image, 0)], store=store)[0]


def test_a_re_colouring_that_is_given_images_says_what_it_takes(images, store):
    """The module for batches of index maps is not a transform of images."""
    dataset = HashedSaliencyDataset(images, transform=PaletteJitter())
    with pytest.raises(SourceError, match="output='indexed'"):
        dataset[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "tensor"}, "output='tensor' is for folders and stores"),
        ({"output": "masks", "on_miss": "original"}, "output='masks' needs on_miss other than 'original'"),
        ({"output": "indexed", "p": 0.5}, "output='indexed' needs"),
    ],
)
def test_forms_that_cannot_be_given_are_refused(images, store, options, message):
    """An option that would be without effect, or cannot be met for every image, fails when the dataset is made."""
    with pytest.raises(RecipeError, match=message):
        HashedSaliencyDataset(Base(images), store=store, **options)


def test_every_such_error_is_one_line(images, store):
    """All of them are of one family, and fit a log."""
    with pytest.raises(AugcacheError) as caught:
        HashedSaliencyDataset(Base(images, cropped), store=store)[0]
    assert "\n" not in str(caught.value)
