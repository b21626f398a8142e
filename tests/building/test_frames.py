import json
import os
import pickle
import socket

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from video_variants import write_video

from augcache import HashedSaliencyDataset, Recipe, Store, VideoFrames, build, content_key
from augcache.building.build import extract_frames
from augcache.building.frames import frames_of
from augcache.building.record_buffer import RecordBuffer
from augcache.errors import RecipeError, SourceError, StoreError
from augcache.sources import Videos
from augcache.sources.videos import SUFFIXES
from augcache.video.child_process import VideoBug
from augcache.video.read import Sampling, decode


@pytest.fixture
def videos(tmp_path):
    root = tmp_path / "ak"
    write_video(root / "lion/a.mp4", seed=1)
    write_video(root / "lion/b.mkv", frames=12, seed=2)
    write_video(root / "zebra/c.avi", frames=25, seed=3)
    return root


def counts(report):
    return report.computed, report.reused, report.failed


def test_the_job(run_cli, videos, tmp_path):
    """Extract, run again, read as a dataset: exact frames, in order, with where they came from."""
    command = ("extract-frames", videos, "--every", 10, "--size", "32x24", "--json")
    out = run_cli(*command)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["computed"] == 3
    assert json.loads(run_cli(*command).stdout)["reused"] == 3
    data = VideoFrames(tmp_path / "ak.augcache", output="array")
    found = [(data.info(i).source, data.info(i).frame) for i in range(len(data))]
    assert found == [
        *(("lion/a.mp4", k) for k in (0, 10, 20)),
        *(("lion/b.mkv", k) for k in (0, 10)),
        *(("zebra/c.avi", k) for k in (0, 10, 20)),
    ]
    expected = [frame for name in ("lion/a.mp4", "lion/b.mkv", "zebra/c.avi")
                for frame in decode(videos / name, Sampling(every=10), (32, 24))]  # fmt: skip
    assert all(np.array_equal(image, frame.image) for image, frame in zip(data, expected, strict=True))
    assert data.info(1).seconds == data.info(1)["seconds"] == pytest.approx(1.0)
    assert data.key(0) == content_key(expected[0].image)
    assert Store(tmp_path / "ak.augcache").info().failures == 0


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ([], "say which frames", 2),
        (["--every", 10, "--seconds", 2], "exactly one of every, seconds and keyframes", 1),
        (["--every", 10, "--size", "big"], "--size big", 2),
        (["--seconds", 1, "--anchors", 2], "anchors need every", 1),
    ],
)
def test_contradictions_are_named(run_cli, videos, tmp_path, options, message, code):
    """What cannot be meant is one clear line, and leaves no store."""
    out = run_cli("extract-frames", videos, *options)
    assert (out.returncode, out.stdout) == (code, "")
    assert message in out.stderr
    assert not (tmp_path / "ak.augcache").exists()


def test_a_folder_without_videos_is_named(images):
    """Images are no videos."""
    with pytest.raises(SourceError, match="no videos in this folder"):
        extract_frames(images, Recipe("frame", every=10))


def test_damage_keeps_the_frames_before_it_and_is_tried_again(videos, tmp_path):
    """A video that is cut short gives what it has, is listed with why, and is finished once it is whole."""
    whole = (videos / "lion/b.mkv").read_bytes()
    (videos / "lion/b.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (videos / "zebra/not.mp4").write_text("no video")
    recipe = Recipe("frame", every=2)
    report = extract_frames(videos, recipe, workers=2)
    assert counts(report) == (2, 0, 2)
    store = Store(report.store)
    reasons = {failure.name: failure.reason for failure in store.failures()}
    assert sorted(reasons) == ["lion/b.mkv", "zebra/not.mp4"]
    assert "before that" in reasons["lion/b.mkv"]
    kept = [row.frame for row in store.sources(recipe.digest) if row.name == "lion/b.mkv"]
    assert kept == list(range(0, 2 * len(kept), 2))
    assert 0 < len(kept) < 6
    (videos / "lion/b.mkv").write_bytes(whole)
    (videos / "zebra/not.mp4").unlink()
    assert counts(extract_frames(videos, recipe, workers=2)) == (1, 2, 0)
    assert [row.frame for row in store.sources(recipe.digest) if row.name == "lion/b.mkv"] == [0, 2, 4, 6, 8, 10]


def reasons(store):
    return {failure.name: failure.reason for failure in Store(store).failures()}


def test_only_files_are_read(run_cli, videos, tmp_path, monkeypatch):
    """A pipe, a socket or a device with a video's name is a failure that says what it is, and holds nothing up."""
    os.mkfifo(videos / "pipe.mp4")
    (videos / "device.mp4").symlink_to("/dev/zero")
    monkeypatch.chdir(videos)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
        out = run_cli("extract-frames", videos, "--every", 10, "--json", timeout=60)
    assert (out.returncode, json.loads(out.stdout)["computed"]) == (4, 3)
    assert reasons(tmp_path / "ak.augcache") == {
        "device.mp4": "is a device, not a regular file",
        "pipe.mp4": "is a named pipe, not a regular file",
        "socket.mp4": "is a socket, not a regular file",
    }
    alone = extract_frames(videos / "pipe.mp4", Recipe("frame", every=10), tmp_path / "alone.augcache", workers=0)
    assert reasons(alone.store) == {"pipe.mp4": "is a named pipe, not a regular file"}


def test_a_file_that_becomes_something_else(videos, tmp_path):
    """What a pipe or a folder took the place of after it was listed is a failure; what is gone is one, too."""
    items = Videos(videos)
    for name in ("lion/a.mp4", "lion/b.mkv", "zebra/c.avi"):
        (videos / name).unlink()
    os.mkfifo(videos / "lion/a.mp4")
    (videos / "lion/b.mkv").mkdir()
    store = extract_frames(items, Recipe("frame", every=10), tmp_path / "s.augcache", workers=0).store
    assert reasons(store) == {
        "lion/a.mp4": "is a named pipe, not a regular file",
        "lion/b.mkv": "is a folder, not a regular file",
        "zebra/c.avi": "cannot be read: No such file or directory",
    }


def test_a_fault_of_our_own_is_raised(videos, monkeypatch):
    """A bug in the decoder's process is no reason of a video."""

    def fails(*_):
        raise VideoBug("Traceback ...")

    monkeypatch.setattr("augcache.transforms.frame.decode_isolated", fails)
    [item, *_] = Videos(videos)
    with pytest.raises(VideoBug):
        frames_of(Recipe("frame", every=10), 5.0, 1, None, item)


@pytest.mark.slow
def test_a_large_frame(tmp_path):
    """One of 8K comes through at native size, as it is decoded."""
    path = tmp_path / "large.mkv"
    y, x = np.mgrid[:4320, :7679]
    image = np.stack([x // 30, y // 17, (x + y) // 50], axis=-1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 7679, 4320, "bgr0"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    report = extract_frames(path, Recipe("frame", every=1), tmp_path / "s.augcache", workers=0, level=1)
    assert counts(report) == (1, 0, 0)
    assert np.array_equal(VideoFrames(report.store, output="array")[0], image)


def test_workers_do_not_matter(videos, tmp_path):
    """One process or two give the same rows and records."""
    recipe = Recipe("frame", every=5, width=16, height=16)
    one, two = (Store(extract_frames(videos, recipe, tmp_path / f"{n}.augcache", workers=n).store) for n in (0, 2))
    assert list(one.sources(recipe.digest)) == list(two.sources(recipe.digest))
    assert [one.get_bytes(recipe.digest, key) for key in one.keys(recipe)] == [
        two.get_bytes(recipe.digest, key) for key in two.keys(recipe)
    ]


def test_identical_frames_are_stored_once(tmp_path):
    """A still image of a hundred frames is one entry."""
    with av.open(str(tmp_path / "still.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")))
        container.mux(stream.encode())
    report = extract_frames(tmp_path / "still.mp4", Recipe("frame", every=1), tmp_path / "s.augcache", workers=0)
    assert len(Store(report.store)) == 1
    assert len(VideoFrames(report.store)) == 20


def test_anchors_and_successors(videos):
    """Clips are an anchor and its successors of one video, the gap apart, and never reach past its end."""
    recipe = Recipe("frame", every=10, anchors=2, gap=3)
    store = extract_frames(videos, recipe, workers=2).store
    clips = VideoFrames(store, clip=2, output="tensor")
    assert [[(f.source[-5], f.frame) for f in clips.info(i)] for i in range(len(clips))] == [
        [("a", 0), ("a", 3), ("a", 6)], [("a", 10), ("a", 13), ("a", 16)], [("a", 20), ("a", 23), ("a", 26)],
        [("b", 0), ("b", 3), ("b", 6)],
        [("c", 0), ("c", 3), ("c", 6)], [("c", 10), ("c", 13), ("c", 16)],
    ]  # fmt: skip
    [batch] = DataLoader(clips, batch_size=len(clips), num_workers=2)
    assert [x.shape for x in batch] == [torch.Size([6, 3, 48, 64])] * 3
    assert torch.equal(batch[1][3], clips[3][1])
    assert len(VideoFrames(store, clip=1)) == 7  # frame 10 of b.mkv has no second successor, but no first either
    with pytest.raises(RecipeError, match="--anchors 2"):
        VideoFrames(store, clip=3)


def test_clips_of_plain_frames_are_the_next_ones(videos):
    """Without anchors, successors are the next frames that were extracted."""
    store = extract_frames(videos, Recipe("frame", every=10), workers=2).store
    clips = VideoFrames(store, clip=1)
    assert [tuple(f.frame for f in clips.info(i)) for i in range(len(clips))] == [
        (0, 10),
        (10, 20),
        (0, 10),
        (0, 10),
        (10, 20),
    ]
    with pytest.raises(SourceError, match="no clips of 5 successors"):
        VideoFrames(store, clip=5)


def test_saliency_of_frames(videos):
    """build-saliency takes a store of frames, and a dataset of frames finds what it computed."""
    store = extract_frames(videos, Recipe("frame", every=10), workers=2).store
    assert counts(build(store, Recipe("toy:toy"), workers=2)) == (8, 0, 0)
    assert counts(build(store, Recipe("toy:toy"), workers=2)) == (0, 8, 0)
    wrapped = HashedSaliencyDataset(VideoFrames(store), store=store, jitter=None)
    alone = HashedSaliencyDataset(store=store, jitter=None)
    assert len(wrapped) == len(alone) == 8
    assert np.array_equal(np.asarray(wrapped[5]), np.asarray(alone[5][0]))


def test_other_stores_are_refused(images):
    """A store without frames says so."""
    build(images, Recipe("toy:toy"), workers=0)
    with pytest.raises(StoreError, match="no recipe here gives video frames"):
        VideoFrames(images.with_name("images.augcache"))


def test_a_spool_gives_what_was_put_in(tmp_path, monkeypatch):
    """Many records go through a file, few through memory; both come out whole, and the file goes away."""
    monkeypatch.setattr("augcache.building.record_buffer.IN_MEMORY", 100)
    spool = RecordBuffer(str(tmp_path))
    records = {bytes([n]) * 16: bytes([n]) * (30 + n) for n in range(20)}
    for key, data in records.items():
        spool.add(key, data)
        spool.add(key, b"again")
    back = pickle.loads(pickle.dumps(spool))
    assert dict(back) == records
    assert len(list(tmp_path.iterdir())) == 1
    back.discard()
    assert list(tmp_path.iterdir()) == []


def test_common_suffixes_count():
    """Clips of cameras and phones are found."""
    assert {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mts"} <= SUFFIXES
