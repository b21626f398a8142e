import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from PIL import Image

from augcache import Recipe, Store, build, content_key
from augcache.building.batches import Made
from augcache.building.build import resize
from augcache.building.run import Plan, run
from augcache.building.workers import open_pool
from augcache.errors import RecipeError, SourceError
from augcache.records import codec
from augcache.sources import Folder
from augcache.storage.manifest import Source
from augcache.testing import check_transform
from augcache.transforms.resize import decode_encoded, place

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for processes that import this file

SMALL = Recipe("resize", width=16, height=12)


def counts(report):
    return report.computed, report.reused, report.failed


def rows(path, recipe=SMALL):
    return {row.name: row for row in Store(path).sources(recipe.digest)}


def copy_of(path, name, recipe=SMALL):
    return Store(path).get(recipe, rows(path, recipe)[name].key)["image"]


def test_copies_of_a_folder(images, tmp_path):
    """Each image becomes a copy of the asked size, under the hash of the copy's pixels, with its class."""
    path = tmp_path / "s.augcache"
    assert counts(resize(images, SMALL, path, workers=2)) == (6, 0, 0)
    found = rows(path)
    assert [(name, row.label) for name, row in found.items()][:2] == [("a/0.png", "a"), ("a/2.png", "a")]
    for name in found:
        copy = copy_of(path, name)
        assert (copy.shape, copy.dtype) == ((12, 16, 3), np.uint8)
        assert content_key(copy) == found[name].key
    assert list(Store(path).sources()) == []  # nothing is known of the originals' own keys


def test_twice_computes_once_and_changes_are_noticed(images, tmp_path):
    """Run again, nothing is done; a new file, a changed one and a copy of one are each told apart."""
    path = tmp_path / "s.augcache"
    resize(images, SMALL, path, workers=0)
    assert counts(resize(images, SMALL, path, workers=2)) == (0, 6, 0)
    write_image(images / "a/new.png", 99)
    write_image(images / "a/0.png", 98, size=(30, 20))
    shutil.copyfile(images / "a/2.png", images / "b/copy.png")
    assert counts(resize(images, SMALL, path, workers=2)) == (2, 6, 0)
    assert rows(path)["b/copy.png"].key == rows(path)["a/2.png"].key


def test_a_file_that_breaks_later_is_no_longer_listed_as_an_image(images, tmp_path):
    """The copy of what a file once was is not served for what it is now."""
    path = tmp_path / "s.augcache"
    resize(images, SMALL, path, workers=0)
    (images / "a/0.png").write_text("no image")
    assert counts(resize(images, SMALL, path, workers=0)) == (0, 5, 1)
    assert "a/0.png" not in rows(path)
    assert [failure.name for failure in Store(path).failures()] == ["a/0.png"]
    write_image(images / "a/0.png", 0)
    assert counts(resize(images, SMALL, path, workers=0)) == (0, 6, 0)
    assert list(Store(path).failures()) == []


def test_one_worker_or_many_give_the_same_bytes(images, tmp_path):
    """What is stored does not depend on how many workers made it."""
    contents = []
    for workers in (0, 1, 3):
        store = Store(resize(images, SMALL, tmp_path / f"{workers}.augcache", workers=workers).store)
        records = {key: store.get_bytes(SMALL.digest, key) for key in store.keys(SMALL)}
        contents.append((records, list(store.sources(SMALL.digest))))
    assert len(contents[0][0]) == 6
    assert contents[0] == contents[1] == contents[2]


def test_copies_and_saliency_live_in_one_store(images, tmp_path):
    """Resizing into a store that holds something else leaves that as it was, whichever comes first."""
    path, toy = tmp_path / "s.augcache", Recipe("toy:toy")
    build(images, toy, path, workers=0)
    before = list(Store(path).sources())
    resize(images, SMALL, path, workers=0)
    resize(images, Recipe("resize", width=8, height=8), path, workers=0)
    assert list(Store(path).sources()) == before
    assert [recipe.entries for recipe in Store(path).info().recipes] == [6, 6, 6]
    assert counts(build(images, toy, path, workers=0)) == (0, 6, 0)


@pytest.mark.parametrize(
    ("fit", "box", "inside"),
    [
        ("stretch", (0, 0, 1, 1), (64, 64, 0, 0)),
        ("crop", (0.25, 0, 0.75, 1), (64, 64, 0, 0)),
        ("pad", (0, 0, 1, 1), (64, 32, 0, 16)),
    ],
)
def test_fit(fit, box, inside, tmp_path):
    """Stretch keeps all, crop the middle, pad the shape; a wide image shows which."""
    placement = place(400, 200, (64, 64), fit)
    assert placement.box == box
    assert (placement.width, placement.height, placement.left, placement.top) == inside
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, :100], image[:, 100:300], image[:, 300:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    copy = Recipe("resize", fit=fit).bind()(image)["image"]
    middle = copy[32]
    reds, blues = (middle[:, 0] > 100).sum(), (middle[:, 2] > 100).sum()
    assert (reds, blues) == ((0, 0) if fit == "crop" else (16, 16))
    assert (copy[0].max() == 0) == (fit == "pad")


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("stored", ["raw", "webp", "jpeg"])
def test_the_transform_keeps_the_contract(fit, stored):
    """Pure and total for every image, down to one pixel."""
    check_transform(Recipe("resize", fit=fit, stored=stored, width=12, height=20))


def test_formats(shared_data, tmp_path):
    """Raw and WebP give the same pixels, JPEG nearly; each is keyed by the pixels that come back."""
    source = shared_data / "coco128" / "images"
    stores = {}
    for stored in ("raw", "webp", "jpeg"):
        recipe = Recipe("resize", stored=stored)
        store = Store(resize(source, recipe, tmp_path / f"{stored}.augcache", workers=0, limit=5).store)
        stores[stored] = [store.get(recipe, row.key) for row in store.sources(recipe.digest)]
        keys = [row.key for row in store.sources(recipe.digest)]
    raw = [record["image"] for record in stores["raw"]]
    webp, jpeg = ([decode_encoded(record["encoded"]) for record in stores[name]] for name in ("webp", "jpeg"))
    assert all(map(np.array_equal, raw, webp))
    assert all(np.abs(one - two.astype(float)).mean() < 4 for one, two in zip(raw, jpeg, strict=True))
    assert [content_key(copy) for copy in jpeg] == keys
    size = {name: sum(record[next(iter(record))].nbytes for record in records) for name, records in stores.items()}
    assert size["jpeg"] < size["webp"] < size["raw"]


def psnr(one, two):
    return 10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - two.astype(float)) ** 2)))


@pytest.mark.parametrize("factor", [1, 3, 6])
def test_scaled_decoding_looks_like_full_decoding(shared_data, tmp_path, factor):
    """Images of 0.3 to 10 megapixels: the copy is what a full decode and a Lanczos filter give, but for noise."""
    files = sorted((shared_data / "coco128" / "images").iterdir())[:6]
    (tmp_path / "p").mkdir()
    for file in files:
        image = Image.open(file).convert("RGB")
        image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC).save(
            tmp_path / "p" / file.name, quality=92
        )
    recipe = Recipe("resize")
    path = resize(tmp_path / "p", recipe, tmp_path / "s.augcache", workers=0).store
    quality = []
    for file in files:
        whole = Image.open(tmp_path / "p" / file.name).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)
        quality.append(psnr(np.asarray(whole), copy_of(path, file.name, recipe)))
    assert np.median(quality) >= 38, quality
    assert min(quality) >= 30


def test_orientation_is_applied(tmp_path):
    """A photograph lies in the store as a viewer shows it, cropped by its shape as seen, not as stored."""
    image = np.zeros((300, 900, 3), np.uint8)
    image[:, :300, 0], image[:, 600:, 2] = 220, 220  # red left, blue right
    (tmp_path / "p").mkdir()
    for tag, turn in ((1, 0), (3, 2), (6, 1), (8, 3)):
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(np.rot90(image, turn)).save(tmp_path / f"p/{tag}.jpg", exif=exif, quality=95)
    for fit in ("stretch", "crop", "pad"):
        recipe = Recipe("resize", width=48, height=24, fit=fit)
        path = resize(tmp_path / "p", recipe, tmp_path / "s.augcache", workers=0).store
        copies = [copy_of(path, f"{tag}.jpg", recipe).astype(int) for tag in (1, 3, 6, 8)]
        assert all(np.abs(copy - copies[0]).mean() < 1 for copy in copies)
        assert (copies[0][12, 4] == (0, 0, 0)).all() == (fit == "crop") or copies[0][12, 4, 0] > 150


def test_nasty_files(shared_data, tmp_path):
    """Every odd file that should decode is stored, every other one is listed with its reason, and nothing crashes."""
    report = resize(shared_data / "nasty", SMALL, tmp_path / "s.augcache", workers=2)
    with open(shared_data / "manifest.csv", newline="") as file:
        expected = {
            row["path"].removeprefix("nasty/"): row["should_decode"]
            for row in csv.DictReader(file)
            if row["path"].startswith("nasty/")
        }
    found = {row.name for row in Store(report.store).sources(SMALL.digest)}
    failed = {failure.name: failure.reason for failure in Store(report.store).failures()}
    assert not {name for name in found if expected.get(name) == "no"}
    assert not {name: reason for name, reason in failed.items() if expected.get(name) == "yes"}
    assert len(found) + len(failed) == report.total
    assert all(failed.values())


def test_large_images_can_be_refused(tmp_path):
    """--max-pixels lists what is larger, before it is decoded."""
    for name, size in (("small", (50, 40)), ("large", (200, 100))):
        write_image(tmp_path / f"p/{name}.png", 1, size)
    path = tmp_path / "s.augcache"
    assert counts(resize(tmp_path / "p", SMALL, path, workers=0, max_pixels=10_000)) == (1, 0, 1)
    [failure] = Store(path).failures()
    assert (failure.name, failure.reason) == ("large.png", "200 x 100 pixels; the most is 10000")


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": 1.5}, {"fit": "squash"}, {"stored": "gif"}])
def test_wrong_parameters_are_refused(wrong):
    """A value out of range stops before the first image."""
    with pytest.raises(RecipeError, match="give"):
        Recipe("resize", **wrong)


def test_command_line(run_cli, images, tmp_path):
    """Sizes are N or WxH; the report, the exit status and the messages are those of every build."""
    out = run_cli("resize", images, "--size", "10x8", "--workers", 1, "--json")
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["computed"] == 6
    assert json.loads(run_cli("resize", images, "--size", "10x8", "--json").stdout)["reused"] == 6
    recipe = Recipe("resize", width=10, height=8)
    assert copy_of(tmp_path / "images.augcache", "a/0.png", recipe).shape == (8, 10, 3)
    (images / "a/bad.jpg").write_text("no image")
    assert run_cli("resize", images, "--size", "10x8").returncode == 4
    assert run_cli("resize", images, "--size", "0").returncode == 2
    assert run_cli("resize", tmp_path / "nowhere").returncode == 1
    assert not (tmp_path / "nowhere.augcache").exists()


# -- results of many rows an item ---------------------------------------------------------------------------


def frames_of(count, item):
    """An item as a video of `count` frames: the first is the same for all."""
    if item.name == "a/2.png":
        os.kill(os.getpid(), signal.SIGKILL)
    if item.name == "b/1.png":
        raise SourceError("as asked")
    if item.name == "b/3.png":
        return Made(reason="no frames")
    images = [np.full((2, 2, 3), index and ord(item.name[2]) * 4 + index, np.uint8) for index in range(count)]
    keys = [content_key(image) for image in images]
    rows = [
        Source(item.name, key, item.size, item.mtime_ns, bytes(16), item.label, index, index / 25)
        for index, key in enumerate(keys)
    ]
    return Made(rows, {key: codec.encode({"image": image}) for key, image in zip(keys, images, strict=True)})


class Count:
    def __init__(self, count):
        self.count = count

    def __call__(self, item, _most):
        return frames_of(self.count, item)


def ran(folder, recipe, path, work, workers):
    store = Store(path, "w")
    with open_pool(workers=workers) as pool, store.exclusive():
        return run(Plan(recipe, work), Folder(folder), store, pool)


def test_one_item_may_give_many_rows(images, tmp_path):
    """Frames of one file come and go together; a crash, an error and a reason cost their own item alone."""
    path, recipe = tmp_path / "s.augcache", SMALL
    assert counts(ran(images, recipe, path, Count(3), workers=2)) == (3, 0, 3)
    store = Store(path)
    assert [(row.name, row.frame) for row in store.sources(recipe.digest)] == [
        (name, frame) for name in ("a/0.png", "a/4.png", "b/5.png") for frame in range(3)
    ]
    reasons = {failure.name: failure.reason for failure in store.failures()}
    assert "SIGKILL" in reasons["a/2.png"]
    assert (reasons["b/1.png"], reasons["b/3.png"]) == ("as asked", "no frames")
    assert len(store) == 7  # 3 x 2 of their own, and the first, which they share
    assert counts(ran(images, recipe, path, Count(3), workers=2)) == (0, 3, 3)


def test_rows_of_a_file_that_got_shorter_go(images, tmp_path):
    """Frames that a changed file no longer has are no longer listed."""
    for name in ("a/2.png", "b/1.png", "b/3.png"):
        (images / name).unlink()
    path, recipe = tmp_path / "s.augcache", SMALL
    ran(images, recipe, path, Count(5), workers=0)
    os.utime(images / "a/0.png", ns=(1, 1))
    assert counts(ran(images, recipe, path, Count(2), workers=0)) == (0, 3, 0)
    lengths = [sum(row.name == name for row in Store(path).sources(recipe.digest)) for name in ("a/0.png", "a/4.png")]
    assert lengths == [2, 5]


def test_nothing_is_written_when_there_is_nothing_to_do(tmp_path):
    """An empty folder leaves no store behind."""
    (tmp_path / "p").mkdir()
    with pytest.raises(SourceError, match="no images in this folder"):
        resize(tmp_path / "p", SMALL, tmp_path / "s.augcache")
    assert not (tmp_path / "s.augcache").exists()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_keeps_what_it_finished_and_goes_on(tmp_path, sign):
    """Killed or interrupted, the same command finishes the job; no row is without its record."""
    for index in range(24):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    path = tmp_path / "s.augcache"
    code = f"""
import sys, time; sys.path[:0] = {HERE!r}
from test_resize import SMALL, ran, slowly
ran({str(tmp_path / "p")!r}, SMALL, {str(path)!r}, slowly, 2)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if (path / "data.mdb").exists() and len(Store(path)) > 5:
            break
    os.killpg(process.pid, sign)
    process.wait()
    done = len(Store(path))
    assert 5 < done < 24
    assert all((SMALL, row.key) in Store(path) for row in Store(path).sources(SMALL.digest))
    assert counts(ran(tmp_path / "p", SMALL, path, slowly, workers=4)) == (24 - done, done, 0)


def slowly(item, _most):
    time.sleep(0.3)
    image = item.load().seen
    key = content_key(image)
    row = Source(item.name, key, item.size, item.mtime_ns, bytes(16), item.label)
    return Made([row], {key: codec.encode({"image": image})})
