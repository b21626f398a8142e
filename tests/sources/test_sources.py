import json
import os
import pickle
import shutil
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image

from augcache import CachedImages, Recipe, Store, build
from augcache.building.build import resize
from augcache.errors import SourceError
from augcache.sources import Annotated, ListFile, MadeDataset, MapDataset, Masked, Packed, json_stream, open_source

SMALL = Recipe("resize", width=16, height=12)


def listed(source):
    assert len(list(source)) == len(source)
    return [(item.name, item.label) for item in source]


# -- folders and lists --------------------------------------------------------------------------------------


def test_flat_folder(tmp_path):
    """Images without class folders have one class, number 0, as in HashedSaliencyDataset."""
    for index in range(3):
        write_image(tmp_path / f"p/{index}.png", index)
    data = CachedImages(resize(tmp_path / "p", SMALL, tmp_path / "s.augcache", workers=0).store)
    assert (data.classes, data.targets) == ([""], [0, 0, 0])


def test_a_class_folder_of_any_name(tmp_path):
    """A folder whose name is in an old encoding is a class as any other."""
    name = os.fsdecode(b"caf\xe9")
    write_image(tmp_path / "p" / name / "x.png", 1)
    built = build(tmp_path / "p", Recipe("toy:toy"), tmp_path / "t.augcache", workers=0)
    assert [row.label for row in Store(built.store).sources()] == [name]
    assert CachedImages(resize(tmp_path / "p", SMALL, tmp_path / "s.augcache", workers=0).store).classes == [name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "# a comment\nb/1.png cat\n\na/0.png dog\nodd name.png\n"),
        ("l.csv", '﻿path,label,other\nb/1.png,cat,3\na/0.png,dog,4\n"odd name.png",\n'),
        ("l.tsv", "b/1.png\tcat\na/0.png\tdog\nodd name.png\t\n"),
    ],
)
def test_list_files(tmp_path, name, text):
    """A list names images and labels; a path may have spaces; the order is that of the names."""
    for image in ("a/0.png", "b/1.png", "odd name.png"):
        write_image(tmp_path / image, 1)
    (tmp_path / name).write_text(text)
    source = open_source(tmp_path / name)
    assert listed(source) == [("a/0.png", "dog"), ("b/1.png", "cat"), ("odd name.png", "")]
    assert all(item.size and item.mtime_ns for item in source)


def test_list_files_with_mistakes(images, tmp_path):
    """Two labels for an image are an error; an image that is not there is a failure; an empty list an error."""
    (tmp_path / "l.txt").write_text("images/a/0.png x\nimages/a/0.png y\n")
    with pytest.raises(SourceError, match=r"line 2: images/a/0\.png has two labels, x and y"):
        ListFile(tmp_path / "l.txt")
    (tmp_path / "l.txt").write_text("images/a/0.png x\nimages/gone.png y\n")
    report = resize(tmp_path / "l.txt", SMALL, tmp_path / "s.augcache", workers=0)
    assert (report.computed, report.failed) == (1, 1)
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(SourceError, match="as a list it is empty"):
        ListFile(tmp_path / "l.txt")


# -- annotation files -----------------------------------------------------------------------------------------

INAT_2017 = {
    "info": {"year": 2017},
    "images": [{"id": 5, "file_name": "images/a/0.png"}, {"id": 7, "file_name": "images/b/1.png"},
               {"id": 8, "file_name": "images/b/3.png"}],
    "licenses": [],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 0}, {"id": 2, "image_id": 7, "category_id": 1},
                    {"id": 3, "image_id": 8, "category_id": 2}],
    "categories": [{"id": 0, "name": "Ara macao", "supercategory": "Aves"},
                   {"id": 1, "name": "Lynx lynx", "supercategory": "Mammalia"},
                   {"id": 2, "name": "Acer rubrum", "supercategory": "Plantae"}],
}  # fmt: skip  # as the files look


def inat_2021():
    kingdoms = ["Animalia", "Animalia", "Plantae"]
    return INAT_2017 | {
        "categories": [
            {"id": c["id"], "name": c["name"], "common_name": "x", "supercategory": "y", "kingdom": kingdom,
             "phylum": "z", "image_dir_name": "00_w"}
            for c, kingdom in zip(INAT_2017["categories"], kingdoms, strict=True)
        ],
    }  # fmt: skip  # as the files look


@pytest.mark.parametrize(
    ("content", "rule"), [(INAT_2017, "supercategory=Aves, Mammalia"), (inat_2021(), "kingdom=Animalia")]
)
def test_inaturalist(images, tmp_path, content, rule, run_cli):
    """Both forms; animals alone; labels are the names of the species, whatever the folders are called."""
    (tmp_path / "train.json").write_text(json.dumps(content))
    source = open_source(tmp_path, annotations=tmp_path / "train.json", keep=[rule])
    assert listed(source) == [("images/a/0.png", "Ara macao"), ("images/b/1.png", "Lynx lynx")]
    out = run_cli(
        "resize", tmp_path, "--annotations", tmp_path / "train.json", "--keep", rule, "--size", "16x12", "--workers", 0,
        "--store", tmp_path / "s.augcache",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert CachedImages(tmp_path / "s.augcache").classes == ["Ara macao", "Lynx lynx"]


def test_coco(images, tmp_path):
    """An image with things of several kinds has all their names; one without annotations has none, or is left out."""
    content = INAT_2017 | {
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": [1, 2, 3, 4.5], "segmentation": [[0.5, 1]]}
            for image, category in ((5, 1), (5, 0), (5, 1), (7, 2))
        ]
    }
    (tmp_path / "c.json").write_text(json.dumps(content, indent=1))
    names = [("images/a/0.png", "Ara macao,Lynx lynx"), ("images/b/1.png", "Acer rubrum"), ("images/b/3.png", "")]
    assert listed(Annotated(tmp_path, tmp_path / "c.json")) == names
    kept = Annotated(tmp_path, tmp_path / "c.json", ["supercategory=Mammalia,Plantae", "name=Lynx lynx"])
    assert listed(kept) == [("images/a/0.png", "Lynx lynx")]


@pytest.mark.parametrize(
    ("change", "keep", "message"),
    [
        ({}, ["order=Aves"], "no category has a field 'order'; they have: id, name, supercategory"),
        ({}, ["supercategory=Pisces"], "no category has supercategory=Pisces; there are: Aves, Mammalia, Plantae"),
        ({}, ["supercategory"], "give FIELD=VALUE"),
        ({"images": []}, [], "it lists no images"),
        ({"images": [{"id": 1, "file_name": 7}]}, [], "not of COCO's or iNaturalist's form"),
        ({"images": [{"id": 1}]}, [], "not of COCO's or iNaturalist's form"),
        ({"images": [{"id": 1, "file_name": "../x.png"}]}, [], "leads out of the folder"),
        ({"images": [{"id": 1, "file_name": "elsewhere/x.png"}]}, [], "give the folder that these paths start from"),
        ({"annotations": []}, ["name=Lynx lynx"], "no image has a category with name=Lynx lynx"),
    ],
)
def test_annotations_with_mistakes(images, tmp_path, change, keep, message):
    """One clear line that says what there is instead."""
    (tmp_path / "t.json").write_text(json.dumps(INAT_2017 | change))
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path, annotations=tmp_path / "t.json", keep=keep)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"images": [1,', '{"images": [1 2]}', "not json", '{"a": [[[' + "[" * 9999]
)
def test_broken_json_is_one_line(tmp_path, text):
    """Cut short or of another kind: an error of ours, never a traceback."""
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(SourceError, match=r"t\.json"):
        open_source(tmp_path, annotations=tmp_path / "t.json")


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_json_is_read_in_pieces(tmp_path, monkeypatch, chunk):
    """Wherever a read ends, the elements are those that the whole file holds."""
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = {
        "info": {"a": [1]},
        "n": 123456,
        "images": [{"id": 12345, "file_name": 'ü"\\[]{},'}, {}],
        "x": [],
        "y": [-1.5e3, 77],
    }
    (tmp_path / "t.json").write_text(json.dumps(content, indent=chunk % 2, ensure_ascii=False))
    expected = [(key, element) for key, value in content.items() if isinstance(value, list) for element in value]
    assert list(json_stream.members(tmp_path / "t.json")) == expected


# -- CIFAR and STL-10 --------------------------------------------------------------------------------------------


def as_python_2(value):
    """Pickle a batch as Python 2 did for the download, protocol 2 with byte strings."""
    if isinstance(value, dict):
        return b"}(" + b"".join(as_python_2(key) + as_python_2(each) for key, each in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(as_python_2, value)) + b"e"
    if isinstance(value, int):
        return b"K" + bytes([value])
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode()
    count, width = value.shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\tK\x00\x85U\x01b\x87Rq\n(K\x01"
        + struct.pack("<BHBH", 77, count, 77, width) + b"\x86cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87Rq\x0c("
        b"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", value.nbytes) + value.tobytes() + b"tb"
    )  # fmt: skip  # instruction by instruction


def python_2(value):
    return b"\x80\x02" + as_python_2(value) + b"."


@pytest.fixture
def cifar():
    rows = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    return rows, rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), [2, 0, 1, 1, 2], ["dog", "bird", "cat"]


def check_packed(root, pixels, labels, size, split="train"):
    source = open_source(root, split=split)
    assert isinstance(source, Packed)
    items = list(source)
    assert [item.label for item in items] == labels
    names = ("dog", "bird", "cat") if size == 32 else ("airplane", "bird")
    assert source.classes == (names if any(labels) else None)
    assert [item.target for item in items] == [names.index(label) if label else None for label in labels]
    assert all(np.array_equal(item.load().seen, image) for item, image in zip(items, pixels, strict=True))
    recipe = Recipe("resize", width=size, height=size)
    path = root.with_name("packed.augcache")
    report = resize(source, recipe, path, workers=0)
    assert (report.computed, report.failed) == (len(labels), 0)
    assert resize(source, recipe, path, workers=0).reused == len(labels)
    data = CachedImages(path, recipe, output="array")
    assert all(np.array_equal(image, one) for (image, _), one in zip(data, pixels, strict=True))
    assert [data.classes[target] for target in data.targets] == labels
    shutil.rmtree(path)


def test_cifar_binary(tmp_path, cifar):
    """CIFAR-10 and CIFAR-100 as downloaded: pixels, fine labels and names; a copy of 32x32 is the image itself."""
    rows, pixels, labels, names = cifar
    named = [names[label] for label in labels]
    for root, file, meta, before in (
        ("c10", "data_batch_1.bin", "batches.meta.txt", 0),
        ("c100", "train.bin", "fine_label_names.txt", 1),
    ):
        folder = tmp_path / root
        folder.mkdir()
        packed = b"".join(
            b"\x09" * before + bytes([label]) + row.tobytes() for label, row in zip(labels, rows, strict=True)
        )
        (folder / file).write_bytes(packed)
        (folder / meta).write_text("\n".join(names) + "\n\n")
        check_packed(folder, pixels, named, 32)
    (tmp_path / "c10/data_batch_1.bin").write_bytes(packed[:-1])
    with pytest.raises(SourceError, match="no whole number of records"):
        open_source(tmp_path / "c10")


@pytest.mark.parametrize("kind", ["python 2", "protocol 2", "protocol 3", "protocol 4"])
def test_cifar_python(tmp_path, cifar, kind):
    """The pickled versions, as downloaded and as Python 3 writes them again, without unpickling."""
    rows, pixels, labels, names = cifar
    dump = python_2 if kind == "python 2" else lambda value: pickle.dumps(value, protocol=int(kind[-1]))
    for root, file, key, meta, meta_key in (
        ("c10", "data_batch_1", "labels", "batches.meta", "label_names"),
        ("c100", "train", "fine_labels", "meta", "fine_label_names"),
    ):
        folder = tmp_path / root
        folder.mkdir()
        (folder / file).write_bytes(dump({"batch_label": "training batch", key: labels, "data": rows}))
        (folder / meta).write_bytes(dump({meta_key: names, "num_cases_per_batch": 5}))
        check_packed(folder, pixels, [names[label] for label in labels], 32)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/augcache-was-here",)


@pytest.mark.parametrize(
    "forged",
    [
        lambda rows: pickle.dumps({"data": Evil(), "labels": [1]}, 2),
        lambda rows: pickle.dumps(Evil()),
        lambda rows: b"cos\nsystem\n(S'touch /tmp/augcache-was-here'\ntR.",
        lambda rows: pickle.dumps({"data": rows, "labels": [0] * 5}, 5),
        lambda rows: pickle.dumps({"data": rows.astype(object), "labels": [0] * 5}, 4),
        lambda rows: pickle.dumps({"data": rows[:4], "labels": [0] * 5}, 4),
        lambda rows: pickle.dumps({"data": rows, "labels": [0, 0, 0, 0, 9]}, 4),
        lambda rows: pickle.dumps({"data": rows, "labels": "00000"}, 4),
        lambda rows: pickle.dumps({"data": rows, "labels": [0] * 5}, 4).replace(b"M\x00\x0c", b"M\x01\x0c"),
        lambda rows: python_2({"data": rows, "labels": [0] * 5})[:9000],
        lambda rows: b"\x80\x02h\x05.",
        lambda rows: b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a place in the memo that takes 16 GB if it is believed
        lambda rows: b"cnumpy\nndarray\n)R}X\x01\x00\x00\x00aK\x01sb.",
        lambda rows: b"\x80\x02cnumpy\ndtype\n}(X\x08\x00\x00\x00__code__K\x01u\x86b.",
        lambda rows: b"\x80\x04\x95" + b"\xff" * 8 + b".",
        lambda rows: b"e.",
        lambda rows: b"",
        lambda rows: os.urandom(4000),
    ],
)
def test_forged_pickles_run_nothing(tmp_path, cifar, forged):
    """Whatever is in the file, nothing of it is run, and the error is one of ours."""
    rows, _, _, names = cifar
    (tmp_path / "data_batch_1").write_bytes(forged(rows))
    (tmp_path / "batches.meta").write_bytes(python_2({"label_names": names}))
    with pytest.raises(SourceError, match="data_batch_1"):
        open_source(tmp_path)
    assert not os.path.exists("/tmp/augcache-was-here")


def test_stl_10(tmp_path):
    """Images are stored column by column and labels from 1; the unlabelled split has none; splits stay apart."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split, part in (("train", pixels[:3]), ("test", pixels[3:]), ("unlabeled", pixels[1:])):
        (folder / f"{split}_X.bin").write_bytes(part.transpose(0, 3, 2, 1).tobytes())
    (folder / "train_y.bin").write_bytes(bytes([2, 1, 2]))
    (folder / "test_y.bin").write_bytes(bytes([1]))
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    check_packed(folder, pixels[:3], ["bird", "airplane", "bird"], 96)
    check_packed(folder, pixels[3:], ["airplane"], 96, split="test")
    check_packed(folder, pixels[1:], [""] * 3, 96, split="unlabeled")
    with pytest.raises(SourceError, match="give one of train, test, unlabeled"):
        open_source(folder, split="val")


def test_real_cifar(shared_data, run_cli, tmp_path):
    """The real file gives real images: saliency and copies take the same source."""
    store = tmp_path / "c.augcache"
    args = ("--store", store, "--limit", 8, "--workers", 0, "--json")
    out = run_cli("resize", shared_data / "cifar10", "--size", "32", *args)
    assert json.loads(out.stdout)["computed"] == 8, out.stderr
    out = run_cli("build", shared_data / "cifar10", "--transform", "toy:toy", *args)
    assert json.loads(out.stdout)["computed"] == 8, out.stderr
    copies, originals = Store(store).sources(Recipe("resize", width=32, height=32).digest), Store(store).sources()
    assert [(row.name, row.label, row.key) for row in copies] == [(row.name, row.label, row.key) for row in originals]


# -- datasets -----------------------------------------------------------------------------------------------------


class Numbered:
    """A dataset as torchvision's: PIL images, number labels."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return Image.new("RGB", (20, 20), (index, 9, 9)), [index, np.int64(index), torch.tensor(index)][index % 3]


class Classed(Numbered):
    classes = [  # noqa: RUF012  # as torchvision has it
        f"class {letter}" for letter in "abcdefghijkl"
    ]


def numbered():
    return Numbered()


def test_datasets(tmp_path):
    """Number labels keep their values, whatever type they come in; a dataset's class names are used."""
    for dataset, classes in ((Numbered(), list(map(str, range(12)))), (Classed(), Classed.classes)):
        store = resize(dataset, SMALL, tmp_path / f"{type(dataset).__name__}.augcache", workers=0).store
        data = CachedImages(store, output="array")
        assert (data.classes, data.targets) == (classes, list(range(12)))
        assert [int(image[0, 0, 0]) for image, _ in data] == list(range(12))


def test_a_dataset_by_name(run_cli, tmp_path):
    """--dataset makes the dataset in each worker, for every command that builds."""
    here = partial(run_cli, cwd=Path(__file__).parent)  # where this file can be imported
    store = tmp_path / "d.augcache"
    out = here("resize", "--dataset", "test_sources:numbered", "--size", "16x12", "--store", store, "--workers", 2)
    assert out.returncode == 0, out.stderr
    assert CachedImages(store).targets == list(range(12))
    out = here(
        "build", "--dataset", "test_sources:numbered", "--transform", "toy:toy", "--store", store, "--workers", 0
    )
    assert out.returncode == 0, out.stderr
    assert [row.label for row in Store(store).sources()][10:] == ["10", "11"]
    out = here("resize", "--dataset", "test_sources:numbered")
    assert (out.returncode, "give --store" in out.stderr) == (2, True)


def test_a_dataset_that_cannot_be_made(images):
    """A mistake in a name, or options that do not go together, are one clear line."""
    for name, message in (("test_sources:nothing", "has no 'nothing'"), ("nowhere:f", "no module 'nowhere'")):
        with pytest.raises(SourceError, match=message):
            MadeDataset(name)
    with pytest.raises(SourceError, match=r"package\.module:function"):
        MadeDataset("os.system('true')")
    with pytest.raises(SourceError, match="is no source of images"):
        MadeDataset("builtins:object")
    with pytest.raises(SourceError, match="give --annotations"):
        open_source(images, keep=["a=b"])
    with pytest.raises(SourceError, match="--split is for"):
        open_source(images, split="train")


def test_made_datasets_are_made_once_a_process():
    """A worker does not open the dataset anew for each image."""
    items = list(MadeDataset("test_sources:numbered"))
    assert [item.load().label for item in items] == list(map(str, range(12)))
    assert listed(MapDataset(Numbered()))[3] == ("000000003", "3")


# -- masks -----------------------------------------------------------------------------------------------------------


def write_mask(path, labels, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.convert(mode).save(path) if mode != "P" else image.save(path)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_masks_follow_their_images(tmp_path, fit):
    """Classes stay classes, and lie where the image's pixels lie; palette images give their indices."""
    for index, mode in enumerate(("L", "P", "RGB")):
        labels = np.zeros((60, 90), np.uint8)
        labels[20:50, 10 + 10 * index : 70] = 2
        labels[:20] = 1
        Image.fromarray(np.stack([labels * 100] * 3, 2)).save(tmp_path / f"x{index}.png")
        write_mask(tmp_path / f"masks/x{index}.png", labels, mode)
    recipe = Recipe("resize", width=30, height=30, fit=fit, masks=True)
    source = open_source(tmp_path, masks=tmp_path / "masks")
    assert len(source) == 3  # the masks are no images
    store = resize(source, recipe, tmp_path / "s.augcache", workers=0).store
    assert list(Store(store).failures()) == []
    data = CachedImages(store, target="both", output="array")
    for image, (label, mask) in data:
        assert (mask.shape, mask.dtype, label) == ((30, 30), np.uint8, 0)
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert np.mean(np.abs(image[..., 0].astype(int) - mask * 100) < 60) > 0.9
    assert CachedImages(store, target="mask")[0][1].mode == "L"


def test_a_changed_mask_is_noticed(tmp_path, run_cli):
    """An image's copy follows its mask; a mask of another size, or none, is a failure with its reason."""
    write_image(tmp_path / "p/x.png", 1)
    write_image(tmp_path / "p/wrong.png", 2)
    write_image(tmp_path / "p/none.png", 3)
    write_mask(tmp_path / "m/x.png", np.full((20, 24), 1, np.uint8))
    write_mask(tmp_path / "m/wrong.png", np.full((20, 23), 1, np.uint8))
    args = ("resize", tmp_path / "p", "--masks", tmp_path / "m", "--size", "8", "--json")
    assert json.loads(run_cli(*args).stdout)["failed"] == 2
    store = tmp_path / "p.augcache"
    reasons = {failure.name: failure.reason for failure in Store(store).failures()}
    assert "23 x 20, the image 24 x 20" in reasons["wrong.png"]
    assert reasons["none.png"] == "there is no mask of its name; see --masks"
    write_mask(tmp_path / "m/x.png", np.full((20, 24), 3, np.uint8))
    assert json.loads(run_cli(*args).stdout)["computed"] == 1
    data = CachedImages(store, target="mask", output="array")
    assert len(data) == 1
    assert (data[0][1] == 3).all()
    with pytest.raises(SourceError, match="masks are for images in files"):
        Masked(MapDataset(Numbered()), tmp_path / "m")


def test_saliency_takes_lists_too(images, tmp_path):
    """build() opens what resize() opens."""
    (tmp_path / "l.txt").write_text("images/a/0.png x\nimages/b/1.png y\n")
    report = build(tmp_path / "l.txt", Recipe("toy:toy"), tmp_path / "s.augcache", workers=0)
    assert [(row.name, row.label) for row in Store(report.store).sources()] == [
        ("images/a/0.png", "x"), ("images/b/1.png", "y"),
    ]  # fmt: skip
