"""Shares of a source, sources by URL, and workers of this machine that are killed."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import worker_processes, write_image
from stores import contents, counts
from video_variants import write_video

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.building.batches import groups
from augcache.building.build import extract_frames, resize
from augcache.building.engines.engine import Part
from augcache.building.workers import open_pool
from augcache.errors import BackendError, RecipeError, SourceError
from augcache.sources import Annotated, Folder, ListFile, MapDataset, Masked, Sharded, Videos, open_source
from augcache.upkeep.merge import merge

TOY = Recipe("toy:toy")


# -- shares -------------------------------------------------------------------------------------------------------


def test_shards_merged_are_the_whole(tmp_path):
    """Every image is in one share of three; the merged store has the bytes and rows of a build of all."""
    for index in range(30):
        write_image(tmp_path / f"p/{'ab'[index % 2]}/{index:02d}.png", index // 2)  # each image twice
    (tmp_path / "p/a/bad.jpg").write_text("no image")
    whole = Store(build(tmp_path / "p", TOY, tmp_path / "whole.augcache", workers=0).store)
    parts = [build(tmp_path / "p", TOY, tmp_path / f"{i}.augcache", workers=0, shard=(i, 3)).store for i in (1, 2, 3)]
    assert all(Store(part).info().sources > 3 for part in parts)
    merged = merge(tmp_path / "all.augcache", parts)
    assert (merged.copied, merged.sources, merged.failures, merged.clashes) == (15, 30, 1, 0)
    everything = Store(tmp_path / "all.augcache")
    assert contents(everything) == contents(whole)
    assert list(everything.sources()) == list(whole.sources())
    assert [row.name for row in everything.failures()] == ["a/bad.jpg"]
    again = merge(tmp_path / "all.augcache", parts)
    assert (again.copied, again.sources) == (0, 0)


def test_a_share_does_not_depend_on_other_files(tmp_path):
    """A new file leaves every other file in the share it was in."""
    for index in range(20):
        write_image(tmp_path / f"{index:02d}.png", index)
    before = [{item.name for item in Sharded(Folder(tmp_path), i, 4)} for i in (1, 2, 3, 4)]
    write_image(tmp_path / "00new.png", 77)
    after = [{item.name for item in Sharded(Folder(tmp_path), i, 4)} for i in (1, 2, 3, 4)]
    assert [names - {"00new.png"} for names in after] == before
    assert sum(map(len, before)) == 20


def test_every_source_has_shares(images, tmp_path):
    """Lists, annotations, masks, datasets, videos and stores are shared out by their names, and lose nothing."""
    names = [item.name for item in Folder(images)]
    (tmp_path / "list.txt").write_text("\n".join(f"images/{name}" for name in names))
    listed = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    content = {"images": listed, "categories": [{"id": 1, "name": "x"}], "annotations": []}
    (tmp_path / "list.json").write_text(json.dumps(content))
    for index in range(4):
        write_video(tmp_path / f"v/{index}.mp4", frames=10)
    copies = resize(images, Recipe("resize", width=8, height=8), tmp_path / "c.augcache", workers=0)
    from augcache.sources.stored import open_images

    sources = [
        ListFile(tmp_path / "list.txt"),
        Annotated(images, tmp_path / "list.json"),
        Masked(Folder(images), images.parent / shutil.copytree(images, tmp_path / "masks").name),
        MapDataset([np.full((4, 4, 3), n, np.uint8) for n in range(9)]),
        Videos(tmp_path / "v"),
        open_images(copies.store),
    ]
    for source in sources:
        shares = []
        for index in (1, 2):
            with_names = Sharded(source, index, 2)
            shares.append([item.name for item in with_names])
            assert len(shares[-1]) == len(with_names)
        assert sorted(shares[0] + shares[1]) == sorted(item.name for item in source)


def test_a_share_of_a_dataset_loads_no_other_image(tmp_path):
    """A dataset of a thousand images in ten shares: a task loads a hundred."""
    loaded = []

    class Data:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            loaded.append(index)
            return np.full((4, 4, 3), index, np.uint8)

    report = build(Data(), TOY, tmp_path / "s.augcache", workers=0, shard=(2, 4))
    assert len(loaded) == report.total < 20


@pytest.mark.parametrize("shard", ["0/4", "5/4", "x", "1/0", "1"])
def test_a_shard_that_is_none(shard, run_cli, images):
    """Exit 2, with the form to give."""
    done = run_cli("build", images, "--transform", "toy:toy", "--shard", shard)
    assert done.returncode == 2
    assert "give I/N with I from 1 to N" in done.stderr


# -- URLs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(images):
    """The images in fsspec's file system in memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in images.rglob("*.png"):
        system.pipe_file(f"/pv/{path.relative_to(images)}", path.read_bytes())
    system.pipe_file("/pv/.hidden/x.png", b"x")
    system.pipe_file("/pv/notes.txt", b"x")
    yield system
    system.store.clear()


def test_a_url_is_built_like_a_folder(memory, images, tmp_path):
    """The same names, labels, digests and entries; a second run reuses all; an object that changes is computed."""
    here = Store(build(images, TOY, tmp_path / "here.augcache", workers=0).store)
    there = tmp_path / "there.augcache"
    assert counts(build("memory://pv", TOY, there, workers=0)) == (6, 0, 0)
    assert contents(Store(there)) == contents(here)
    for mine, theirs in zip(here.sources(), Store(there).sources(), strict=True):
        assert replace(mine, mtime_ns=0) == replace(theirs, mtime_ns=0)
    assert counts(build("memory://pv/", TOY, there, workers=0)) == (0, 6, 0)
    write_image(tmp_path / "new.png", 99)
    memory.pipe_file("/pv/a/0.png", (tmp_path / "new.png").read_bytes())
    assert counts(build("memory://pv", TOY, there, workers=0)) == (1, 5, 0)


def test_a_local_copy_of_a_url_trains(memory, images, tmp_path):
    """Names are relative to the prefix: a folder with the same files finds every entry, whatever their times."""
    build("memory://pv", TOY, tmp_path / "s.augcache", workers=0)
    data = HashedSaliencyDataset(images, store=tmp_path / "s.augcache")
    assert data.classes == ["a", "b"]
    assert data.listing.known.all()
    write_image(images / "a/0.png", 1234)
    assert not HashedSaliencyDataset(images, store=tmp_path / "s.augcache", on_miss="original").listing.known.all()


def test_annotations_and_masks_of_a_url(memory, tmp_path):
    """Labels come from the file, sizes from one listing, masks from objects of the same names."""
    content = {
        "images": [{"id": 1, "file_name": "a/0.png"}, {"id": 2, "file_name": "a/gone.png"}],
        "categories": [{"id": 5, "name": "owl"}],
        "annotations": [{"image_id": 1, "category_id": 5}],
    }
    (tmp_path / "list.json").write_text(json.dumps(content))
    found, gone = open_source("memory://pv", annotations=tmp_path / "list.json")
    assert (found.name, found.label, found.size > 0) == ("a/0.png", "owl", True)
    with pytest.raises(SourceError, match="no such object"):
        gone.load()
    assert len(open_source("memory://pv/a", masks="memory://pv/a")) == 0  # masks are no images of their own
    assert len(open_source("memory://pv/a", masks="memory://pv/b")) == 3


def test_a_file_url_is_a_path(images, tmp_path):
    """file:// is the same code, with the store beside the folder."""
    report = build(f"file://{images}", TOY, workers=0)
    assert Path(report.store) == images.with_name("images.augcache")
    assert counts(build(images, TOY, workers=0)) == (0, 6, 0)


def test_frames_of_videos_by_url(memory, tmp_path):
    """A video is fetched into a file, decoded, and the file is gone."""
    write_video(tmp_path / "v/lion.mp4", frames=30)
    memory.pipe_file("/v/cats/lion.mp4", (tmp_path / "v/lion.mp4").read_bytes())
    recipe = Recipe("frame", every=10)
    there = Store(extract_frames("memory://v", recipe, tmp_path / "there.augcache", workers=0).store)
    here = Store(extract_frames(tmp_path / "v", recipe, tmp_path / "here.augcache", workers=0).store)
    assert contents(there) == contents(here)
    assert [row.name for row in there.sources(recipe.digest)] == ["cats/lion.mp4"] * 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://nothing/here", "memory://nothing/here"),
        ("nosuch://bucket/x", "install the fsspec package for it"),
        ("memory://pv/c", "memory://pv/c"),
    ],
)
def test_a_url_that_gives_nothing(memory, source, message, tmp_path):
    """One line that names the URL and what to do, and no store."""
    with pytest.raises(SourceError, match=message):
        build(source, TOY, tmp_path / "s.augcache", workers=0)
    assert not (tmp_path / "s.augcache").exists()


# -- workers ------------------------------------------------------------------------------------------------------


def double(jobs):
    return [2 * job for job in jobs]


def test_results_in_flight_are_bounded():
    """A reader that is slow holds up the groups, not the memory; and every result comes, once."""
    handed, results, most = 0, [], 0

    def fed():
        nonlocal handed
        for number in range(150):
            handed += 1
            yield [number]

    with open_pool(workers=2) as pool:
        for group, [result] in pool.run(double, fed()):
            assert result == 2 * group[0]
            most = max(most, handed - len(results))
            results.append(result)
            if len(results) < 80:
                time.sleep(0.005)
    assert sorted(results) == list(range(0, 300, 2))
    assert most <= 2 * 2


def test_groups_end_with_single_jobs():
    """No worker waits for more than one image of another; and few groups are small."""
    sizes = [len(group) for group in groups(list(range(64 * 100)), 100)]
    assert sum(sizes) == 6400
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 8
    assert sizes[-200:] == [1] * 200
    assert len(sizes) < 3000
    assert [len(group) for group in groups([1, 2, 3], 0, 1)] == [1, 1, 1]


def test_a_worker_that_is_killed_costs_nothing(tmp_path):
    """SIGKILL to a worker process in the middle: no failure, and the bytes of a clean run."""
    for index in range(30):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    recipe = Recipe("toy:slow", seconds=0.05)
    clean = Store(build(tmp_path / "p", recipe, tmp_path / "clean.augcache", workers=2).store)
    killed = []

    def kill() -> None:
        killed.append(worker_processes(os.getpid())[0])
        os.kill(killed[0], signal.SIGKILL)

    def progress(now) -> None:
        if now.computed > 5 and not killed:
            kill()

    report = build(tmp_path / "p", recipe, tmp_path / "s.augcache", workers=2, progress=progress)
    assert killed
    assert (report.computed, report.failed) == (30, 0)
    assert contents(Store(report.store)) == contents(clean)
    assert list(Store(report.store).sources()) == list(clean.sources())


def test_two_images_that_kill_cost_themselves_alone(tmp_path):
    """Several in one group: each is found, and no neighbour is lost with them."""
    for index in range(40):
        pixels = np.full((8, 8, 3), index + 50, np.uint8)
        pixels[0, 0, 0] = 0 if index in (7, 8) else 200
        from PIL import Image

        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"p/{index:02d}.png")
    report = build(tmp_path / "p", Recipe("toy:faulty"), tmp_path / "s.augcache", workers=2)
    assert (report.computed, report.failed) == (38, 2)
    assert [failure.name for failure in Store(report.store).failures()] == ["07.png", "08.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "local", "--scheduler", "tcp://x:1"], "goes with backend dask or ray"),
        (["--backend", "dask", "--workers", "0"], "leave it out for backend dask"),
    ],
)
def test_options_that_do_not_go_together(options, message, run_cli, images):
    """One line, and nothing is made."""
    done = run_cli("build", images, "--transform", "toy:toy", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not images.with_name("images.augcache").exists()


def test_the_backend_that_was_called_loky(run_cli, images):
    """Both the command line and the library say what it is called now, and make nothing."""
    done = run_cli("build", images, "--transform", "toy:toy", "--backend", "loky")
    assert done.returncode == 2
    assert "loky: this backend is called local now" in done.stderr
    with pytest.raises(RecipeError, match="'loky': this backend is called local now"):
        build(images, TOY, backend="loky")
    with pytest.raises(RecipeError, match="'slurm': give one of local, dask, ray"):
        build(images, TOY, backend="slurm")
    assert not images.with_name("images.augcache").exists()


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed(backend, module, images, tmp_path, monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Exception, match=rf"pip install 'augcache\[{backend}\]'"):
        build(images, TOY, tmp_path / "s.augcache", backend=backend, scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "s.augcache").exists()


class Engine:
    """An engine elsewhere, without the elsewhere."""

    workers, room, is_local = 2, 4, False

    def __init__(self):
        self.groups = []

    def submit(self, *group):
        self.groups.append(group)

    def take(self):
        groups, self.groups = self.groups, []
        return groups


def test_workers_of_another_version_are_refused(monkeypatch):
    """Entries of two versions might differ, so the versions are compared before anything is computed."""
    from augcache.building import workers

    class Other(Engine):
        def wait(self, _seconds):
            return [Part(number, ["0.0.1" for _ in jobs]) for number, _, jobs in self.take()]

    monkeypatch.setattr(workers, "open_engine", lambda *_: contextlib.nullcontext(Other()))
    with (
        pytest.raises(BackendError, match=r"its workers have augcache 0\.0\.1"),
        workers.open_pool("dask", "tcp://x:1"),
    ):
        pass


def test_workers_that_do_not_see_the_images(images, tmp_path, monkeypatch):
    """One error, and not a failure for each image."""
    from augcache.building import run, workers

    class Here(Engine):
        def wait(self, _seconds):
            return [Part(number, function(jobs)) for number, function, jobs in self.take()]

    monkeypatch.setattr(workers, "open_engine", lambda *_: contextlib.nullcontext(Here()))
    assert build(images, TOY, tmp_path / "s.augcache", backend="dask", scheduler="tcp://x:1").computed == 6
    monkeypatch.setattr(run, "exist", lambda paths: [False for _ in paths])
    with pytest.raises(BackendError, match="is here, and not where the workers are"):
        build(images, TOY, tmp_path / "t.augcache", backend="dask", scheduler="tcp://x:1")
    assert not (tmp_path / "t.augcache").exists()
