"""List and annotation files: one integer for each image, or none; never one of several."""

import json
import warnings
from pathlib import Path

import pytest
from conftest import write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from augcache.errors import SourceError, SourceWarning
from augcache.sources import Annotated, ListFile, Sharded, open_source


@pytest.fixture
def root(tmp_path) -> Path:
    for name in "abc":
        write_image(tmp_path / f"{name}.png", ord(name))
    return tmp_path


def found(source):
    return source.classes, [(item.name, item.label, item.target) for item in source]


def quietly(source):
    """What a source says without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return found(source())


@pytest.mark.parametrize(
    ("name", "text", "classes", "targets"),
    [
        ("l.csv", "a.png,dog\nb.png,ant\nc.png,dog\n", ("ant", "dog"), [1, 0, 1]),
        ("l.csv", "a.png,10\nb.png,9\nc.png,-1\n", None, [10, 9, -1]),
        ("l.csv", "a.png,07\nb.png,7\nc.png,1\n", None, [7, 7, 1]),
        ("l.txt", "a.png 3\nb.png 0\nc.png 3\n", None, [3, 0, 3]),
        ("l.txt", "a.png\nb.png\nc.png\n", None, [None] * 3),
        ("l.csv", "a.png,dog\nb.png,\nc.png,ant\n", ("ant", "dog"), [1, None, 0]),
        ("l.csv", "a.png,1\nb.png,one\nc.png,2\n", ("1", "2", "one"), [0, 2, 1]),
        ("l.csv", "a.png,golden retriever\nb.png,x\nc.png,x\n", ("golden retriever", "x"), [0, 1, 1]),
        ("l.csv", "a.png,1,10,20\nb.png,2,30,40\nc.png,1,5,5\n", None, [1, 2, 1]),
        ("l.csv", "a.png,0\nb.png,1\nc.png,1\n", None, [0, 1, 1]),
        ("l.csv", "path,label,valid\na.png,0,1\nb.png,1,1\nc.png,1,0\n", None, [0, 1, 1]),
        ("l.csv", "filename,width,h,class\na.png,9,8,x\nb.png,9,8,y\nc.png,9,8,x\n", ("x", "y"), [0, 1, 0]),
        ("l.tsv", "image_id\tspecies\na.png\tant\nb.png\tdog\nc.png\tant\n", ("ant", "dog"), [0, 1, 0]),
    ],
)  # fmt: skip  # a table
def test_one_class_for_each_image(root, name, text, classes, targets):
    """Integers stay as they are, names are numbered in their order; the column is the one that says so."""
    (root / name).write_text(text)
    told, items = quietly(lambda: ListFile(root / name))
    assert (told, [target for _, _, target in items]) == (classes, targets)
    if classes:
        assert all(target is None or classes[target] == label for _, label, target in items)
    assert Sharded(ListFile(root / name), 1, 1).classes == classes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image_id,cat,dog\na.png,1,0\nb.png,0,1\nc.png,1,1\n", "its columns are 0 or 1"),
        ("a.png,1,0\nb.png,0,1\nc.png,0,0\n", "its columns are 0 or 1"),
        ("image_id,Young,Male\na.png,-1,1\nb.png,1,1\nc.png,1,-1\n", "its columns are 0 or 1"),
        ("image,MEL,NV\na.png,0.0,1.0\nb.png,1.0,0.0\nc.png,1.0,0.0\n", "its columns are 0 or 1"),
        ("filename,width,height\na.png,9,8\nb.png,9,8\nc.png,7,8\n", "which of its columns is the class"),
        ("path,label,y,x\na.png,0.5,1,2\nb.png,1,2,3\nc.png,2,2,3\n", "its labels are measures"),
        ("a.png,0.5\nb.png,1\nc.png,2e3\n", "its labels are measures"),
        ("a.png,Mass|Nodule\nb.png,Mass\nc.png,Mass\n", "an image has several labels"),
        ("a.png,16 0\nb.png,1\nc.png,2\n", "an image has several labels"),
        ("image_name,tags\na.png,haze primary\nb.png,clear\nc.png,clear\n", "an image has several labels"),
    ],
)
def test_what_is_no_one_class_is_not_squeezed(root, text, reason):
    """No classes, targets or labels, and one warning that says why and what to do."""
    (root / "l.csv").write_text(text)
    with pytest.warns(SourceWarning, match=rf"l\.csv: {reason}.*wrap a dataset") as caught:
        source = ListFile(root / "l.csv")
    assert found(source) == (None, [(f"{name}.png", "", None) for name in "abc"])
    assert len(caught) == 1


@pytest.mark.parametrize(
    "word",
    ["path", "image_id", "img_path", "file_name", "filename", "image", "Image Name", "ImageID", "filepath", "img-name"],
)
@pytest.mark.parametrize(("name", "separator"), [("l.csv", ","), ("l.tsv", "\t"), ("l.txt", " ")])
def test_a_header_is_no_image(root, word, name, separator):
    """A first line that names columns is passed over, with a byte order mark and comments before it too."""
    word = word.replace(" ", "") if separator == " " else word
    lines = "".join(
        f"{each}{separator}label\n" if each == word else f"{each}.png{separator}x\n" for each in (word, *"abc")
    )
    (root / name).write_text(("# list\n" if name == "l.txt" else "\ufeff") + lines)
    assert [item.name for item in open_source(root / name)] == ["a.png", "b.png", "c.png"]


LABELS = st.one_of(st.integers(-3, 30).map(str), st.sampled_from(["ant", "Bee", "é", "a b", "z-1"]))


@given(st.dictionaries(st.sampled_from("abc"), LABELS, min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_list(tmp_path_factory, labels):
    """Whatever the labels: all integers, as they are; else their places in the sorted list."""
    folder = tmp_path_factory.mktemp("l")
    for name in labels:
        (folder / f"{name}.png").write_bytes(b"x")
    (folder / "l.csv").write_text("".join(f"{name}.png,{label}\n" for name, label in labels.items()))
    classes = sorted(set(labels.values()))
    whole = all(label.lstrip("-").isdigit() for label in classes)
    expected = [
        (f"{name}.png", label, int(label) if whole else classes.index(label)) for name, label in sorted(labels.items())
    ]
    assert quietly(lambda: ListFile(folder / "l.csv")) == (None if whole else tuple(classes), expected)


# -- annotation files -----------------------------------------------------------------------------------------


def annotated(root: Path, pairs, ids=(90, 3, 7), keep=()) -> Annotated:
    """Annotations of a, b and c with categories "dog", "cat" and "ant" under the given ids."""
    content = {
        "images": [{"id": name, "file_name": f"{name}.png"} for name in "abc"],
        "categories": [{"id": i, "name": n, "kind": n[0]} for i, n in zip(ids, ("dog", "cat", "ant"), strict=True)],
        "annotations": [{"image_id": image, "category_id": category} for image, category in pairs],
    }
    (root / "a.json").write_text(json.dumps(content))
    return Annotated(root, root / "a.json", keep)


def test_categories_in_the_order_of_their_ids(root):
    """Names by id, also those of no image; targets are places there, and with ids from 0 the ids themselves."""
    source = annotated(root, [("a", 90), ("b", 3), ("b", 3)])
    assert (source.category_ids, source.classes) == ((3, 7, 90), ("cat", "ant", "dog"))
    assert quietly(lambda: source)[1] == [("a.png", "dog", 2), ("b.png", "cat", 0), ("c.png", "", None)]
    assert [source.category_ids[item.target] for item in source if item.label] == [90, 3]
    source = annotated(root, [("a", 1), ("b", 2), ("c", 0)], ids=(0, 1, 2))
    assert quietly(lambda: source)[1] == [("a.png", "cat", 1), ("b.png", "ant", 2), ("c.png", "dog", 0)]
    share = Sharded(source, 1, 1)
    assert (share.classes, [item.target for item in share]) == (("dog", "cat", "ant"), [1, 2, 0])


def test_several_categories_for_an_image(root):
    """One image with two makes a source without classes and targets, and a warning; labels stay joined."""
    pairs = [("a", 90), ("a", 3), ("b", 7)]
    with pytest.warns(SourceWarning, match=r"1 of 3 images have several categories.*wrap a dataset") as caught:
        source = annotated(root, pairs)
    assert found(source) == (None, [("a.png", "cat,dog", None), ("b.png", "ant", None), ("c.png", "", None)])
    assert len(caught) == 1
    kept = quietly(lambda: annotated(root, pairs, keep=["kind=c,a"]))  # of those that are kept each image has one
    assert kept == (("cat", "ant"), [("a.png", "cat", 0), ("b.png", "ant", 1)])


def test_annotations_and_datasets_do_not_mix(root):
    """A dataset has labels of its own; an annotation file beside it is refused, not ignored."""
    with pytest.raises(SourceError, match="annotations are for a folder"):
        open_source([1], annotations=root / "a.json")
