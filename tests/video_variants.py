"""Small videos of many kinds, made with PyAV, and decoders that misbehave."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from augcache.video.read import Frame, Sampling

LENGTH = 75
VP8 = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "80k", "deadline": "realtime", "cpu-used": "8"}
X264 = {"preset": "veryfast", "crf": "30"}


def image(i: int, width: int = 128, height: int = 96) -> np.ndarray:
    """An image that differs from that of every other `i`, with detail, motion and now and then a cut."""
    y, x = np.mgrid[:height, :width]
    scene = i // 29
    ramps = np.stack([x * 2 + 3 * i, y * 2 + 40 * scene, (x + y) // 2 + 7 * i], axis=-1)
    pixels = 60 + np.abs(ramps % 256 - 128)
    pixels[(y - 10 - i % 60) ** 2 + (x - 20 - i) ** 2 < 150] = (190, 60 + 40 * scene, 60 + i)
    for bit in range(8):  # the index, readable in the image
        pixels[4:12, 4 + bit * 10 : 12 + bit * 10] = 230 if i >> bit & 1 else 30
    return pixels.astype(np.uint8)


@contextlib.contextmanager
def ordinary_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does to a process of root's: it becomes a real-time one, which starves all others."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def encode(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    length: int = LENGTH,
    size: tuple[int, int] = (128, 96),
    gop: int = 12,
    b_frames: int | None = None,
    times: Callable[[int], int] = lambda i: i,
    container: dict[str, str] | None = None,
    form: str | None = None,
) -> Path:
    """Write `length` images at 25 a second, or at the 1/25 s ticks that `times` gives."""
    with ordinary_priority(), av.open(str(path), "w", format=form, options=container or {}) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size = gop
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 25)
        for i in range(length):
            frame = av.VideoFrame.from_ndarray(image(i, *size), format="rgb24")
            frame.pts, frame.time_base = times(i), Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def remux(source: Path, path: Path, drop: int = 0, shift: int = 0, container: dict[str, str] | None = None) -> Path:
    """Copy the packets of a video without the first `drop`, `shift` ticks of the source's clock earlier."""
    with av.open(str(source)) as inp, av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream_from_template(inp.streams.video[0])
        for i, packet in enumerate(inp.demux(inp.streams.video[0])):
            if packet.dts is None or i < drop:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = stream
            out.mux(packet)
    return path


def turned(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Copy an MP4 with another display matrix (a, b, c, d), by writing over that of its track header."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes ahead of the matrix
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def _joined(path: Path) -> Path:
    """Write a transport stream whose image size changes in the middle."""
    parts = []
    for size in ((128, 96), (160, 120)):
        part = path.with_suffix(f".{size[0]}.ts")
        parts.append(encode(part, "libx264", X264, size=size, length=30).read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def _x264(name: str, form: str = "mp4", **more: object) -> tuple[str, Callable[[Path], Path]]:
    params = str(more.pop("params", ""))
    options = {**X264, "x264-params": params} if params else X264
    return f"{name}.{form}", lambda path: encode(path, "libx264", options, **more)  # type: ignore[arg-type]


def _x265(name: str, form: str, params: str, **more: object) -> tuple[str, Callable[[Path], Path]]:
    options = {"preset": "ultrafast", "x265-params": f"log-level=none:{params}"}
    return f"{name}.{form}", lambda path: encode(path, "libx265", options, **more)  # type: ignore[arg-type]


def _plain(name: str, codec: str, **more: object) -> tuple[str, Callable[[Path], Path]]:
    return name, lambda path: encode(path, codec, **more)  # type: ignore[arg-type]


def _from(name: str, make: Callable[[Path, Path], Path], **more: object) -> tuple[str, Callable[[Path], Path]]:
    """Make a variant from an H.264 MP4 with B-frames."""

    def variant(path: Path) -> Path:
        return make(encode(path.with_suffix(".source.mp4"), "libx264", X264, **more), path)  # type: ignore[arg-type]

    return name, variant


def _uneven(i: int) -> int:
    return i * 2 + (i // 5) * 7 + i % 3 // 2


VARIANTS: dict[str, Callable[[Path], Path]] = dict(
    [
        _x264("h264"),
        _x264("h264_no_b", b_frames=0),
        _x264("h264_pyramid", params="b-pyramid=normal:bframes=5:b-adapt=0"),
        _x264("h264_one_key", gop=1000),
        _x264("h264_all_intra", gop=1),
        _x264("h264_open", params="open-gop=1:bframes=4:b-adapt=0"),
        _x264("h264_open", "mkv", params="open-gop=1:bframes=4:b-adapt=0"),
        _x264("h264_refresh", params="intra-refresh=1:bframes=0"),
        _x264("h264_refresh", "mkv", params="intra-refresh=1:bframes=0"),
        _x264("h264_slices", params="slices=4"),
        _x264("h264_interlaced", params="tff=1"),
        _x264("h264_10bit", pix_fmt="yuv420p10le"),
        _x264("h264_444", pix_fmt="yuv444p"),
        _x264("h264_odd", pix_fmt="yuv444p", size=(127, 95)),
        _x264("h264_vfr", times=_uneven),
        _x264("h264_vfr", "mkv", times=_uneven),
        _x264("h264_fragmented", container={"movflags": "frag_keyframe+empty_moov"}),
        _x264("h264_repeated_headers", "mkv", params="repeat-headers=1"),
        _x264("h264", "mkv"),
        _x264("h264", "mov"),
        _x264("h264", "ts"),
        _x264("h264", "avi", b_frames=0),
        _x264("h264_b", "avi"),
        _x264("h264", "flv"),
        _x264("h264", "h264"),
        _x265("hevc_closed", "mp4", "open-gop=0:keyint=12"),
        _x265("hevc_open", "mp4", "open-gop=1:keyint=12:bframes=4"),
        _x265("hevc_open", "mkv", "open-gop=1:keyint=12:bframes=4"),
        _x265("hevc_radl", "mp4", "open-gop=0:radl=2:keyint=12:bframes=4:b-adapt=0"),
        _x265("hevc_layers", "mp4", "temporal-layers=1:open-gop=0:keyint=24:bframes=4"),
        _x265("hevc_10bit", "mkv", "open-gop=0:keyint=12", pix_fmt="yuv420p10le"),
        _x265("hevc", "ts", "open-gop=0:keyint=12"),
        _plain("vp8_hidden.webm", "libvpx", options=VP8, gop=30),
        _plain("vp9_hidden.webm", "libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
        _plain("av1.mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}, gop=24),
        _plain("av1.mkv", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}, gop=1000),
        _plain("mpeg2.ts", "mpeg2video", b_frames=2),
        _plain("mpeg2_interlaced.mkv", "mpeg2video", options={"flags": "+ildct+ilme", "b": "2M"}, b_frames=2),
        _plain("mpeg4_b.avi", "mpeg4", b_frames=2),
        _plain("mpeg4_b.mp4", "mpeg4", b_frames=2),
        _plain("mpeg4.avi", "mpeg4"),
        _plain("mjpeg.avi", "mjpeg", pix_fmt="yuvj420p"),
        _plain("mjpeg.mov", "mjpeg", pix_fmt="yuvj420p"),
        _plain("prores.mov", "prores", pix_fmt="yuv422p10le"),
        _plain("ffv1.mkv", "ffv1"),
        _plain("gif.gif", "gif", pix_fmt="rgb8", length=20),
        _plain("wmv2.asf", "wmv2"),
        _from("edit_list.mp4", lambda source, path: remux(source, path, shift=512 * 17), gop=30),
        _from("starts_late.mkv", lambda source, path: remux(source, path, shift=-512 * 100)),
        _from("cut_off_key.ts", lambda source, path: remux(source, path, drop=17), gop=30),
        _from("cut_off_key.mkv", lambda source, path: remux(source, path, drop=17), gop=30),
        _from("live.mkv", lambda source, path: remux(source, path, container={"live": "1"})),
        ("size_changes.ts", _joined),
    ]
)


def faulty(path: str, sampling: Sampling, size: object, fit: str, progress: Callable[[], None]) -> Iterator[Frame]:
    """Stand in for a decoder: gives three frames, then does what `path` says."""
    del sampling, size, fit
    for i in range(3):
        yield Frame(i, i / 25, 0, image(i))
    what = Path(path).name
    if what == "hangs":
        time.sleep(3600)
    elif what == "slow":
        for _ in range(20):
            time.sleep(0.1)
            progress()
    elif what.startswith("signal"):
        os.kill(os.getpid(), int(what.removeprefix("signal")))
    elif what == "exits":
        os._exit(7)
    elif what == "prints":
        os.write(1, b"noise that a codec prints" * 1000)
    elif what == "exhausts":
        raise MemoryError
    elif what == "bug":
        raise KeyError("no such thing")
    elif what == "padded":
        yield Frame(3, 3 / 25, 0, np.zeros((8, 16, 3), np.uint8)[:, :10])
    while what == "4K":
        yield Frame(3, 3 / 25, 0, np.zeros((2160, 3840, 3), np.uint8))
    yield Frame(3, 3 / 25, 0, image(3))


def stalls(path: str, progress: Callable[[], None]) -> bytes:
    """Stand in for a function of a file on a network that no longer answers."""
    progress()
    if Path(path).name == "stalls":
        time.sleep(3600)
    return path.encode()


def write_video(path, frames=30, size=(64, 48), seed=0, rate=10):
    """A video whose frames differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            image = np.roll(base, 3 * number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
