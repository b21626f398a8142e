"""Frames at native size, stored as users store them, are those of the ffmpeg program, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import video_variants

from augcache import Recipe, VideoFrames
from augcache.building.build import extract_frames

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program, as the reference")

# Seven, so that every width modulo 16 meets each of them.
PLAIN = ("yuv420p", "yuv422p", "yuv444p", "gray", "bgr0", "yuv420p10le", "yuv411p")
# FFmpeg to 7 makes RGB of CIE XYZ by coarser tables than FFmpeg 8, which PyAV has: up to 8 levels apart in noise.
BOUNDS = {"xyz12le": 8, "xyz12be": 8}


def image(number: int, width: int, height: int) -> np.ndarray:
    """Blocks of noise: sharp edges, and every level."""
    rng = np.random.default_rng([number, width, height])
    blocks = rng.integers(0, 256, (-(-height // 3), -(-width // 4), 3), dtype=np.uint8)
    return blocks.repeat(3, 0).repeat(4, 1)[:height, :width]


def write(path: Path, codec: str, pix_fmt: str, size: tuple[int, int], extradata: bytes | None = None) -> None:
    """Write two images without loss; the name may say another container than is in the file."""
    form = "matroska" if codec == "ffv1" else "nut"
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if extradata is not None:
            stream.codec_context.extradata = extradata
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(image(number, *size), format="rgb24")
            out.mux(stream.encode(frame.reformat(format=pix_fmt)))
        out.mux(stream.encode())


def ours(folder: Path) -> dict[str, list[np.ndarray]]:
    """Frames of every video of a folder as `extract_frames` stores them, in its child; none of one that failed."""
    report = extract_frames(folder, Recipe("frame", every=1), folder.with_suffix(".augcache"), workers=2, level=1)
    data = VideoFrames(report.store, output="array")
    found: dict[str, list[np.ndarray]] = {path.name: [] for path in folder.iterdir()}
    for i in range(len(data)):
        found[data.info(i).source].append(data[i])
    return found


def of_ffmpeg(paths: list[Path], raw: Path) -> None:
    """Have the ffmpeg program write all frames of videos into a folder; no file for one that it cannot read."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
    for path in paths:
        command += ["-threads", "1", "-i", str(path)]
    for i, path in enumerate(paths):
        command += ["-map", f"{i}:v:0", "-fps_mode", "passthrough", "-f", "rawvideo"]
        command += ["-pix_fmt", "rgb24", str(raw / path.name)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        for path in paths:
            (raw / path.name).unlink(missing_ok=True)
        half = len(paths) // 2
        for part in (paths[:half], paths[half:]) if half else ():
            of_ffmpeg(part, raw)
    for path in paths:  # among many, one of which no frame can be decoded ends in no error
        if (raw / path.name).exists() and not (raw / path.name).stat().st_size:
            (raw / path.name).unlink()


def check(folder: Path, frames: int, least: int | None = None) -> None:
    """Compare the videos of a folder, which have so many frames each; all, or at least so many, can be compared."""
    raw = folder.with_suffix(".raw")
    raw.mkdir()
    of_ffmpeg(sorted(folder.iterdir()), raw)
    assert len(list(raw.iterdir())) >= (least or len(list(folder.iterdir())))
    for name, got in ours(folder).items():
        if (raw / name).exists():
            assert len(got) == frames, name
            expected = np.frombuffer((raw / name).read_bytes(), np.uint8)
            image = np.concatenate([frame.ravel() for frame in got])
            assert len(image) == len(expected), name
            apart = int(np.abs(image.astype(int) - expected).max())
            assert apart <= BOUNDS.get(name.split(".")[0], 0), (name, apart)


@pytest.mark.slow
def test_any_width(tmp_path):
    """From 1 to 200 pixels, with odd and even heights, in the formats that most videos have."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for width in range(1, 201):
        codec = "ffv1" if width > 5 else "rawvideo"  # FFV1 has a least size
        write(folder / f"{width}.mkv", codec, PLAIN[width % len(PLAIN)], (width, 16 + width * 5 % 7))
    check(folder, frames=2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 28), (37, 27)])
def test_any_pixel_format(tmp_path, size):
    """Every one that PyAV can write and the ffmpeg program can read, at an even and an odd size."""
    folder = tmp_path / "videos"
    folder.mkdir()
    listed = subprocess.run(["ffmpeg", "-v", "error", "-pix_fmts"], check=True, capture_output=True, text=True).stdout
    for name in re.findall(r"^I\S* (\S+)", listed, re.MULTILINE):
        for codec in ("ffv1", "rawvideo"):
            path = folder / f"{name}.{codec}.mkv"
            try:
                write(path, codec, name, size)
                break
            except (ValueError, OSError):  # not that format
                path.unlink(missing_ok=True)
    check(folder, frames=2, least=150)


def test_any_tag(tmp_path):
    """What a video says of its colours, fields, turn and size does what it does to the ffmpeg program."""
    folder = tmp_path / "videos"
    folder.mkdir()
    odd = (97, 65)
    for pix_fmt in ("yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p"):
        for i, matrix in enumerate(("bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "GBR", "bt2020nc")):
            params = f"colormatrix={matrix}:fullrange={'off' if i % 2 else 'on'}:chromaloc={i % 6}:tff={i % 3 // 2}"
            options = {**video_variants.X264, "x264-params": params}
            path = folder / f"{pix_fmt}_{matrix}.mp4"
            video_variants.encode(path, "libx264", options, pix_fmt=pix_fmt, length=3, size=(98, 68))
    for codec in ("mpeg4", "mpeg2video", "mjpeg", "libvpx-vp9"):
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video_variants.encode(folder / f"{codec}.mkv", codec, pix_fmt=pix_fmt, length=3, size=odd)
    for i, matrix in enumerate([(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]):
        video_variants.encode(folder / "plain.mp4", "libx264", pix_fmt="yuv444p", length=3, size=odd)
        video_variants.turned(folder / "plain.mp4", folder / f"turned{i}.mp4", matrix)
    check(folder, frames=3)


def test_any_order_of_lines(tmp_path):
    """Bottom-up images, as a BMP's, which the decoder gives with lines of negative length."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for pix_fmt in ("rgb24", "bgr24", "bgra", "gray", "rgb555le", "yuyv422"):
        write(folder / f"{pix_fmt}.mkv", "rawvideo", pix_fmt, (37, 27), extradata=b"BottomUp\0")
    check(folder, frames=2)


def test_a_size_that_changes(tmp_path):
    """Each frame has the size that it has in the video: those of a joined one are those of its parts."""
    parts, folder, raw = (tmp_path / name for name in ("parts", "videos", "raw"))
    for made in (parts, folder, raw):
        made.mkdir()
    paths = [
        video_variants.encode(parts / f"{i}.ts", "libx264", video_variants.X264, "yuv444p", length=3, size=size)
        for i, size in enumerate([(98, 66), (121, 35)])
    ]
    of_ffmpeg(paths, raw)
    (folder / "joined.ts").write_bytes(b"".join(path.read_bytes() for path in paths))
    got = ours(folder)["joined.ts"]
    assert [image.shape for image in got] == [(66, 98, 3)] * 3 + [(35, 121, 3)] * 3
    assert b"".join(image.tobytes() for image in got) == b"".join((raw / path.name).read_bytes() for path in paths)


def test_real_videos(shared_data, tmp_path):
    """Widths that are no multiple of 16."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in (shared_data / "cases").glob("native_width_*.mp4"):
        shutil.copy(path, folder)
    check(folder, frames=10)
