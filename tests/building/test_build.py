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
from stores import contents, counts

from augcache import CachedImages, Recipe, Store, build, content_key
from augcache.errors import RecipeError, SourceError, StoreError
from augcache.records import codec

TOY = Recipe("toy:toy")


def test_twice_computes_once(images, tmp_path):
    """Running the same command again computes nothing; a new file computes one; a copy none."""
    log = tmp_path / "log"
    recipe = Recipe("toy:traced", log=str(log))
    path = tmp_path / "s.augcache"
    assert counts(build(images, recipe, path, workers=2)) == (6, 0, 0)
    assert counts(build(images, recipe, path, workers=2)) == (0, 6, 0)
    write_image(images / "a/new.png", 99)
    shutil.copyfile(images / "a/0.png", images / "b/copy.png")
    assert counts(build(images, recipe, path, workers=2)) == (1, 7, 0)
    assert len(log.read_text().split()) == 7


def test_an_image_under_many_names_is_computed_once(tmp_path):
    """Copies, and the same pixels in another file format, share one record, found in one run."""
    pixels = write_image(tmp_path / "p/0.png", 5)
    for index in range(1, 9):
        Image.fromarray(pixels).save(tmp_path / f"p/{index}.{'png' if index % 2 else 'bmp'}")
    log = tmp_path / "log"
    report = build(tmp_path / "p", Recipe("toy:traced", log=str(log)), tmp_path / "s.augcache", workers=2)
    assert counts(report) == (1, 8, 0)
    assert len(log.read_text().split()) == 1
    assert {row.key for row in Store(report.store).sources()} == {content_key(pixels)}


def test_a_changed_parameter_computes_anew_and_keeps_the_old(images, tmp_path):
    """Two recipes live side by side in one store."""
    path = tmp_path / "s.augcache"
    build(images, TOY, path, workers=0)
    assert counts(build(images, Recipe("toy:toy", shift=5), path, workers=0)) == (6, 0, 0)
    info = Store(path).info()
    assert (info.entries, info.sources, [each.entries for each in info.recipes]) == (12, 6, [6, 6])


def test_one_worker_or_many_give_the_same_bytes(images, tmp_path):
    """What is stored does not depend on how many workers made it."""
    stores = [Store(build(images, TOY, tmp_path / f"{n}.augcache", workers=n).store) for n in (0, 1, 2, 3)]
    assert len(contents(stores[0])) == 6
    assert all(contents(store) == contents(stores[0]) for store in stores[1:])
    assert all(list(store.sources()) == list(stores[0].sources()) for store in stores[1:])


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(images, tmp_path):
    """A text file named .jpg fails with its reason; when it is mended, the same command finishes the job."""
    (images / "a/bad.jpg").write_text("this is no image")
    report = build(images, TOY, tmp_path / "s.augcache", workers=2)
    assert counts(report) == (6, 0, 1)
    [failure] = Store(report.store).failures()
    assert (failure.name, failure.reason) == ("a/bad.jpg", "not an image that can be read")
    Image.open(images / "a/0.png").rotate(90).save(images / "a/bad.jpg", "PNG")
    assert counts(build(images, TOY, tmp_path / "s.augcache", workers=2)) == (1, 6, 0)
    assert list(Store(report.store).failures()) == []


def test_an_image_that_kills_its_worker_is_listed_and_the_rest_is_done(tmp_path):
    """A crash or an exception in the transform costs its own image alone."""
    for index in range(20):
        pixels = np.full((8, 8, 3), index + 50, np.uint8)
        pixels[0, 0, 0] = {7: 0, 11: 1}.get(index, 200)
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"p/{index:02d}.png")
    report = build(tmp_path / "p", Recipe("toy:faulty"), tmp_path / "s.augcache", workers=2)
    assert counts(report) == (18, 0, 2)
    reasons = {failure.name: failure.reason for failure in Store(report.store).failures()}
    assert "worker process died (SIGKILL)" in reasons["07.png"]
    assert reasons["11.png"] == "the transform raised ValueError: as asked"


def test_a_changed_file_is_noticed(images, tmp_path):
    """Other pixels under an old name are computed, and the manifest follows."""
    path = tmp_path / "s.augcache"
    build(images, TOY, path, workers=0)
    pixels = write_image(images / "a/0.png", 1234, size=(30, 20))
    assert counts(build(images, TOY, path, workers=0)) == (1, 5, 0)
    assert Store(path).source("a/0.png").key == content_key(pixels)


def test_a_rotated_photograph_is_found_both_ways(tmp_path):
    """Loaders that apply the EXIF orientation and loaders that ignore it both hit."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "p").mkdir()
    Image.fromarray(pixels).save(tmp_path / "p/x.png", exif=exif)
    store = Store(build(tmp_path / "p", TOY, tmp_path / "s.augcache", workers=0).store)
    upright = np.rot90(pixels, -1)
    assert (TOY, content_key(upright)) in store
    assert (TOY, content_key(pixels)) in store
    assert store.source("x.png").key == content_key(upright)


def test_limit_takes_the_first_by_name(images, tmp_path):
    """--limit 2 means the same two images on every machine."""
    report = build(images, TOY, tmp_path / "s.augcache", workers=0, limit=2)
    assert [row.name for row in Store(report.store).sources()] == ["a/0.png", "a/2.png"]


def test_datasets_in_memory(tmp_path):
    """Anything with a length and items that start with an image can be built."""
    images = [np.full((4, 4, 3), n, np.uint8) for n in (1, 2, 2)]
    data = [(image, label) for label, image in enumerate(images)]
    report = build(data, TOY, tmp_path / "s.augcache", workers=2)
    assert counts(report) == (2, 1, 0)
    assert [row.label for row in Store(report.store).sources()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda p: None, {}, SourceError, "no such folder"),
        (lambda p: p.mkdir(), {}, SourceError, "no images in this folder"),
        (lambda p: (p.mkdir(), (p / "x.txt").write_text("x")), {}, SourceError, "no images in this folder"),
        (lambda p: p.write_text("x"), {}, SourceError, "a file, not a folder"),
        (lambda p: write_image(p / "x.png", 1), {"workers": -1}, RecipeError, "workers -1"),
        (lambda p: write_image(p / "x.png", 1), {"limit": 0}, SourceError, "no images to work on"),
    ],
    ids=["missing", "empty", "no images", "file", "workers", "limit"],
)
def test_nothing_is_written_when_there_is_nothing_to_do(tmp_path, make, options, error, message):
    """A mistake leaves no store behind."""
    make(tmp_path / "p")
    with pytest.raises(error, match=message):
        build(tmp_path / "p", TOY, tmp_path / "s.augcache", **options)
    assert not (tmp_path / "s.augcache").exists()


def test_the_store_is_beside_the_folder_or_where_the_environment_says(images, tmp_path, monkeypatch):
    """data/pv goes to data/pv.augcache, $AUGCACHE_STORE comes first, an argument before both."""
    assert build(images, TOY, workers=0).store == str(tmp_path / "images.augcache")
    monkeypatch.setenv("AUGCACHE_STORE", str(tmp_path / "env.augcache"))
    assert build(images, TOY, workers=0).store == str(tmp_path / "env.augcache")
    assert build(images, TOY, tmp_path / "arg.augcache", workers=0).store == str(tmp_path / "arg.augcache")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_build_keeps_what_it_finished_and_goes_on(tmp_path, sign):
    """Killed or interrupted, the same command finishes the job with the same bytes as a clean run."""
    pixels = [write_image(tmp_path / f"p/{index:02d}.png", index) for index in range(24)]
    recipe, path = Recipe("toy:slow", seconds=0.3), tmp_path / "s.augcache"
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from augcache import *
build({str(tmp_path / "p")!r}, Recipe("toy:slow", seconds=0.3), {str(path)!r}, workers=2)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if path.exists() and (path / "data.mdb").exists() and len(Store(path)) > 5:
            break
    os.killpg(process.pid, sign)
    process.wait()
    done = len(Store(path))
    assert 5 < done < 24
    report = build(tmp_path / "p", recipe, path, workers=4)
    assert report.computed == 24 - done
    clean = {content_key(image): codec.encode({"mean": image.mean((0, 1)).astype(np.float32)}) for image in pixels}
    assert {key: data for (_, key), data in contents(Store(path)).items()} == clean
    assert [row.key for row in Store(path).sources()] == [content_key(image) for image in pixels]


def test_a_full_disk_is_one_clear_line_and_can_be_finished(tmp_path):
    """On a full disk nothing committed is lost; with room again, the same command finishes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        noise = [np.random.default_rng(n).integers(0, 256, (100, 100, 3), dtype=np.uint8) for n in range(60)]
        recipe = Recipe("toy:toy", shift=0)
        build(noise[:10], recipe, disk / "s.augcache", workers=0)
        with pytest.raises(StoreError, match="no space left on the disk; free some and run the same command again"):
            build(noise, recipe, disk / "s.augcache", workers=0)
        before = len(Store(disk / "s.augcache"))
        assert before >= 10
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        report = build(noise, recipe, disk / "s.augcache", workers=0)
        assert counts(report) == (60 - before, before, 0)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def numbered_stream(count):
    for number in range(count):
        yield {"__key__": f"{number:03d}", "image": np.full((8, 8, 3), number, np.uint8), "label": number % 3}


def test_a_stream_is_built_as_it_comes(tmp_path):
    """An iterable without length: every image has its record and its label; an empty one leaves no store."""
    path = tmp_path / "s.augcache"
    report = build(numbered_stream(150), TOY, path, workers=2)
    assert (report.total, *counts(report)) == (150, 150, 0, 0)
    assert counts(build(numbered_stream(150), TOY, path, workers=0, limit=10)) == (0, 10, 0)
    assert [(row.name, row.label) for row in Store(path).sources()] == [(f"{n:03d}", str(n % 3)) for n in range(150)]
    with pytest.raises(SourceError, match="no images to work on"):
        build(numbered_stream(0), TOY, tmp_path / "none.augcache", workers=0)
    assert not (tmp_path / "none.augcache").exists()


def test_a_transform_of_kind_image(images, tmp_path):
    """What it makes takes the place of its input, under the key of its own pixels, with the input's label."""
    report = build(images, Recipe("toy:darker"), tmp_path / "s.augcache", workers=0)
    assert counts(report) == (6, 0, 0)
    data = CachedImages(report.store, output="array")
    for index in range(6):
        image, target = data[index]
        assert data.key(index) == content_key(image)
        assert data.classes[target] == data.names[index].split("/")[0]
        original = np.asarray(Image.open(images / data.names[index]))
        assert np.array_equal(image, original // 2)


def test_a_recipe_by_name_or_by_the_start_of_its_digest(images, tmp_path, monkeypatch):
    """A name stands for the defaults, a digest for a recipe of the store, which the environment may name."""
    path = tmp_path / "s.augcache"
    monkeypatch.setenv("AUGCACHE_STORE", str(path))
    shifted = Recipe("toy:toy", shift=5)
    assert counts(build(images, shifted, workers=0)) == (6, 0, 0)
    assert counts(build(images, shifted.digest.hex()[:8], workers=0)) == (0, 6, 0)
    report = build([np.zeros((4, 4, 3), np.uint8)], "toy:toy", workers=0)
    assert (report.store, report.recipe, counts(report)) == (str(path), TOY.digest.hex(), (1, 0, 0))
    for unknown in ("0123abcd", "nowhere"):
        with pytest.raises(RecipeError, match=f"transform '{unknown}'"):
            build(images, unknown, workers=0)
