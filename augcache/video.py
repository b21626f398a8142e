"""Frames of a video by their exact index: the only file that imports a video library.

Frame k is the k-th frame that a full decode of the video presents. What may be left undecoded on the way to it is
decided in `augcache.video_index`; where that cannot be proven, everything from the start is decoded and counted. Damage
in a frame that no wanted frame needs goes unseen, and such a frame still counts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from augcache.errors import SourceError
from augcache.video_convert import Converter
from augcache.video_index import NotIndexed, Run, examiner, runs
from augcache.video_length import cut_short
from augcache.video_sampling import Picker, Sampling

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["FITS", "Frame", "Sampling", "VideoError", "decode"]

FITS = ("stretch", "crop", "pad")


class VideoError(SourceError):
    """A video cannot be read, or not to its end; the frames before the damage have been given.

    Parameters
    ----------
    message : str
        What, where and why.
    frames : int
        How many frames were given before.
    """

    def __init__(self, message: str, frames: int = 0) -> None:
        super().__init__(message)
        self.frames = frames


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Parameters
    ----------
    index : int
        0 for the first frame that the video presents.
    seconds : float
        Its time, since that first frame.
    rotation : int
        0, 90, 180 or 270: degrees clockwise that the picture was turned by, because the video says so.
    image : ndarray, uint8, (H, W, 3)
        RGB, turned.
    """

    index: int
    seconds: float
    rotation: int
    image: NDArray[np.uint8]


def decode(
    path: str | os.PathLike[str],
    sampling: Sampling,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
    progress: Callable[[], None] | None = None,
) -> Iterator[Frame]:
    """Decode the wanted frames of a video, in presentation order.

    Parameters
    ----------
    path : path
        A video file. Its first video stream that is not a cover picture is read.
    sampling : Sampling
        Which frames.
    size : (width, height), optional
        Size of the pictures as they are shown, that is after turning; their own size if left out.
    fit : {"stretch", "crop", "pad"}
        How a picture of another shape is made to fit: ignore the shape, cover the size and crop the middle, or stay
        inside it with black borders.
    progress : callable, optional
        Called after each packet that was decoded, wanted or not.

    Yields
    ------
    Frame
        Scaled by area averaging. Non-square pixels and interlaced fields stay as they are coded.

    Raises
    ------
    VideoError
        The file is no video, or is damaged or cut short: after the frames before the damage.
    SourceError
        `size` or `fit` is out of range.
    """
    check_size(size, fit)
    return _decode(Path(path), sampling, size, fit, progress or (lambda: None))


def check_size(size: tuple[int, int] | None, fit: str) -> None:
    """Raise SourceError unless `decode` can take them."""
    if fit not in FITS:
        raise SourceError(f"fit must be one of {', '.join(FITS)}, not {fit!r}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise SourceError(f"size must be a width and a height of at least 1, not {size!r}")


def _decode(
    path: Path, sampling: Sampling, size: tuple[int, int] | None, fit: str, progress: Callable[[], None]
) -> Iterator[Frame]:
    import av.error

    convert = Converter(size, fit)
    given, last = 0, -1
    for first_try in (True, False):
        with _open(path) as container:
            stream = _stream(path, container)
            may_skip = first_try and not sampling.wants_all and _has_rule(container, stream)
            way = _indexed if may_skip else _sequential
            try:
                for index, seconds, picture in way(container, stream, Picker(sampling), progress):
                    if index > last:
                        yield Frame(index, seconds, *convert(picture))
                        given, last = given + 1, index
                return
            except (NotIndexed, av.error.FFmpegError) as error:
                # Frames given so far are proven; the rest is found by a full decode.
                if way is _sequential:
                    raise VideoError(f"{path}: {_reason(error)}; {_count(given)} read before that", given) from error
            except _Stopped as stop:
                raise VideoError(f"{path}: {stop}; {_count(given)} read before that", given) from stop.__cause__


def _count(given: int) -> str:
    return f"{given or 'no'} wanted frame{'s' * (given != 1)} {'was' if given == 1 else 'were'}"


class _Stopped(Exception):
    """Decoding ended before the video did; the message says where and why."""


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _open(path: Path) -> InputContainer:
    import av
    import av.error

    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty")
        # "file:" keeps a colon in a name from being read as a protocol, and a playlist away from the network.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: it cannot be opened as a video ({_reason(error)})") from error
    if container.format.name == "tty":  # FFmpeg plays any .txt file as a film of its letters
        container.close()
        raise VideoError(f"{path}: a text file, not a video")
    return container


def _stream(path: Path, container: InputContainer) -> VideoStream:
    from av.stream import Discard, Disposition

    video = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not video:
        kinds = sorted({str(s.type) for s in container.streams}) or ["nothing"]
        raise VideoError(f"{path}: there is no video in it, only {', '.join(kinds)}")
    for other in container.streams:
        if other is not video[0]:
            other.discard = Discard.all
    if video[0].codec_context is None:
        raise VideoError(f"{path}: there is no decoder for its codec")
    video[0].codec_context.thread_count = 1  # a process per core beats threads, and keeps frames in step with packets
    return video[0]


def _has_rule(container: InputContainer, stream: VideoStream) -> bool:
    try:
        examiner(container.format.name, stream.codec_context.name, stream.codec_context.extradata or b"")
    except NotIndexed:
        return False
    return True


Found = tuple[int, float, "VideoFrame"]


def _indexed(
    container: InputContainer, stream: VideoStream, picker: Picker, progress: Callable[[], None]
) -> Iterator[Found]:
    """Decode only what the packets prove to be needed; raise NotIndexed at the first thing that does not fit."""
    codec = stream.codec_context
    examine = examiner(container.format.name, codec.name, codec.extradata or b"")
    over, under = _time_base(stream)
    index, first = 0, None
    for run in runs(container.demux(stream), examine, codec.reorder_depth):
        wanted: dict[int, tuple[int, float]] = {}
        for position in run.order:
            if run.pictures[position].recovery and picker.sampling.keyframes:
                raise NotIndexed("key frames that do not stand alone")
            pts = run.times[position]
            first = pts if first is None else first
            seconds = (pts - first) * over / under
            if picker.wants(index, seconds, run.pictures[position].fresh):
                wanted[position] = (index, seconds)
            index += 1
        progress()
        if wanted:
            yield from _decode_run(stream, run, wanted, progress)
        if picker.done:
            return
    _check_whole(container)


def _decode_run(
    stream: VideoStream, run: Run, wanted: dict[int, tuple[int, float]], progress: Callable[[], None]
) -> Iterator[Found]:
    import av.error

    needed = run.needed(set(wanted))
    expected = deque(sorted((run.times[i], i) for i in needed if run.pictures[i].shown))
    try:
        for packet in [*(run.packets[i] for i in needed), None]:
            for frame in stream.codec_context.decode(packet):
                pts, position = expected.popleft() if expected else (None, -1)
                if frame.pts != pts or frame.is_corrupt:
                    raise NotIndexed("the decoder gives other frames than the packets promise")
                if position in wanted:
                    yield *wanted[position], frame
            progress()
    except av.error.FFmpegError as error:
        raise NotIndexed(_reason(error)) from error
    if expected:
        raise NotIndexed("the decoder gives fewer frames than the packets promise")
    stream.codec_context.flush_buffers()


def _sequential(
    container: InputContainer, stream: VideoStream, picker: Picker, progress: Callable[[], None]
) -> Iterator[Found]:
    """Decode everything from the start and count."""
    import av.error

    over, under = _time_base(stream)
    # An AVI has no presentation times, and FFmpeg's guess at them misorders B-frames; its ticks are frames.
    timed, rate = container.format.name != "avi", float(stream.guessed_rate or stream.average_rate or 25)
    index, first, seconds = 0, None, 0.0
    try:
        for frame in _frames(container, stream, progress):
            pts = frame.pts
            first = pts if first is None else first
            if not timed:
                pts, first = index, 0
            seconds = index / rate if pts is None or first is None else (pts - first) * over / under
            if picker.wants(index, seconds, frame.key_frame):
                yield index, seconds, frame
            if picker.done:
                return
            index += 1
    except av.error.FFmpegError as error:
        where = f"after frame {index - 1}, {seconds:.2f} s," if index else "before the first frame"
        raise _Stopped(f"stopped {where} ({_reason(error)})") from error
    if index == 0:
        raise _Stopped("there is no frame in it that can be decoded")
    _check_whole(container)


def _frames(container: InputContainer, stream: VideoStream, progress: Callable[[], None]) -> Iterator[VideoFrame]:
    """All frames; on damage those before it, then the error."""
    import av.error

    codec = stream.codec_context
    started, ahead = False, None
    for packet in container.demux(stream):
        if packet.size == 0 and packet.dts is not None:
            continue  # an AVI's "same picture again"; the decoder would take it for the end
        started = started or packet.is_keyframe
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError:
            if not started:
                continue  # a recording that starts between key frames: nothing was lost that could have been had
            # What the decoder still holds is good, but for the packet ahead of the damage, which may reach into it.
            if packet.pts is not None and ahead is not None:
                before = min(packet.pts, ahead)
                yield from (f for f in codec.decode(None) if f.pts is not None and f.pts < before)
            raise
        ahead = packet.pts
        yield from frames
        progress()


def _time_base(stream: VideoStream) -> tuple[int, int]:
    """Seconds per tick as a ratio."""
    base = stream.time_base
    assert base is not None  # FFmpeg gives every stream one
    return base.numerator, base.denominator


def _check_whole(container: InputContainer) -> None:
    short = cut_short(Path(container.name.removeprefix("file:")), container.format.name)
    if short:
        raise _Stopped(short)
