"""The two ways through a video: decode what its packets prove to be needed, or decode everything and count."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from augcache.video.index import NotIndexed, Run, examiner, runs
from augcache.video.length import cut_short
from augcache.video.sampling import Picker

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Found = tuple[int, float, "VideoFrame"]  # index, seconds, image


class Stopped(Exception):
    """Decoding ended before the video did; the message says where and why."""


def reason(error: BaseException) -> str:
    """Say what went wrong without FFmpeg's numbers and function names."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def has_rule(container: InputContainer, stream: VideoStream) -> bool:
    """Whether `indexed` knows this kind of container and codec."""
    try:
        examiner(container.format.name, stream.codec_context.name, stream.codec_context.extradata or b"")
    except NotIndexed:
        return False
    return True


def indexed(
    container: InputContainer, stream: VideoStream, picker: Picker, progress: Callable[[], None]
) -> Iterator[Found]:
    """Decode only what the packets prove to be needed; raise NotIndexed at the first thing that does not fit."""
    codec = stream.codec_context
    examine = examiner(container.format.name, codec.name, codec.extradata or b"")
    over, under = _time_base(stream)
    index, first = 0, None
    for run in runs(_packets(container, stream), examine, codec.reorder_depth):
        wanted: dict[int, tuple[int, float]] = {}
        first = run.times[run.order[0]] if first is None else first
        if picker.none_of(index, len(run.order)):
            index += len(run.order)
            progress()
            continue
        for position in run.order:
            if run.images[position].recovery and picker.sampling.keyframes:
                raise NotIndexed("key frames that do not stand alone")
            pts = run.times[position]
            seconds = (pts - first) * over / under
            if picker.wants(index, seconds, run.images[position].fresh):
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
    expected = deque(sorted((run.times[i], i) for i in needed if run.images[i].shown))
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
        raise NotIndexed(reason(error)) from error
    if expected:
        raise NotIndexed("the decoder gives fewer frames than the packets promise")
    stream.codec_context.flush_buffers()


def sequential(
    container: InputContainer, stream: VideoStream, picker: Picker, progress: Callable[[], None]
) -> Iterator[Found]:
    """Decode everything from the start and count."""
    import av.error

    over, under = _time_base(stream)
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    # An AVI has no presentation times, and FFmpeg's guess at them misorders B-frames. But the k-th frame that is
    # presented has the time slot of the k-th that is stored.
    slots: deque[int | None] | None = deque() if container.format.name == "avi" else None
    index, first, seconds = 0, None, 0.0
    try:
        for frame in _frames(container, stream, slots, progress):
            pts = slots.popleft() if slots else frame.pts
            first = pts if first is None else first
            seconds = index / rate if pts is None or first is None else (pts - first) * over / under
            if picker.wants(index, seconds, frame.key_frame):
                yield index, seconds, frame
            if picker.done:
                return
            index += 1
    except av.error.FFmpegError as error:
        where = f"after frame {index - 1}, {seconds:.2f} s," if index else "before the first frame"
        raise Stopped(f"stopped {where} ({reason(error)})") from error
    if index == 0:
        raise Stopped("there is no frame in it that can be decoded")
    _check_whole(container)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """All packets of a stream, and the empty one that ends it.

    Where another stream has come up on the way, PyAV looks for its end too, which it cannot find; ours was before that.
    """
    with contextlib.suppress(IndexError):
        yield from container.demux(stream)


def _frames(
    container: InputContainer, stream: VideoStream, slots: deque[int | None] | None, progress: Callable[[], None]
) -> Iterator[VideoFrame]:
    """All frames; on damage those before it, then the error. Appends the storage time of each packet to `slots`."""
    import av.error

    codec = stream.codec_context
    started, ahead = False, None
    for packet in _packets(container, stream):
        if packet.size == 0 and packet.dts is not None:
            continue  # an AVI's "same image again"; the decoder would take it for the end
        if slots is not None and packet.size:
            slots.append(packet.dts)
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
    try:
        short = cut_short(Path(container.name.removeprefix("file:")), container.format.name)
    except OSError as error:
        raise Stopped(f"the file cannot be read again ({reason(error)})") from error
    if short:
        raise Stopped(short)
