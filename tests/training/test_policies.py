"""Views of a policy: each drawn on its own, from one read; crops of image and maps go together."""

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image
from torch.utils.data import DataLoader
from toy import toy

from augcache import CachedImages, HashedSaliencyDataset, PaletteJitter, Recipe, Store, build
from augcache.building.build import resize
from augcache.errors import AugcacheError, RecipeError
from augcache.training import dataset_images

pytest.importorskip("torchvision", reason="policies need torchvision, of the extra 'train'")

from torchvision import tv_tensors
from torchvision.transforms import v2

from augcache.training.policies import POLICIES, Policy, policy_transforms, policy_views

TOY = Recipe("toy:toy")


def same(first, second):
    return np.array_equal(np.asarray(first), np.asarray(second))


def keep(image):
    return np.asarray(image)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_gives_batches_as_trainers_take_them(built, name):
    """A list of float batches of equal size, and the class indices, through the default collation."""
    data = policy_views(built, name, size=16, crops=3, crop_size=8)
    views, targets = next(iter(DataLoader(data, batch_size=6, num_workers=2)))
    assert [tuple(view.shape) for view in views] == [(6, 3, 16, 16)] * 2 + [(6, 3, 8, 8)] * 3
    assert {view.dtype for view in views} == {torch.float32}
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert abs(float(views[0].mean())) < 1.5  # normalised


def test_policies_say_what_the_study_says():
    """The seven policies: chance of the stored view, chance of its re-colouring, and whether augmentations follow."""
    assert {name: (policy.p, policy.jitter, policy.default) for name, policy in POLICIES.items()} == {
        "default": (0.0, 0.0, True),
        "saliency": (1.0, 0.0, False),
        "saliency+default": (1.0, 0.0, True),
        "saliency0.5+default": (0.5, 0.0, True),
        "saliency+jitter": (1.0, 1.0, False),
        "saliency0.5+jitter": (0.5, 1.0, False),
        "saliency0.8+jitter0.8": (0.8, 0.8, False),
    }


@pytest.mark.parametrize("form", ["folder", "wrapped"])
def test_each_view_of_a_pair_is_drawn_on_its_own(built, form):
    """At p=0.8 and jitter 0.8 the views are original, plain or re-coloured independently of each other."""
    image = np.asarray(Image.open(built / "a/0.png").convert("RGB"))
    record = toy(image)
    plain = record["palette"][record["labels"]]
    base = built if form == "folder" else [(Image.fromarray(image), 0)]
    options = {"store": built.with_suffix(".augcache"), "p": 0.8, "jitter": PaletteJitter(p=0.8)}
    data = HashedSaliencyDataset(base, transform=[keep, keep], **options)
    torch.manual_seed(0)
    counts, equal, trials = np.zeros((3, 3)), 0, 1500
    for _ in range(trials):
        views, _ = data[0]
        kinds = [0 if same(view, image) else 1 if same(view, plain) else 2 for view in views]
        counts[tuple(kinds)] += 1
        equal += kinds == [2, 2] and same(*views)
    shares = np.array([0.2, 0.8 * 0.2, 0.8 * 0.8])
    assert np.abs(counts / trials - np.outer(shares, shares)).max() < 0.05  # independent: a product
    assert equal < 10


def test_two_views_cost_one_read_of_each_kind(built, monkeypatch):
    """The record is fetched once an item, and the original decoded at most once, and only where a view is of it."""
    data = HashedSaliencyDataset(built, p=0.5, transform=[keep] * 8)
    fetched, decoded = [], []
    get, decode = Store.get, dataset_images.decode_views
    monkeypatch.setattr(Store, "get", lambda *given: fetched.append(1) or get(*given))
    monkeypatch.setattr(dataset_images, "decode_views", lambda *given: decoded.append(1) or decode(*given))
    torch.manual_seed(0)
    for _ in range(20):
        data[0]
    assert 18 <= len(fetched) <= 20
    assert 18 <= len(decoded) <= 20
    always = HashedSaliencyDataset(built, p=1.0, transform=[keep] * 8)
    always[0]
    assert len(decoded) <= 20


def test_a_batch_of_pairs_is_what_single_items_are(built):
    """The path of a loader, which reads a batch at once, gives the views that single items give."""
    data = HashedSaliencyDataset(built, jitter=None, transform=[keep, np.fliplr])
    for (views, target), (others, number) in zip(data.__getitems__([4, 1]), [data[4], data[1]], strict=True):
        assert target == number
        assert all(same(view, other) for view, other in zip(views, others, strict=True))
        assert same(views[0], np.fliplr(views[1]))


def test_the_same_seed_gives_the_same_views(built):
    """torch.manual_seed reproduces a run with augmentations, in workers too."""

    def epoch(workers):
        torch.manual_seed(5)
        data = policy_views(built, "saliency0.5+default", size=16)
        return [view for views, _ in DataLoader(data, batch_size=3, num_workers=workers) for view in views]

    for workers in (0, 2):
        assert all(torch.equal(one, other) for one, other in zip(epoch(workers), epoch(workers), strict=True))


def test_copies_and_datasets_of_all_forms_are_taken(built, tmp_path):
    """A policy wraps small copies of a store, arrays and dicts; labels and shapes pass through."""
    store = resize(built, Recipe("resize", width=16, height=16), tmp_path / "small.augcache", workers=0).store
    copies = CachedImages(store)
    build([copies[index] for index in range(6)], TOY, store=store, workers=0)
    data = policy_views(copies, "saliency0.5+default", store=store, size=8, recipe=TOY)
    views, target = data[5]
    assert ([view.shape for view in views], target, data.classes) == ([(3, 8, 8)] * 2, 1, ["a", "b"])
    array = np.asarray(copies[0][0])
    item = policy_views([{"image": array, "id": 9}], "saliency", store=store, recipe=TOY, size=8)[0]
    assert ([view.shape for view in item["image"]], item["id"]) == ([(3, 8, 8)] * 2, 9)
    [first, second] = policy_views([array], "saliency+jitter", store=store, recipe=TOY, size=8)[0]
    assert first.shape == second.shape == (3, 8, 8)


def test_a_policy_without_look_ups_needs_no_store(built):
    """The baseline runs on any dataset as it is."""
    image = Image.open(built / "a/0.png").convert("RGB")
    data = policy_views([(image, 3)], "default", size=16, views=3)
    views, target = data[0]
    assert ([tuple(view.shape) for view in views], target, len(data)) == ([(3, 16, 16)] * 3, 3, 1)
    assert not torch.equal(views[0], views[1])


def test_a_policy_of_ones_own_and_a_name_that_is_none(built):
    """Any Policy does; a typing error lists the names."""
    views, _ = policy_views(built, Policy(p=1.0, jitter=0.3, default=True), size=16)[0]
    assert len(views) == 2
    with pytest.raises(RecipeError, match=r"no policy 'salient': .*saliency0.5\+default"):
        policy_views(built, "salient")


def test_without_torchvision_the_extra_is_named(built, monkeypatch):
    """Policies are the part that needs torchvision, and say which extra brings it."""
    monkeypatch.setitem(__import__("sys").modules, "torchvision.transforms.v2", None)
    with pytest.raises(AugcacheError, match=r"a policy needs torchvision.* pip install 'augcache\[train\]'"):
        policy_transforms("default")


def test_a_crop_takes_image_and_maps_together(images):
    """A v2 transform turns the image and its maps as one: each pixel keeps its region, saliency and cut."""
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        write_image(path, number, size=(40, 30))
    build(images, TOY, workers=0)
    transform = v2.Compose([v2.RandomCrop(20), v2.RandomHorizontalFlip()])
    for p in (0, 1):
        data = HashedSaliencyDataset(images, output="masks", jitter=None, p=p, transform=transform)
        item, target = data[2]
        assert target == 0
        assert isinstance(item["image"], tv_tensors.Image)
        assert all(isinstance(item[name], tv_tensors.Mask) for name in ("labels", "saliency", "cut"))
        image = item["image"].permute(1, 2, 0).numpy()
        record = toy(image if p == 0 else np.zeros((2, 2, 3), np.uint8))
        labels = item["labels"].numpy()
        assert same(labels, record["labels"]) if p == 0 else same(image, record["palette"][labels])
        assert same(item["saliency"], record["region_saliency"][labels])
        assert same(item["cut"], labels > 2)
        assert item["saliency"].dtype == torch.float32


def test_maps_come_with_wrapped_images_and_in_pairs(built):
    """Maps of a wrapped dataset, two joint crops of each item, collated."""
    image = Image.open(built / "a/0.png").convert("RGB")
    data = HashedSaliencyDataset(
        [(image, 4)] * 2, store=built.with_suffix(".augcache"), output="masks", p=0.5, transform=[v2.RandomCrop(8)] * 2
    )
    [first, second], targets = next(iter(DataLoader(data, batch_size=2)))
    assert targets.tolist() == [4, 4]
    assert first["image"].shape == second["image"].shape == (2, 3, 8, 8)
    assert first["cut"].shape == (2, 8, 8)
