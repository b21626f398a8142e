"""Which packets of a video must be decoded to get some of its frames, told from the packets without decoding them.

The rule. A packet may be left undecoded only where its own bytes prove that no wanted frame needs it and that it is one
frame of the count:

1. Packets are taken in runs that start at a frame from which decoding can always start afresh: an IDR image of H.264
   or HEVC, a key frame of VP8, VP9 or AV1, an I-frame of MPEG-4 without B-frames, every frame of an intra-only codec.
   A run is decoded alone or not at all.
2. In a run that holds a wanted frame, frames that no other frame refers to and that nobody wants are left out, and
   decoding stops after the last wanted one.
3. The index of a frame is its rank by presentation time. That needs a time on every packet, no two alike, no run
   that reaches back before the one ahead of it, no edit list, and a decoder that reorders as deep as the stream does.

Anything else raises `NotIndexed` and the video is decoded frame by frame from its start, which needs no such proof.
Nothing here trusts key frame flags, frame counts or an index that the container states.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
INTRA_CONTAINERS = CONTAINERS | {"avi"}
INTRA_CODECS = {"mjpeg", "prores", "dnxhd", "png", "rawvideo", "huffyuv", "ffvhuff", "utvideo"}
# What reads the length of a NAL unit, by the bytes that it has (H.264 and HEVC know no 3).
_LENGTHS = {size: struct.Struct(code).unpack_from for size, code in ((1, ">B"), (2, ">H"), (4, ">I"))}
RUN_BYTES = 64 << 20  # a longer run is decoded whole rather than held in memory


class NotIndexed(Exception):
    """Signals that a video has to be decoded frame by frame; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a packet's bytes say about the image in it."""

    fresh: bool  # decoding can start here, and nothing later refers to what came before
    shown: bool  # it is presented (some VP8 and VP9 packets only prepare a reference)
    reference: bool  # another frame may refer to it
    recovery: bool = False  # a decoder calls it a key frame though decoding cannot start afresh here


# The same few for all packets: to make one takes a third as long as to look at a packet.
_image = functools.cache(Image)


class Run(NamedTuple):
    """Packets from one fresh start up to the next.

    Parameters
    ----------
    packets, images, times : list
        In decoding order; presentation times in the stream's time base.
    order : list of int
        Positions in `packets` of the frames that are presented, in presentation order.
    """

    packets: list[Packet[VideoStream]]
    images: list[Image]
    times: list[int]
    order: list[int]

    def needed(self, wanted: set[int]) -> list[int]:
        """Positions to decode, in decoding order, so that the frames at `wanted` (positions too) come out."""
        stop = max(wanted) + 1
        return [i for i in range(stop) if i in wanted or self.images[i].reference]


def runs(
    packets: Iterable[Packet[VideoStream]], examine: Callable[[Packet[VideoStream]], Image], reorder: int
) -> Iterator[Run]:
    """Split a stream into runs.

    Parameters
    ----------
    packets : iterable of av.Packet
        All packets of the stream as the demultiplexer gives them.
    examine : callable
        What `examiner` gave.
    reorder : int
        How many frames the decoder holds back to put frames in order.

    Raises
    ------
    NotIndexed
        At the first packet that does not keep the rule; runs before it stand.
    """
    held: list[Packet[VideoStream]] = []
    images: list[Image] = []
    times: list[int] = []
    size = 0
    shown_until: int | None = None
    for packet in packets:
        if packet.dts is None and packet.size == 0:
            break  # the end mark
        image, pts = _examined(packet, examine)
        if image.fresh and held:
            run = _run(held, images, times, shown_until, reorder)
            shown_until = run.times[run.order[-1]]
            yield run
            held, images, times, size = [], [], [], 0
        elif not held and not image.fresh:
            raise NotIndexed("it does not start with a frame that stands alone")
        held.append(packet)
        images.append(image)
        times.append(pts)
        size += packet.size
        if size > RUN_BYTES:
            raise NotIndexed(f"over {RUN_BYTES >> 20} MiB between frames that stand alone")
    if held:
        yield _run(held, images, times, shown_until, reorder)


def _examined(packet: Packet[VideoStream], examine: Callable[[Packet[VideoStream]], Image]) -> tuple[Image, int]:
    """Tell what a packet holds and its presentation time; raises `NotIndexed` where it does not keep the rule alone."""
    if packet.pts is None or packet.size == 0:
        raise NotIndexed("a packet without a time or without data")
    if packet.is_discard or packet.is_corrupt:
        raise NotIndexed("an edit list or a damaged packet")
    try:
        image = examine(packet)
    except (IndexError, struct.error):
        raise NotIndexed("a damaged packet") from None
    if image.fresh and packet.has_sidedata("new_extradata"):
        raise NotIndexed("the stream changes its parameters")
    return image, packet.pts


def _run(
    packets: list[Packet[VideoStream]],
    images: list[Image],
    times: list[int],
    shown_until: int | None,
    reorder: int,
) -> Run:
    shown = [i for i, image in enumerate(images) if image.shown]
    order = sorted(shown, key=times.__getitem__)
    ordered = [times[i] for i in order]
    if not order or len(set(ordered)) < len(ordered):
        raise NotIndexed("two frames with one time, or a run without a frame")
    if shown_until is not None and ordered[0] <= shown_until:
        raise NotIndexed("runs overlap in time")
    if order == shown:  # nothing is reordered
        return Run(packets, images, times, order)
    # The most frames that come earlier in the stream but are presented later, over all frames. A decoder that holds
    # back fewer would drop or misplace frames in a full decode too, and only a full decode can tell which.
    shown_before = 0
    rank = {position: rank for rank, position in enumerate(order)}
    for position in range(len(packets)):
        if position in rank:
            if shown_before - rank[position] > reorder:
                raise NotIndexed("frames are reordered deeper than the decoder expects")
            shown_before += 1
    return Run(packets, images, times, order)


def examiner(container: str, codec: str, extradata: bytes) -> Callable[[Packet[VideoStream]], Image]:
    """Pick what reads a stream's packets, by FFmpeg's names of format and decoder; NotIndexed where nothing can."""
    if codec in INTRA_CODECS and container in INTRA_CONTAINERS:
        return _intra
    if codec == "mpeg4" and container in INTRA_CONTAINERS:
        return lambda packet: _mpeg4(packet, extradata)
    if container not in CONTAINERS:
        raise NotIndexed(f"container {container}")
    if codec in ("h264", "hevc"):
        if extradata[:1] != b"\x01" or len(extradata) < 23:
            raise NotIndexed("packets without length fields")
        read, length = (_h264, extradata[4]) if codec == "h264" else (_hevc, extradata[21])
        width = (length & 3) + 1
        if width not in _LENGTHS:
            raise NotIndexed("length fields of three bytes")
        return lambda packet: read(packet, width, extradata)
    simple = {"vp8": _vp8, "vp9": _vp9, "libdav1d": _av1, "av1": _av1}
    if codec not in simple:
        raise NotIndexed(f"codec {codec}")
    return simple[codec]


def _intra(packet: Packet[VideoStream]) -> Image:
    if not packet.is_keyframe:
        raise NotIndexed("a dependent frame in an intra-only codec")
    return _image(fresh=True, shown=True, reference=True)


def _units(data: memoryview, width: int) -> Iterator[tuple[int, int]]:
    """Start and end of each NAL unit in a packet with length fields of `width` bytes."""
    at, size = 0, len(data)
    length = _LENGTHS[width]
    while at < size:
        start = at + width
        at = start + length(data, at)[0]
        if at > size or at - start < 3:
            raise NotIndexed("a damaged packet")
        yield start, at


def _parameters(data: memoryview, start: int, end: int, extradata: bytes) -> None:
    """Parameter sets inside the stream are fine as long as they repeat those that the decoder was set up with."""
    if bytes(data[start:end]) not in extradata:
        raise NotIndexed("the stream changes its parameters")


def _h264(packet: Packet[VideoStream], width: int, extradata: bytes) -> Image:
    """ITU-T H.264, 7.3.1 and 7.4.1: unit type and nal_ref_idc; a slice starts with first_mb_in_slice, ue(v)."""
    data = memoryview(packet)
    images, idr, reference, recovery = 0, False, False, packet.is_keyframe
    for start, end in _units(data, width):
        kind = data[start] & 31
        if kind in (1, 5):
            images += data[start + 1] >> 7  # 1 is the code of macroblock 0: the first slice of an image
            idr |= kind == 5
            reference |= data[start] & 0x60 != 0
        elif kind in (7, 8):
            _parameters(data, start, end, extradata)
        elif kind in (2, 3, 4):
            raise NotIndexed("data partitioning")
        elif kind == 6 and data[start + 1] == 6:
            recovery = True
    if images != 1:
        raise NotIndexed("a packet that is not one frame")
    return _image(idr, True, reference, recovery and not idr)


def _hevc(packet: Packet[VideoStream], width: int, extradata: bytes) -> Image:
    """ITU-T H.265, 7.3.1.2 and table 7-1: even types under 15 are not referred to within their temporal layer."""
    data = memoryview(packet)
    images, idr, irap, reference = 0, False, False, False
    for start, end in _units(data, width):
        kind, layer = data[start] >> 1 & 63, data[start + 1] & 7
        if kind < 32:
            first, discards = data[start + 2] >> 7, data[start + 2] >> 6 & 1
            if 16 <= kind <= 18 or (kind > 18 and discards):
                raise NotIndexed("a splice that drops frames")
            images += first
            idr |= kind in (19, 20)
            irap |= kind > 15
            reference |= kind > 14 or kind % 2 == 1 or layer != 1
        elif kind in (32, 33, 34):
            _parameters(data, start, end, extradata)
    if images != 1:
        raise NotIndexed("a packet that is not one frame")
    return _image(idr, True, reference, irap and not idr)


def _mpeg4(packet: Packet[VideoStream], extradata: bytes) -> Image:
    """ISO/IEC 14496-2, 6.2.5: a video object plane starts with its coding type, I, P, B or S.

    Without B nothing is reordered, and an I plane is a fresh start. A plane of a few bytes may be one that is "not
    coded", for which decoders give no frame.
    """
    data = bytes(packet)
    mark = data.find(b"\0\0\1\xb6")
    plane = mark + 4
    if mark < 0 or len(data) < plane + 9 or data[plane] >> 6 == 2 or data.find(b"\0\0\1\xb6", plane) >= 0:
        raise NotIndexed("B-frames, or a packet that is not one frame")
    for part in data[:mark].split(b"\0\0\1")[1:]:
        if 0x20 <= part[0] <= 0x2F and part not in extradata:
            raise NotIndexed("the stream changes its parameters")
    return _image(fresh=data[plane] >> 6 == 0, shown=True, reference=True)


def _vp8(packet: Packet[VideoStream]) -> Image:
    """RFC 6386, 9.1: the frame tag's first byte has the frame type and show_frame."""
    tag = memoryview(packet)[0]
    return _image(fresh=not tag & 1, shown=bool(tag >> 4 & 1), reference=True)


def _vp9(packet: Packet[VideoStream]) -> Image:
    """VP9 bitstream specification, 6.2 (uncompressed header) and annex B (frames in one packet, the last shown)."""
    data = memoryview(packet)
    head, several = data[0], data[-1] >> 5 == 6
    if head >> 6 != 2:
        raise NotIndexed("a damaged packet")
    flags = head & 15 if head >> 4 & 3 != 3 else (head & 7) << 1 | data[1] >> 7
    existing, inter, show = flags >> 3, flags >> 2 & 1, flags >> 1 & 1
    return _image(fresh=not existing and not inter, shown=several or bool(existing or show), reference=True)


def _av1(packet: Packet[VideoStream]) -> Image:
    """AV1 bitstream specification, 5.3 to 5.9: a shown key frame with its sequence header resets everything."""
    data = memoryview(packet)
    at, sequence = 0, False
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size, shift = (0, 0) if sized else (len(data) - at, 0)
        while sized:
            size |= (data[at] & 127) << shift
            shift += 7
            sized = data[at] >> 7
            at += 1
        sequence |= kind == 1
        if kind in (3, 6):  # frame header, frame
            return _image(fresh=sequence and data[at] >> 4 == 1, shown=True, reference=True)
        at += size
    raise NotIndexed("a packet without a frame")
