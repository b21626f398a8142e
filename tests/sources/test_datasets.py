"""Datasets as sources: their own classes and integers, dict items, streams."""

import warnings
from collections import OrderedDict, UserDict
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from augcache import Recipe, Store, build
from augcache.errors import SourceError, SourceWarning
from augcache.sources import MadeDataset, MapDataset, Sharded, Streamed, open_source
from augcache.sources.items import has_length


def image(number: int) -> np.ndarray:
    return np.full((6, 8, 3), number, np.uint8)


class Data:
    """A map-style dataset of given labels, with given attributes."""

    def __init__(self, labels, **attributes):
        self.labels = labels
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return image(index), self.labels[index]


def boxes():
    return Data([{"boxes": [1, 2, 3, 4]}] * 3, classes=["cat"])


def sorted_wrongly():
    return Data([2, 0, 1], classes=["zebra", "ant", "cat"])


def found(source) -> list[tuple[str, int | None]]:
    return [(item.label, item.target) for item in source]


def quietly(source):
    """Classes and labels of a source that is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return source.classes, found(source)


# -- classes and integers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "classes"),
    [
        ({"classes": ["zebra", "ant", "cat"]}, ("zebra", "ant", "cat")),
        ({"classes": ("zebra", "ant", "cat"), "class_to_idx": {"ant": 0}}, ("zebra", "ant", "cat")),
        ({"class_to_idx": {"cat": 2, "ant": 1, "zebra": 0}}, ("zebra", "ant", "cat")),
        ({"features": {"label": SimpleNamespace(names=["zebra", "ant", "cat"])}}, ("zebra", "ant", "cat")),
    ],
)
def test_a_dataset_keeps_its_order_and_integers(attributes, classes):
    """Its names stand in its own order, never sorted; its integers are what it gave."""
    labels = [2, np.int64(0), torch.tensor(1), True]
    expected = [("cat", 2), ("zebra", 0), ("ant", 1), ("ant", 1)]
    data = Data(labels, **attributes)
    for source in (MapDataset(data), MapDataset(Subset(data, [0, 1, 2, 3])), MapDataset(ConcatDataset([data]))):
        assert quietly(source) == (classes, expected)
    assert Sharded(MapDataset(data), 1, 2).classes == classes
    two = MapDataset(ConcatDataset([data, Data([0], classes=["other"])]))
    assert two.classes is None  # two lists of names are none


def test_integers_without_names_stay_as_they_are():
    """Gaps, negative and large numbers; the label is the number as text."""
    for attributes in ({}, {"classes": []}, {"class_to_idx": {"a": 5, "b": 90}}):
        source = MapDataset(Data([90, -1, 7, 10**12], **attributes))
        assert quietly(source) == (None, [("90", 90), ("-1", -1), ("7", 7), (str(10**12), 10**12)])
    beyond = MapDataset(Data([0, -1, 9], classes=["a"]))
    assert quietly(beyond) == (("a",), [("a", 0), ("-1", -1), ("9", 9)])


def test_names_for_labels():
    """A name is found in the dataset's own list; without one it is a label alone."""
    assert quietly(MapDataset(Data(["cat", "ant"], classes=["cat", "ant"]))) == (
        ("cat", "ant"),
        [("cat", 0), ("ant", 1)],
    )
    assert quietly(MapDataset(Data(["cat", "ant"]))) == (None, [("cat", None), ("ant", None)])
    assert quietly(MapDataset([image(1)])) == (None, [("", None)])
    assert quietly(MapDataset([(image(1), None)])) == (None, [("", None)])


@pytest.mark.parametrize(
    "label",
    [0.5, 3.0, [1, 0, 1], np.array([1]), torch.tensor([3]), torch.tensor([0.0, 1.0]), {"boxes": []}, np.float32(1)],
    ids=repr,
)
def test_what_is_no_one_integer_is_not_squeezed(label):
    """Measures, several classes and boxes give neither classes nor targets, and one warning."""
    source = MapDataset(Data([label] * 3, classes=["a", "b"]))
    with pytest.warns(SourceWarning, match=r"MapDataset\(Data\) has labels that are not one integer.*wrap") as caught:
        told = source.classes, found(source)
    assert told == (None, [("", None)] * 3)
    assert len(caught) == 1


def test_a_dataset_that_is_made_in_workers(run_cli, tmp_path):
    """Classes are known at once, targets with the images; what cannot be kept is said once."""
    source = MadeDataset("test_datasets:sorted_wrongly")
    assert source.classes == ("zebra", "ant", "cat")
    views = [item.load() for item in source]
    assert [(each.label, each.target) for each in views] == [("cat", 2), ("zebra", 0), ("ant", 1)]
    assert [item.load_small(lambda *size: size, 1 << 20).target for item in source] == [2, 0, 1]
    source = MadeDataset("test_datasets:boxes")
    with pytest.warns(SourceWarning, match="dataset 'test_datasets:boxes' has labels") as caught:
        told = source.classes, [item.load().target for item in source]
    assert told == (None, [None] * 3)
    assert len(caught) == 1


# -- dict items ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
@pytest.mark.parametrize(
    ("image_key", "label_key"), [("image", "label"), ("img", "fine_label"), ("pixel_values", "labels")]
)
def test_items_that_are_dicts(tmp_path, kind, image_key, label_key):
    """Their columns are found by the usual names, beside others; build takes them."""
    data = [kind({"id": 7, image_key: image(n), label_key: n, "coarse_label": 9, "caption": "x"}) for n in range(3)]
    assert quietly(open_source(data)) == (None, [("0", 0), ("1", 1), ("2", 2)])
    report = build(data, Recipe("toy:toy"), tmp_path / "s.augcache", workers=0)
    assert (report.computed, report.failed) == (3, 0)
    assert [row.label for row in Store(report.store).sources()] == ["0", "1", "2"]


def test_columns_of_other_names():
    """They are given by name; what cannot be told is one clear line, and no guess."""
    data = [
        {"photo": image(n), "image": image(9), "img": image(9), "label": 1, "labels": 2, "kind": n} for n in range(2)
    ]
    source = open_source(data, image_key="photo", label_key="kind")
    assert quietly(source) == (None, [("0", 0), ("1", 1)])
    assert source is not data
    assert [int(item.load().seen[0, 0, 0]) for item in source] == [0, 1]
    with pytest.raises(SourceError, match="with 'image' and 'img': say which with image_key=; it has: 'photo'"):
        list(open_source(data))
    with pytest.raises(SourceError, match="name its image with image_key=; it has: 'photo'"):
        list(open_source([{"photo": image(0)}]))
    with pytest.raises(SourceError, match="without 'foto', which image_key= names; it has: 'photo'"):
        list(open_source(data, image_key="foto"))
    with pytest.raises(SourceError, match="without 'sort', which label_key= names; it has: 'photo'"):
        list(open_source(data, image_key="photo", label_key="sort"))
    with pytest.warns(SourceWarning, match="has several labels.*label_key=") as caught:
        assert found(open_source(data, image_key="photo")) == [("", None)] * 2
    assert len(caught) == 1
    with pytest.raises(SourceError, match="image_key and label_key are for datasets"):
        open_source("x", image_key="photo")


def encoded(number: int) -> bytes:
    file = BytesIO()
    Image.fromarray(image(number)).save(file, "png")
    return file.getvalue()


def test_images_that_are_not_decoded_yet():
    """The bytes of a file, alone or as Hugging Face has them, are an image."""
    data = [{"image": encoded(5)}, {"image": {"bytes": encoded(6), "path": None}}, {"png": encoded(7), "cls": b"3"}]
    source = list(open_source(data))
    assert [int(item.load().seen[0, 0, 0]) for item in source] == [5, 6, 7]
    assert source[2].target == 3
    assert all(any(item.load().digest) for item in source)
    with pytest.raises(SourceError, match="not an image"):
        next(iter(open_source([{"image": b"none"}]))).load()


def test_hugging_face(tmp_path):
    """A real dataset: ClassLabel's names and integers, map-style and as a stream."""
    datasets = pytest.importorskip("datasets")
    classes = datasets.ClassLabel(names=["zebra", "ant"])
    features = datasets.Features({"img": datasets.Image(), "fine_label": classes, "other": datasets.Value("int64")})
    rows = {"img": [{"bytes": encoded(n)} for n in range(3)], "fine_label": [1, 0, 1], "other": [5, 6, 7]}
    table = pyarrow.table(rows, schema=features.arrow_schema)
    data = datasets.Dataset(table, datasets.DatasetInfo(features=features), fingerprint="0")
    expected = ("zebra", "ant"), [("ant", 1), ("zebra", 0), ("ant", 1)]
    assert quietly(open_source(data)) == expected
    stream = open_source(data.to_iterable_dataset())
    assert isinstance(stream, Streamed)
    assert quietly(stream) == expected
    assert build(data, Recipe("toy:toy"), tmp_path / "s.augcache", workers=0).computed == 3


# -- streams ---------------------------------------------------------------------------------------------------


class Numbers(IterableDataset):
    """A stream that claims a length, and counts what was taken of it."""

    classes = ("a", "b")

    def __init__(self, count=5):
        self.count, self.taken = count, 0

    def __len__(self):
        return 1000

    def __iter__(self):
        for number in range(self.count):
            self.taken += 1
            yield image(number), number % 2


def test_a_stream_is_read_as_it_is_asked_for():
    """Nothing is counted or read ahead; its length is not known, whatever it claims."""
    data = Numbers()
    source = open_source(data)
    assert not has_length(source)
    assert source.classes == ("a", "b")
    items = iter(source)
    first = next(items)
    assert (first.name, first.label, first.target, data.taken) == ("000000000", "a", 0, 1)
    assert [item.target for item in items] == [1, 0, 1, 0]
    assert [item.name for item in source] == [f"{n:09d}" for n in range(5)]  # a dataset can be read again
    shares = [Sharded(open_source(data), index, 2) for index in (1, 2)]
    assert not any(map(has_length, shares))
    assert sorted(item.name for share in shares for item in share) == [f"{n:09d}" for n in range(5)]


def test_names_of_a_stream():
    """A key or id names an item; two of one name are an error, for one would take the other's place."""
    webdataset = ({"__key__": f"shard/{n}", "jpg": image(n), "cls": n, "json": {}} for n in range(2))
    source = open_source(webdataset)
    items = list(source)
    assert [(item.name, item.target) for item in items] == [("shard/0", 0), ("shard/1", 1)]
    with pytest.raises(SourceError, match="can be read once, and has been"):
        list(source)
    assert [item.name for item in open_source(iter([{"id": 5, "image": image(0)}]))] == ["5"]
    with pytest.raises(SourceError, match="two of its items are named 'x'"):
        list(open_source(iter([{"id": "x", "image": image(0)}] * 2)))


def test_a_stream_with_faults():
    """An item without image is a failure with its name; a stream of other things, and one that raises, an error."""
    source = open_source(iter([{"id": "a", "image": image(0)}, {"id": "b", "text": "x"}]))
    _, broken = source
    assert broken.name == "b"
    with pytest.raises(SourceError, match="name its image with image_key=; it has: 'id', 'text'"):
        broken.load()
    with pytest.raises(SourceError, match="name its image with image_key="):
        list(open_source(iter([{"text": "x"}])))

    def failing():
        yield image(0)
        raise OSError("connection lost")

    with pytest.raises(SourceError, match="the dataset raised OSError: connection lost"):
        list(open_source(failing()))
    with pytest.raises(SourceError, match="is no source of images"):
        open_source(object())


def test_webdataset(tmp_path):
    """A real WebDataset, decoded and not, is read through its tar file."""
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for number in range(3):
            tar.write({"__key__": f"{number:03d}", "png": encoded(number), "cls": str(2 - number).encode()})
    plain = webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False)
    for data in (plain, plain.decode("pil")):
        items = list(open_source(data))
        assert [(item.name, item.target) for item in items] == [("000", 2), ("001", 1), ("002", 0)]
        assert [int(item.load().seen[0, 0, 0]) for item in items] == [0, 1, 2]
