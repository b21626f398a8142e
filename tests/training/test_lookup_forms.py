"""What comes with an image comes back with its view: types, tuples, dicts, and the transforms of other libraries."""

from collections import OrderedDict, UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from toy import toy

from augcache import CachedImages, HashedSaliencyDataset, Recipe, SaliencyLookup, policy_views, resize
from augcache.errors import RecipeError, SourceError

TOY = Recipe("toy:toy")


@pytest.fixture
def pixels(built):
    return np.asarray(Image.open(built / "a/2.png").convert("RGB"))


def view_of(pixels):
    record = toy(pixels)
    return record["palette"][record["labels"]]


def same(image, pixels):
    array = image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    return np.array_equal(array, view_of(pixels))


@pytest.mark.parametrize("by", [SaliencyLookup, HashedSaliencyDataset])
def test_a_tv_image_stays_one(store, pixels, by):
    """Later v2 transforms find the image by its type; a plain tensor stays plain."""
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for image in (tv_tensors.Image(tensor), tensor):
        if by is SaliencyLookup:
            view = SaliencyLookup(store, jitter=None)(image)
        else:
            view, _ = HashedSaliencyDataset([(image, 0)], store=store, jitter=None)[0]
        assert type(view) is type(image)
        assert same(view.as_subclass(torch.Tensor), pixels)


def test_v2_transforms_that_take_everything_together(store, pixels):
    """Compose of v2 calls each of its transforms with a tuple, with several arguments, or with a dict."""
    tv_tensors, v2 = pytest.importorskip("torchvision.tv_tensors"), pytest.importorskip("torchvision.transforms.v2")
    image = tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    boxes = tv_tensors.Mask(torch.zeros(pixels.shape[:2]))
    chain = v2.Compose([SaliencyLookup(store, jitter=None), v2.RandomHorizontalFlip(p=1)])
    for out in (chain(image, boxes, 3), chain((image, boxes, 3))):
        assert [type(each) for each in out] == [tv_tensors.Image, tv_tensors.Mask, int]
        assert same(out[0].as_subclass(torch.Tensor).flip(-1), pixels)
    out = chain({"image": image, "label": 3})
    assert type(out["image"]) is tv_tensors.Image
    assert out["label"] == 3
    assert same(chain(image).as_subclass(torch.Tensor).flip(-1), pixels)


@pytest.mark.parametrize("form", [tuple, dict, OrderedDict, UserDict, "arguments", "image"])
def test_the_rest_of_a_sample_comes_back_as_it_was(store, pixels, form):
    """Tuples, several arguments and mappings keep their type, order and other values, and are not changed."""
    lookup = SaliencyLookup(store, jitter=None)
    if form == "image":
        assert same(lookup(pixels), pixels)
    elif form in (tuple, "arguments"):
        out = lookup(pixels, 3, "x") if form == "arguments" else lookup((pixels, 3, "x"))
        assert type(out) is tuple
        assert same(out[0], pixels)
        assert out[1:] == (3, "x")
    else:
        item = form(label=3, image=pixels)
        out = lookup(item)
        assert type(out) is form
        assert list(out) == ["label", "image"]
        assert same(out["image"], pixels)
        assert item["image"] is pixels


def test_a_list_of_images_is_still_a_batch(store, pixels):
    """One view would be given for many images; a list of image and label is a sample."""
    lookup = SaliencyLookup(store, jitter=None)
    for batch in ([pixels], [pixels, pixels]):
        with pytest.raises(SourceError, match="is a batch: give one image at a time"):
            lookup(batch)
    out = lookup([pixels, 3])
    assert type(out) is list
    assert same(out[0], pixels)


@pytest.mark.parametrize("form", [dict, OrderedDict, UserDict])
@pytest.mark.parametrize("name", ["image", "img", "pixel_values", "photo"])
def test_a_wrapped_dataset_of_mappings(store, pixels, form, name):
    """Any mapping keeps its type; its image is found by the usual names, and by image_key= under any other."""
    base = [form({"id": 7, name: pixels, "label": 1})]
    dataset = HashedSaliencyDataset(base, store=store, jitter=None, image_key="photo" if name == "photo" else None)
    out = dataset[0]
    assert type(out) is form
    assert list(out) == ["id", name, "label"]
    assert same(out[name], pixels)
    assert dataset.key(0) == HashedSaliencyDataset([pixels], store=store).key(0)


@pytest.mark.parametrize(
    ("item", "options", "message"),
    [
        ({"photo": 0, "label": 1}, {}, "item 0: .* without 'image', .*image_key=; it has: 'photo', 'label'"),
        ({"image": 0, "img": 1}, {}, "item 0: .* say which with image_key="),
        ({"image": 0}, {"image_key": "photo"}, "item 0: .* without 'photo'"),
        ((0, 1), {"image_key": "photo"}, "item 0: image_key='photo' is for items that are dicts"),
    ],
)
def test_a_mapping_whose_image_is_in_doubt_is_refused(store, item, options, message):
    """One line lists the keys."""
    with pytest.raises(SourceError, match=message):
        HashedSaliencyDataset([item], store=store, **options)[0]


def test_rows_of_hugging_face_datasets(built, store):
    """A dataset with images, as `datasets` gives it row by row, also in a loader's workers."""
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in sorted(built.rglob("*.png"))]
    rows = datasets.Dataset.from_dict({"img": files, "label": [0, 0, 0, 1, 1, 1]})
    rows = rows.cast_column("img", datasets.Image())
    dataset = HashedSaliencyDataset(rows, store=store, jitter=None)
    for index in range(6):
        out = dataset[index]
        assert set(out) == {"img", "label"}
        assert same(out["img"], np.asarray(Image.open(files[index]).convert("RGB")))
    arrays = HashedSaliencyDataset(rows, store=store, transform=np.array)
    labels = [label for batch in DataLoader(arrays, batch_size=2, num_workers=2) for label in batch["label"].tolist()]
    assert labels == [0, 0, 0, 1, 1, 1]


def test_a_policy_takes_the_same_mappings(pixels):
    """The policy that looks nothing up finds the image as the others do."""
    pytest.importorskip("torchvision")
    views = policy_views([OrderedDict(img=pixels, label=2)], "default", size=16)[0]
    assert views["label"] == 2
    assert [tuple(view.shape) for view in views["img"]] == [(3, 16, 16)] * 2
    with pytest.raises(SourceError, match="give one whole number"):
        policy_views([pixels], "default", size=16)[0:1]
    with pytest.raises(SourceError, match="has no items by index"):
        policy_views(iter([pixels]), "default", size=16)


class Flip:
    """As a transform of Albumentations is called, and what it gives."""

    available_keys = frozenset({"image", "mask"})

    def add_targets(self, targets):
        self.available_keys |= set(targets)

    def __call__(self, *args, force_apply=False, **data):
        assert not args
        return {name: np.ascontiguousarray(value[:, ::-1]) for name, value in data.items()}


def flip():
    """Make the real thing where it is installed."""
    try:
        import albumentations
    except ImportError:
        return Flip()
    return albumentations.Compose([albumentations.HorizontalFlip(p=1)])


def test_a_transform_of_albumentations(built, store, pixels):
    """It is called with image=, and the item has the image that it gives; also one of several."""
    for dataset in (
        HashedSaliencyDataset(built, output="array", jitter=None, transform=flip()),
        HashedSaliencyDataset(store=store, output="array", jitter=None, transform=flip()),
        HashedSaliencyDataset([(pixels, 0)] * 2, store=store, jitter=None, transform=flip()),
    ):
        image, target = dataset[1]
        assert target == 0
        assert same(image[:, ::-1], pixels)
    (first, second), _ = HashedSaliencyDataset(
        built, output="array", jitter=None, transform=[flip(), lambda image: image]
    )[1]
    assert np.array_equal(first[:, ::-1], second)


def test_copies_take_a_transform_of_albumentations_too(built, store):
    """As the other datasets do."""
    resize(built, Recipe("resize", width=8, height=8), workers=0)
    plain = CachedImages(store, output="array")[0][0]
    assert np.array_equal(CachedImages(store, output="array", transform=flip())[0][0][:, ::-1], plain)
    with pytest.raises(RecipeError, match="give output='array'"):
        CachedImages(store, transform=flip())


def test_a_transform_of_albumentations_needs_arrays(built, store, pixels):
    """Anything else is refused when the dataset is made; in a wrapped dataset, at the first item."""
    for output in (None, "tensor", "masks", "indexed"):
        with pytest.raises(RecipeError, match=r"Albumentations takes arrays, not output=.*give output='array'"):
            HashedSaliencyDataset(built, output=output, transform=[np.array, flip()])
    with pytest.raises(RecipeError, match="Albumentations takes arrays, not a Image"):
        HashedSaliencyDataset([(Image.fromarray(pixels), 0)], store=store, transform=flip())[0]
