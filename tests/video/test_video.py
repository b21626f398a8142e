"""Frames of a video come out by their exact index, from any file, and no file can stop the work."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import video_variants

from augcache.errors import AugcacheError, SourceError
from augcache.video.child_process import VideoBug, VideoProcess, decode_isolated
from augcache.video.index import Run
from augcache.video.read import Frame, Sampling, VideoError, decode

EVERY = Sampling(every=1)
SAMPLINGS = [
    EVERY,
    Sampling(every=1, start=0.001),
    Sampling(every=7),
    Sampling(every=10, max_frames=3),
    Sampling(every=100),
    Sampling(every=20, anchors=2, gap=3),
    Sampling(every=5, start=0.6, end=1.7),
    Sampling(seconds=0.3),
    Sampling(keyframes=True),
]


@pytest.fixture(scope="session")
def variant(tmp_path_factory):
    """Make a video of a kind, once."""
    folder = tmp_path_factory.mktemp("variants")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            video_variants.VARIANTS[name](path)
        return path

    return make


def digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def full_decode(path: Path) -> list[tuple[bytes, float | None, bool]]:
    """Digest, time (None for an AVI, which has none) and key flag of each frame of a full decode; turns undone."""
    frames = []
    with av.open(str(path)) as container:
        avi = container.format.name == "avi"
        for frame in container.decode(video=0):
            image = np.rot90(rgb(frame), frame.rotation // 90)
            frames.append((digest(image), None if avi else frame.time, frame.key_frame))
    return frames


def rgb(frame: av.VideoFrame) -> np.ndarray:
    """Convert as the ffmpeg program does, which heeds neither fields nor where chroma lies."""
    graph = av.filter.Graph()
    start = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    plain = graph.add("setparams", "field_mode=prog:chroma_location=unspecified")
    graph.link_nodes(start, plain, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull().to_ndarray(format="rgb24", interpolation="BICUBIC")


def wanted(frames: list[tuple[bytes, float | None, bool]], s: Sampling) -> list[int]:
    """Say again, as plainly as can be, which indices a sampling means."""
    times = [i / 25 if t is None else t - (frames[0][1] or 0) for i, (_, t, _) in enumerate(frames)]
    if s.every:
        picks = {i * s.every + k * s.gap for i in range(len(frames)) for k in range(s.anchors + 1)}
    elif s.seconds:
        ticks = np.arange(0, times[-1] + 1, s.seconds)
        picks = {next((i for i, t in enumerate(times) if t >= tick - 1e-6), -1) for tick in ticks}
    else:
        picks = {i for i, (_, _, key) in enumerate(frames) if key}
    inside = [i for i, t in enumerate(times) if i in picks and (s.start or 0) <= t + 1e-9 < (s.end or 1e9)]
    return inside[: s.max_frames]


@pytest.mark.parametrize("name", video_variants.VARIANTS)
def test_every_frame_is_the_one_asked_for(variant, name):
    """For each kind of file and way to sample, the frames are those of a full decode, bit for bit, with their times."""
    path = variant(name)
    frames = full_decode(path)
    assert len(frames) >= 20
    for sampling in SAMPLINGS:
        got = list(decode(path, sampling))
        assert [f.index for f in got] == wanted(frames, sampling), sampling
        assert [digest(f.image) for f in got] == [frames[f.index][0] for f in got], sampling
        for frame in got:
            if frames[frame.index][1] is not None:
                assert frame.seconds == pytest.approx(frames[frame.index][1] - frames[0][1], abs=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "drivendataorg__zamba__chimp.mp4",
        "drivendataorg__zamba__07120049.AVI",
        "dmlc__decord__unordered.mov",
        "dmlc__decord__video_90.mov",
        "imageio__imageio-binaries__newtonscradle.gif",
        "meta-pytorch__torchcodec__av1_video.mkv",
        "meta-pytorch__torchcodec__nasa_13013.mp4",
        "open-mmlab__mmaction2__test.avi",
        "derived/dev_editlist_cut.mp4",
        "derived/dev_mpeg2_interlaced.ts",
        "derived/dev_vfr_opengop_b8.mkv",
        "derived/dev_wrongext_is_webm.avi",
    ],
)
def test_real_files_are_exact(shared_data, name):
    """The same holds for files from cameras, phones and other tools."""
    path = shared_data / "videos" / name
    frames = full_decode(path)
    for sampling in (Sampling(every=7), Sampling(every=100), Sampling(keyframes=True)):
        got = list(decode(path, sampling))
        assert [f.index for f in got] == wanted(frames, sampling)
        assert [digest(f.image) for f in got] == [frames[f.index][0] for f in got]


@pytest.mark.parametrize(
    ("name", "most"), [("h264.mp4", 8), ("h264_one_key.mp4", 35), ("mjpeg.avi", 2), ("av1.mp4", 30)]
)
def test_only_what_is_needed_is_decoded(variant, monkeypatch, name, most):
    """Frames that no wanted frame hangs on are not decoded."""
    needed = []
    count = Run.needed
    monkeypatch.setattr(Run, "needed", lambda run, wanted: needed.extend(count(run, wanted)) or count(run, wanted))
    assert len(list(decode(variant(name), Sampling(every=50)))) == 2
    assert len(needed) <= most


@pytest.mark.parametrize(
    "matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
)
def test_images_are_turned_as_players_do(variant, tmp_path, matrix):
    """Rotation and mirroring that a file asks for are applied, at native size and scaled, and the angle is told."""
    source = variant("h264_444.mp4")
    path = video_variants.turned(source, tmp_path / "turned.mp4", matrix)
    expected = {
        (0, 1, -1, 0): (90, lambda im: np.rot90(im, -1)),
        (-1, 0, 0, -1): (180, lambda im: np.rot90(im, 2)),
        (0, -1, 1, 0): (270, lambda im: np.rot90(im, 1)),
        (-1, 0, 0, 1): (180, lambda im: im[:, ::-1]),
        (1, 0, 0, -1): (0, lambda im: im[::-1]),
        (0, 1, 1, 0): (90, lambda im: im.transpose(1, 0, 2)),
    }[matrix]
    for plain, frame in zip(decode(source, Sampling(every=25)), decode(path, Sampling(every=25)), strict=True):
        assert frame.rotation == expected[0]
        np.testing.assert_array_equal(frame.image, expected[1](plain.image))
    small = next(decode(path, EVERY, size=(40, 32)))
    native = next(decode(path, EVERY))
    assert psnr(small.image, cv2.resize(native.image, (40, 32), interpolation=cv2.INTER_AREA)) > 40


def collect(frames: Iterator[Frame]) -> tuple[list[Frame], VideoError]:
    """Take frames up to the error that is expected."""
    got: list[Frame] = []
    try:
        for frame in frames:
            got.append(frame)
    except VideoError as error:
        return got, error
    pytest.fail(f"no error after {len(got)} frames")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("name", video_variants.VARIANTS)
def test_a_small_frame_is_the_native_one_averaged_over_areas(variant, name):
    """Whatever the format and the size, scaling on decoding is within 45 dB of scaling what comes at native size."""
    natives = {frame.index: frame.image for frame in decode(variant(name), EVERY)}
    for size in ((32, 24), (40, 17), (60, 44), (100, 80), (128, 96), (150, 90)):
        for frame in decode(variant(name), Sampling(every=10), size):
            area = cv2.resize(natives[frame.index], size, interpolation=cv2.INTER_AREA)
            assert psnr(frame.image, area) >= 45, (size, frame.index)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("name", ["h264.mp4", "h264_odd.mp4", "hevc_10bit.mkv", "h264_interlaced.mp4"])
def test_the_own_size_is_the_native_frame(variant, name, fit):
    """Asking for the size that a video has changes nothing, whatever the fit; every frame is contiguous memory."""
    for native in decode(variant(name), Sampling(every=30)):
        [own] = [
            frame
            for frame in decode(variant(name), Sampling(every=30), native.image.shape[1::-1], fit)
            if frame.index == native.index
        ]
        np.testing.assert_array_equal(own.image, native.image)
        assert native.image.flags.c_contiguous
        assert own.image.flags.c_contiguous


def test_colours_that_cannot_be_known_are_refused(tmp_path):
    """A video coded by a matrix that FFmpeg cannot undo says so; other colours would be wrong."""
    path = video_variants.encode(
        tmp_path / "clip.mp4", "libx264", {**video_variants.X264, "x264-params": "colormatrix=YCgCo"}, length=3
    )
    for size in (None, (32, 24)):
        with pytest.raises(VideoError, match=r"clip.mp4: the matrix of its colours \(YCgCo\) .*; no wanted frames"):
            list(decode(path, EVERY, size))


def test_fit(variant):
    """Stretch fills the size, crop keeps the middle, pad keeps everything on black; all are of the size asked for."""
    path = variant("h264_444.mp4")  # 128 x 96
    native = next(decode(path, EVERY)).image
    for fit in ("stretch", "crop", "pad"):
        for size in ((64, 64), (33, 70), (200, 30), (1, 1)):
            assert next(decode(path, EVERY, size, fit)).image.shape == (size[1], size[0], 3)
    padded = next(decode(path, EVERY, (64, 64), "pad")).image
    assert not padded[:8].any()
    assert not padded[56:].any()
    assert psnr(padded[8:56], cv2.resize(native, (64, 48), interpolation=cv2.INTER_AREA)) > 40
    cropped = next(decode(path, EVERY, (48, 48), "crop")).image
    assert psnr(cropped, cv2.resize(native[:, 16:112], (48, 48), interpolation=cv2.INTER_AREA)) > 40


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"every": 1, "seconds": 1.0},
        {"every": 0},
        {"every": 2.5},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"every": 1, "start": -1},
        {"every": 1, "start": 2, "end": 2},
        {"every": 1, "max_frames": 0},
        {"every": 1, "gap": 0},
        {"keyframes": True, "anchors": 2},
    ],
)
def test_a_sampling_that_makes_no_sense_is_refused(values):
    """A mistake is told when the sampling is made, in one line."""
    with pytest.raises(SourceError, match=r"^[^\n]+$"):
        Sampling(**values)


def test_size_and_fit_are_checked_at_the_call(tmp_path):
    """Not at the first frame, and not in another process."""
    for call in (decode, decode_isolated):
        with pytest.raises(SourceError, match="fit must be"):
            call(tmp_path / "x.mp4", EVERY, (4, 4), "squash")
        with pytest.raises(SourceError, match="size must be"):
            call(tmp_path / "x.mp4", EVERY, (0, 4))


def broken(kind: str, good: Path, path: Path) -> Path:
    data = bytearray(good.read_bytes())
    if kind == "truncated":
        data = data[: len(data) * 6 // 10]
    elif kind == "empty":
        data = bytearray()
    elif kind == "text":
        data = bytearray(b"a note about a video\n" * 200)
    elif kind == "noise":
        data = bytearray(np.random.default_rng(0).bytes(5000))
    elif kind == "zeroed":
        middle = len(data) // 2
        data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["h264_fragmented.mp4", "h264.mkv", "vp9_hidden.webm", "mpeg4.avi", "mjpeg.avi"])
@pytest.mark.parametrize("every", [1, 7])
def test_a_file_cut_short_gives_what_is_left(variant, tmp_path, name, every):
    """The frames before the end are right, and the end is not taken for a normal one."""
    frames = full_decode(variant(name))
    path = broken("truncated", variant(name), tmp_path / name)
    got, failure = collect(decode(path, Sampling(every=every)))
    assert 1 < len(got) < len(frames) / every
    assert [digest(f.image) for f in got[:-1]] == [frames[f.index][0] for f in got[:-1]]
    assert failure.frames == len(got)
    assert str(path) in str(failure)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc_closed.mp4"])
def test_frames_before_damage_are_kept(variant, tmp_path, name):
    """A hole in the file ends the video there, with the reason, and everything before it is right."""
    frames = full_decode(variant(name))
    path = broken("zeroed", variant(name), tmp_path / name)
    for every in (1, 5):
        got, failure = collect(decode(path, Sampling(every=every)))
        assert "stopped after frame" in str(failure)
        assert len(got) > 3
        assert [digest(f.image) for f in got] == [frames[f.index][0] for f in got]


@pytest.mark.parametrize("kind", ["empty", "text", "noise", "missing", "folder", "audio", "cut before its index"])
def test_what_is_no_video_is_told_in_one_line(variant, tmp_path, kind):
    """The line names the file and says why."""
    path = tmp_path / "clip.mp4" if kind != "text" else tmp_path / "clip.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "audio":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=44100)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.rate = 44100
            out.mux(stream.encode(sound))
            out.mux(stream.encode())
    elif kind == "cut before its index":
        broken("truncated", variant("h264.mp4"), path)
    elif kind != "missing":
        broken(kind, variant("h264.mp4"), path)
    with pytest.raises(VideoError, match=r"^[^\n]*clip\.[^\n]+$"):
        list(decode(path, EVERY))


def test_metadata_of_any_bytes(variant, tmp_path):
    """A title that is no UTF-8 is no reason to refuse a video."""
    with av.open(str(variant("h264.mp4"))) as source, av.open(str(tmp_path / "titled.mp4"), "w") as out:
        out.metadata["title"] = "Voegel"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "titled.mp4").read_bytes()
    assert data.count(b"Voegel") == 1
    (tmp_path / "titled.mp4").write_bytes(data.replace(b"Voegel", b"V\xf6gel\xff"))
    assert len(list(decode(tmp_path / "titled.mp4", EVERY))) == video_variants.LENGTH


def test_names_are_names(variant, tmp_path, monkeypatch):
    """A colon, a percent sign or letters of any script are nothing special, nor is a wrong extension."""
    monkeypatch.chdir(tmp_path)
    for name in ("http:clip.mp4", "pipe:0", "clip %03d%.mp4", "ein Vogel 视频.avi", "-i.mkv", "no extension"):
        shutil.copy(variant("h264.mp4"), name)
        assert [f.index for f in decode(name, Sampling(every=30))] == [0, 30, 60]


def test_importing_is_cheap():
    """A video library is loaded when a video is opened, not before."""
    program = "import sys, augcache.video.read, augcache.video.child_process; print('av' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


class TestIsolation:
    """A decoder that hangs or dies costs its own video and nothing else."""

    def test_same_frames(self, variant):
        """Frames come through unchanged, of any size, and one child serves many videos."""
        with VideoProcess() as process:
            for name in ("h264.mp4", "h264_odd.mp4", "size_changes.ts", "av1.mkv"):
                expected = list(decode(variant(name), Sampling(every=3)))
                got = list(process.decode(variant(name), Sampling(every=3)))
                assert [(f.index, f.seconds, digest(f.image)) for f in got] == [
                    (f.index, f.seconds, digest(f.image)) for f in expected
                ]
                assert process._child is not None

    def test_errors_come_through(self, variant, tmp_path):
        """What a damaged file says is the same from a child, which goes on to the next file."""
        path = broken("truncated", variant("h264.mkv"), tmp_path / "clip.mkv")
        texts = []
        for call in (decode, decode_isolated):
            with pytest.raises(VideoError) as failure:
                list(call(path, EVERY))
            texts.append((str(failure.value), failure.value.frames))
        assert texts[0] == texts[1]
        assert len(list(decode_isolated(variant("h264.mkv"), EVERY))) == video_variants.LENGTH

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("hangs", r"nothing was decoded for 1\.5 s"),
            ("signal11", r"signal 11 \(SIGSEGV\)"),
            ("signal9", r"signal 9 \(SIGKILL\)"),
            ("exits", "status 7"),
            ("exhausts", "memory"),
        ],
    )
    def test_faults(self, what, reason):
        """The frames before are kept, the reason is true, and the next video is decoded as if nothing had been."""
        with VideoProcess(timeout=1.5, target="video_variants:faulty") as process:
            started = time.monotonic()
            got, failure = collect(process.decode(what, EVERY))
            assert [f.index for f in got] == [0, 1, 2]
            assert re.search(reason, str(failure))
            assert failure.frames == 3
            assert time.monotonic() - started < 6
            assert [f.index for f in process.decode("fine", EVERY)] == [0, 1, 2, 3]

    @pytest.mark.parametrize("what", ["bug", "padded"])
    def test_a_fault_of_our_own_is_no_failure_of_the_video(self, what):
        """It is raised with the child's traceback, as no error that a user can cause, and the next video is decoded."""
        with VideoProcess(target="video_variants:faulty") as process:
            frames = process.decode(what, EVERY)
            for i in range(3):
                np.testing.assert_array_equal(next(frames).image, video_variants.image(i))
            with pytest.raises(
                VideoBug, match=r"Traceback(.*\n)+(KeyError: 'no such thing'|TypeError: .*contiguous)"
            ) as bug:
                next(frames)
            assert not isinstance(bug.value, AugcacheError)
            assert len(list(process.decode("fine", EVERY))) == 4

    def test_a_child_that_cannot_start_is_no_failure_of_the_video(self):
        """Also where our code fails before there is a request."""
        with (
            VideoProcess(target="video_variants:no_such_function") as process,
            pytest.raises(VideoBug, match="Attribute"),
        ):
            list(process.decode("fine", EVERY))

    def test_a_function_of_a_file(self):
        """It is under the same watch, and the child goes on after it."""
        with VideoProcess(timeout=1.0, target="video_variants:faulty") as process:
            assert process.call("video_variants:stalls", "a/file") == b"a/file"
            with pytest.raises(VideoError, match=r"^a/stalls: nothing was read for 1 s and the decoder was stopped$"):
                process.call("video_variants:stalls", "a/stalls")
            assert len(list(process.decode("fine", EVERY))) == 4

    def test_patience(self):
        """A decoder may work for longer than the timeout without a wanted frame, and a consumer may be slow."""
        with VideoProcess(timeout=1.5, target="video_variants:faulty") as process:
            assert len(list(process.decode("slow", EVERY))) == 4
            for _ in process.decode("fine", EVERY):
                time.sleep(0.45)

    def test_noise_on_standard_output(self):
        """What a library prints does not end up in the frames."""
        with VideoProcess(target="video_variants:faulty") as process:
            images = [f.image for f in process.decode("prints", EVERY)]
        for i, image in enumerate(images):
            np.testing.assert_array_equal(image, video_variants.image(i))

    def test_a_script_beside_a_misnamed_file(self, tmp_path, monkeypatch):
        """A file named like one of Python's own modules, in the folder of the user's script, does no harm."""
        (tmp_path / "encodings.py").write_text("raise SystemExit('wrong file')")
        monkeypatch.syspath_prepend(tmp_path)
        with VideoProcess(target="video_variants:faulty") as process:
            assert len(list(process.decode("fine", EVERY))) == 4

    def test_stopping_early(self, variant):
        """A caller may leave a video in the middle and go on with another."""
        with VideoProcess() as process:
            for _ in range(3):
                first = next(process.decode(variant("h264.mp4"), EVERY))
                assert first.index == 0
            gc.collect()
            assert len(list(process.decode(variant("h264.mp4"), EVERY))) == video_variants.LENGTH

    @pytest.mark.parametrize("what", ["hangs", "4K"])
    def test_a_killed_parent_takes_its_child_along(self, tmp_path, what):
        """Nothing is left running, even when the decoder hangs, or is in the middle of a large frame."""
        script = tmp_path / "parent.py"
        script.write_text(
            "import os, subprocess, sys, time\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "started = []\n"
            "real = subprocess.Popen\n"
            "def popen(*a, **k):\n"
            "    started.append(real(*a, **k)); return started[-1]\n"
            "subprocess.Popen = popen\n"
            "from augcache.video.read import Sampling\n"
            "from augcache.video.child_process import VideoProcess\n"
            "process = VideoProcess(timeout=60, target='video_variants:faulty')\n"
            "for frame in process.decode(sys.argv[2], Sampling(every=1)):\n"
            "    if frame.index == 2:\n"
            "        print(started[0].pid, flush=True)\n"
            "        time.sleep(1000 * (sys.argv[2] == '4K'))\n"
        )
        parent = subprocess.Popen(
            [sys.executable, str(script), str(Path(__file__).parents[1]), what], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # the child has filled the pipe
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and Path(f"/proc/{child}").exists():
            time.sleep(0.1)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
