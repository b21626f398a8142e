import io
import json
import os
import signal
import tarfile

import numpy as np
import pytest
from PIL import Image

from augcache import Recipe, Store, build
from augcache.errors import RecipeError, SourceError, StoreError
from augcache.images.keys import ContentKey
from augcache.records import codec
from augcache.storage.manifest import Source
from augcache.storage.store import Batch
from augcache.training.views import render
from augcache.upkeep.export import export

TOY = Recipe("toy:toy")


@pytest.fixture
def store(images, tmp_path) -> Store:
    store = Store(tmp_path / "images.augcache", "w")
    build(images, TOY, store, workers=0)
    return store


def expected(store: Store, row: Source, view: str, image=None) -> np.ndarray:
    return render(store.get(TOY, row.key), view, image=image)


@pytest.mark.parametrize("view", ["segments", "saliency", "cut", "cutout"])
def test_png_files_show_the_view(run_cli, store, images, tmp_path, view):
    """Every row has its file and its line in the index, with the very pixels that a dataset gives."""
    out = run_cli("export", store.path, tmp_path / "out", "--view", view, "--json")
    assert out.returncode == 0, out.stderr
    assert (json.loads(out.stdout)["total"], json.loads(out.stdout)["written"]) == (6, 6)
    index = json.loads((tmp_path / "out/index.json").read_text())
    rows = {row.name: row for row in store.sources()}
    assert {line["source"] for line in index} == set(rows)
    for line in index:
        row = rows[line["source"]]
        assert (line["label"], line["key"]) == (row.label, row.key.hex())
        pixels = np.asarray(Image.open(tmp_path / "out" / line["file"]).convert("RGB"))
        original = np.asarray(Image.open(images / row.name))
        assert np.array_equal(pixels, expected(store, row, view, original))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_export.json", "a", "b", "index.json"]


def test_segments_keep_the_index_map(store, tmp_path):
    """A segments file holds the labels and the palette themselves, so that they can be coloured anew elsewhere."""
    export(store, tmp_path / "out")
    for row in store.sources():
        image, record = Image.open(tmp_path / f"out/{row.label}/{row.key.hex()}.png"), store.get(TOY, row.key)
        assert np.array_equal(np.asarray(image), record["labels"])
        assert np.array_equal(
            np.array(image.getpalette(), np.uint8).reshape(-1, 3)[: len(record["palette"])], record["palette"]
        )


def test_webdataset_shards(store, tmp_path, monkeypatch):
    """Tar shards hold an image, a class index and a description under one key each, and are the same on every run."""
    monkeypatch.setattr("augcache.upkeep.export.SHARD_IMAGES", 4)
    for name in ("one", "two"):
        export(store, tmp_path / name, format="webdataset", view="saliency")
    shards = sorted((tmp_path / "one").glob("*.tar"))
    assert [shard.read_bytes() for shard in shards] == [
        (tmp_path / "two" / shard.name).read_bytes() for shard in shards
    ]
    members = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    rows = list(store.sources())
    assert len(shards) == 2
    assert sorted(members) == sorted(f"{n:09d}.{suffix}" for n in range(6) for suffix in ("png", "cls", "json"))
    classes = json.loads((tmp_path / "one/classes.json").read_text())
    for number, row in enumerate(rows):
        assert classes[int(members[f"{number:09d}.cls"])] == row.label
        assert json.loads(members[f"{number:09d}.json"])["source"] == row.name
        pixels = np.asarray(Image.open(io.BytesIO(members[f"{number:09d}.png"])).convert("RGB"))
        assert np.array_equal(pixels, expected(store, row, "saliency"))


def test_parquet_has_the_columns_that_hugging_face_reads(store, tmp_path, monkeypatch):
    """Parquet files say that a column holds images and another classes; pixels and labels are right."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("augcache.upkeep.export.SHARD_IMAGES", 4)
    export(store, tmp_path / "out", format="parquet")
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [file.name for file in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    schema = parquet.read_schema(files[0])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["a", "b"], "_type": "ClassLabel"}
    lines = [line for file in files for line in parquet.read_table(file).to_pylist()]
    for line, row in zip(lines, store.sources(), strict=True):
        assert (line["source"], ["a", "b"][line["label"]]) == (row.name, row.label)
        pixels = np.asarray(Image.open(io.BytesIO(line["image"]["bytes"])).convert("RGB"))
        assert np.array_equal(pixels, expected(store, row, "segments"))


def test_without_pyarrow_one_line_says_what_to_install(store, tmp_path, monkeypatch):
    """The message names the extra, and nothing is written."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'augcache\[export\]'"):
        export(store, tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["png", "webdataset"])
def test_an_interrupted_export_is_finished_by_the_same_command(store, images, tmp_path, monkeypatch, format):
    """Killed in the middle, it leaves whole files; run again, it writes what is missing and keeps the rest."""
    monkeypatch.setattr("augcache.upkeep.export.SHARD_IMAGES", 2)
    monkeypatch.setattr("augcache.upkeep.export._TOGETHER", 2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    export(store, whole, format=format)
    child = os.fork()
    if child == 0:
        export(
            store, out, format=format, progress=lambda counts: counts.done > 2 and os.kill(os.getpid(), signal.SIGKILL)
        )
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    for path in out.rglob("*.png"):
        assert path.read_bytes() == (whole / path.relative_to(out)).read_bytes()
    report = export(store, out, format=format)
    assert 0 < report.kept < 6
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if path.suffix != ".part"} == {
        path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.*")
    }
    assert export(store, out, format=format).kept == 6


def test_shards_follow_a_store_that_grew(store, images, tmp_path, monkeypatch):
    """Shards number images by place, so new images make new shards, and none of the old ones stays."""
    from conftest import write_image

    monkeypatch.setattr("augcache.upkeep.export.SHARD_IMAGES", 3)
    export(store, tmp_path / "out", format="parquet") if _has_arrow() else pytest.skip("pyarrow is not installed")
    for seed in range(20, 24):
        write_image(images / f"a/0{seed}.png", seed)
    build(images, TOY, store, workers=0)
    export(store, tmp_path / "out", format="parquet")
    assert sorted(file.name for file in (tmp_path / "out").glob("*.parquet")) == [
        f"train-{n:05d}-of-00004.parquet" for n in range(4)
    ]


def _has_arrow() -> bool:
    import importlib.util

    return importlib.util.find_spec("pyarrow") is not None


def test_an_export_never_mixes_with_other_things(store, tmp_path):
    """A folder with other files, or with another export, is refused and left alone."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(StoreError, match="other things"):
        export(store, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine.txt"]
    export(store, tmp_path / "other")
    with pytest.raises(StoreError, match="another export"):
        export(store, tmp_path / "other", view="cut")


def test_labels_and_names_of_a_stranger_stay_inside_the_folder(tmp_path):
    """Whatever a manifest says, files are written below the folder alone."""
    store = Store(tmp_path / "s.augcache", "w")
    record = {"image": np.zeros((4, 4, 3), np.uint8)}
    rows = [
        Source(f"../{n}.png", ContentKey(bytes([n]) * 16), label=label)
        for n, label in enumerate(["..", "../..", "/tmp", "a/../../b", ".", "x\0y", "\n"], 1)
    ]
    store.commit(TOY, Batch({row.key: codec.encode(record) for row in rows}, rows))
    before = set(tmp_path.rglob("*"))
    export(store, tmp_path / "in/out", view="image")
    new = set(tmp_path.rglob("*")) - before
    assert len([path for path in new if path.suffix == ".png"]) == 7
    assert all(path == tmp_path / "in" or path.is_relative_to(tmp_path / "in/out") for path in new)


def test_resized_copies_are_exported_as_they_are(images, tmp_path):
    """Copies come out with their own pixels, without a view being named."""
    from augcache.building.build import resize

    store = Store(tmp_path / "s.augcache", "w")
    recipe = Recipe("resize", width=8, height=8)
    resize(images, recipe, store, workers=0)
    assert export(store, tmp_path / "out").view == "image"
    for row in store.sources(recipe.digest):
        pixels = np.asarray(Image.open(tmp_path / f"out/{row.label}/{row.key.hex()}.png"))
        assert np.array_equal(pixels, store.get(recipe, row.key)["image"])


def test_what_cannot_be_exported_is_one_clear_line(run_cli, store, images, tmp_path):
    """Unknown views, missing originals and changed originals say so; usage errors end with 2."""
    assert run_cli("export", store.path, tmp_path / "out", "--view", "nothing").returncode == 2
    with pytest.raises(RecipeError, match="no view"):
        export(store, tmp_path / "out", view="nothing")
    with pytest.raises(StoreError, match="'image'"):
        export(store, tmp_path / "out", view="image")
    with pytest.raises(SourceError, match="--source"):
        export(store, tmp_path / "out", view="cutout", source=tmp_path / "nowhere")
    (images / "a/0.png").unlink()
    out = run_cli("export", store.path, tmp_path / "out", "--view", "cutout", "--quiet")
    assert out.returncode == 1
    assert "a/0.png" in out.stderr
