"""Classes, targets, samples and names are those that torchvision gives, or are refused."""

import pickle

import numpy as np
import pytest
import torch
from conftest import write_image
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, random_split
from video_variants import write_video

from augcache import CachedImages, HashedSaliencyDataset, Recipe, VideoFrames, build, extract_frames, resize
from augcache.errors import RecipeError, SourceError
from augcache.training.labels import of_dataset, of_items

TOY = Recipe("toy:toy")


class Base:
    """The images of a folder as arrays, with what torchvision's datasets say about them."""

    def __init__(self, folder, classes=("a", "b"), targets=(0, 0, 0, 1, 1, 1)):
        self.files = sorted(folder.rglob("*.png"))
        self.classes, self.class_to_idx = list(classes), {name: index for index, name in enumerate(classes)}
        self.targets = list(targets)
        self.samples = [(str(file), target) for file, target in zip(self.files, targets, strict=True)]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        from PIL import Image

        return np.asarray(Image.open(self.files[index]).convert("RGB")), self.targets[index]


def test_a_folder_says_what_image_folder_says(built):
    """Classes, their indices, targets and samples, item for item."""
    torchvision = pytest.importorskip("torchvision")
    write_image(built / "b/deep/9.png", 9)
    write_image(built / "a/z.png", 10)
    build(built, TOY, workers=0)
    theirs, ours = torchvision.datasets.ImageFolder(built), HashedSaliencyDataset(built)
    assert (ours.classes, ours.class_to_idx) == (theirs.classes, theirs.class_to_idx)
    assert sorted(ours.samples) == sorted(theirs.samples)
    assert sorted(ours.targets) == sorted(theirs.targets)
    assert [target for _, target in ours] == ours.targets == [target for _, target in ours.samples]


def test_a_folder_and_a_store_say_the_same(built, store):
    """Of a store alone the samples are names; all else is equal."""
    ours, alone = HashedSaliencyDataset(built), HashedSaliencyDataset(store=store)
    for name in ("classes", "class_to_idx", "targets"):
        assert getattr(ours, name) == getattr(alone, name)
    assert alone.class_to_idx == {"a": 0, "b": 1}
    assert alone.samples[3] == ("b/1.png", 1)
    assert ours.samples[3] == (str(built / "b/1.png"), 1)


@pytest.mark.parametrize("kind", ["folder", "copies"])
def test_targets_are_made_once_and_not_sent_to_workers(built, store, kind):
    """A script that asks for targets[i] in a loop takes linear time; a pickled dataset is as small as before."""
    resize(built, Recipe("resize", width=4, height=4), workers=0)
    dataset = HashedSaliencyDataset(built) if kind == "folder" else CachedImages(store)
    before = len(pickle.dumps(dataset))
    assert dataset.targets is dataset.targets
    assert dataset.samples is dataset.samples
    assert dataset.targets == [0, 0, 0, 1, 1, 1]
    assert len(pickle.dumps(dataset)) == before
    assert pickle.loads(pickle.dumps(dataset)).targets == dataset.targets


@pytest.mark.parametrize("name", ["classes", "class_to_idx", "targets", "samples"])
def test_a_wrapped_dataset_keeps_its_own(built, store, name):
    """They are the very objects of the dataset; one that has none gives none."""
    base = Base(built)
    assert getattr(HashedSaliencyDataset(base, store=store), name) is getattr(base, name)
    assert not getattr(HashedSaliencyDataset([base[0]], store=store), name)


def test_class_indices_are_made_of_classes_where_a_dataset_has_no_others(built, store):
    """FakeData-like datasets have classes alone."""
    base = Base(built)
    del base.class_to_idx
    assert HashedSaliencyDataset(base, store=store).class_to_idx == {"a": 0, "b": 1}


def check_items(dataset):
    """Targets and samples are in the order of the items."""
    assert dataset.targets == [target for _, target in dataset] == [target for _, target in dataset.samples]
    assert len(dataset.targets) == len(dataset)
    assert dataset.targets is dataset.targets


def test_subsets_and_joined_datasets_pass_through(built, store):
    """Also nested, in any order, with repeats, and with indices and targets that are tensors."""
    base = Base(built)
    subset = Subset(base, [5, 0, 0, 3])
    joined = ConcatDataset([subset, base, Subset(Subset(base, [4, 1, 2]), torch.tensor([2, 0]))])
    split = random_split(joined, [4, 8], generator=torch.Generator().manual_seed(1))[1]
    for each in (subset, joined, split):
        dataset = HashedSaliencyDataset(each, store=store)
        check_items(dataset)
        assert (dataset.classes, dataset.class_to_idx) == (base.classes, base.class_to_idx)
    base.targets = torch.tensor(base.targets)
    found = HashedSaliencyDataset(Subset(base, range(2, 5)), store=store).targets
    assert found == [0, 1, 1]
    assert all(type(each) is int for each in found)


def test_subsets_of_image_folders_pass_through(built, store):
    """The same with torchvision's own datasets."""
    torchvision = pytest.importorskip("torchvision")
    base = torchvision.datasets.ImageFolder(built)
    dataset = HashedSaliencyDataset(ConcatDataset([Subset(base, [4, 1]), base]), store=store)
    check_items(dataset)
    assert dataset.samples == [base.samples[4], base.samples[1], *base.samples]


def test_subsets_of_our_own_datasets_pass_through(built, store):
    """A subset of a subset of a store serves as a base as well."""
    resize(built, Recipe("resize", width=8, height=8), workers=0)
    copies = CachedImages(store)
    build(copies, TOY, store, workers=0)
    check_items(HashedSaliencyDataset(Subset(copies, [5, 2]), store=store))


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["b", "a"], "parts 0 and 1 of a ConcatDataset differ in their classes: 'a', 'b' and 'b', 'a'"), ([], "and none")],
)
@pytest.mark.parametrize("name", ["classes", "class_to_idx", "targets", "samples"])
def test_parts_of_different_classes_are_refused(built, store, classes, message, name):
    """One target would mean two classes; the images alone may still be used."""
    joined = ConcatDataset([Base(built), Subset(Base(built, classes), [1, 2])])
    dataset = HashedSaliencyDataset(joined, store=store)
    assert len(list(dataset)) == 8
    with pytest.raises(
        SourceError, match=message if name != "class_to_idx" else "differ in their class_to_idx"
    ) as caught:
        getattr(dataset, name)
    assert "\n" not in str(caught.value)


def test_parts_of_which_some_have_no_targets_are_refused(built, store):
    """Targets of a part of the items would be those of others."""
    lacking = Base(built)
    lacking.targets = None
    with pytest.raises(SourceError, match="part 1 of a ConcatDataset has no targets"):
        _ = HashedSaliencyDataset(ConcatDataset([Base(built), lacking]), store=store).targets
    assert HashedSaliencyDataset(ConcatDataset([lacking, lacking]), store=store).targets == []


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_an_item_carries_its_name_where_that_is_wanted(built, store, kind):
    """(image, target, name), one by one and in batches, and a loader collates the names."""
    options = {"store": store, "return_name": True, "output": "tensor"}
    dataset = HashedSaliencyDataset(built, **options) if kind == "folder" else HashedSaliencyDataset(**options)
    names = ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    assert [item[1:] for item in dataset] == list(zip(dataset.targets, names, strict=True))
    assert dataset[-1][2] == "b/5.png"
    found = [name for _, _, batch in DataLoader(dataset, batch_size=4, num_workers=2) for name in batch]
    assert found == names


def test_names_of_a_wrapped_dataset_are_refused(built, store):
    """It has none that could be known."""
    with pytest.raises(RecipeError, match="return_name=True is for folders and stores"):
        HashedSaliencyDataset(Base(built), store=store, return_name=True)


def test_a_target_transform_is_applied_as_torchvision_does(built, store):
    """To the target of each item, and not to `targets`."""
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.datasets.ImageFolder(built, target_transform=str)
    ours = HashedSaliencyDataset(built, target_transform=str)
    assert [target for _, target in ours] == [target for _, target in theirs] == ["0", "0", "0", "1", "1", "1"]
    assert ours.targets == theirs.targets == [0, 0, 0, 1, 1, 1]


def test_a_target_transform_changes_the_label_of_any_item(built, store):
    """In folders, stores, tuples and dicts; an item without a label is told."""
    image = Base(built)[0][0]
    cases = {"tuple": (image, 4, "x"), "dict": {"label": 4, "image": image}, "named": {"fine": 4, "image": image}}
    for form, item in cases.items():
        key = "fine" if form == "named" else None
        out = HashedSaliencyDataset([item], store=store, target_transform=lambda label: label + 1, label_key=key)[0]
        assert out[1 if form == "tuple" else key or "label"] == 5
    assert HashedSaliencyDataset(store=store, target_transform=lambda label: label + 1)[0][1] == 1
    for item in (image, (image,), {"image": image}):
        with pytest.raises(SourceError, match="item 0: target_transform= changes a label, and it has none"):
            HashedSaliencyDataset([item], store=store, target_transform=str)[0]


@pytest.mark.parametrize("index", [slice(0, 3), "a/0.png", 1.0, None, [1, 2]])
def test_an_index_is_one_number(built, store, tmp_path, index):
    """A slice and the like are one line that says what to do, in each dataset; numpy's and torch's numbers do."""
    resize(built, Recipe("resize", width=4, height=4), workers=0)
    write_video(tmp_path / "films/lion.mp4", frames=6)
    frames = VideoFrames(extract_frames(tmp_path / "films", Recipe("frame", every=2), workers=0).store)
    datasets = [
        HashedSaliencyDataset(built), HashedSaliencyDataset(store=store), CachedImages(store), frames,
        HashedSaliencyDataset(Base(built), store=store),
    ]  # fmt: skip  # one of each
    for dataset in datasets:
        assert dataset[np.int64(1)] is not None
        assert dataset[torch.tensor(1)] is not None
        for use in (dataset.__getitem__, dataset.key):
            with pytest.raises(SourceError, match="give one whole number") as caught:
                use(index)
            assert "\n" not in str(caught.value)
            with pytest.raises(IndexError):
                use(len(dataset))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(np.zeros((4, 4, 3), np.uint8), 0)])


@pytest.mark.parametrize("base", [Stream(), iter([1]), 5])
def test_a_stream_is_refused_when_the_dataset_is_made(store, base):
    """What has no items by index is told so, with what to do instead."""
    with pytest.raises(SourceError, match=f"a {type(base).__name__} has no items by index: .*SaliencyLookup"):
        HashedSaliencyDataset(base, store=store)


def test_keys_of_dicts_are_for_wrapped_datasets(built):
    """An option that would be without effect is refused."""
    with pytest.raises(RecipeError, match="image_key= and label_key= are for a wrapped dataset"):
        HashedSaliencyDataset(built, image_key="image")


class Labelled:
    """Items that are their targets, for joins of joins."""

    classes = ("a", "b")

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.targets[index]


@given(st.data())
def test_targets_follow_the_items_however_datasets_are_nested(data):
    """Any tree of Subset and ConcatDataset: targets[i] is that of item i, and the classes are those of the leaves."""

    def tree(depth):
        kind = data.draw(st.sampled_from(["leaf", "subset", "joined"])) if depth else "leaf"
        if kind == "joined":
            return ConcatDataset([tree(depth - 1) for _ in range(data.draw(st.integers(1, 3)))])
        if kind == "subset":
            whole = tree(depth - 1)
            return Subset(whole, data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)))
        return Labelled(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=4)))

    dataset = tree(3)
    assert of_items(dataset, "targets") == [dataset[index] for index in range(len(dataset))]
    assert of_dataset(dataset, "classes") == ("a", "b")
