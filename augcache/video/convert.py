"""From a decoder's image to an RGB array of the size that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from augcache.video.routes import Stopped, reason

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane
    from av.video.reformatter import VideoReformatter

QUICK = {"yuv420p", "yuvj420p"}  # formats of nearly all videos, which libswscale has a way of its own for
# Of AVColorSpace: what ITU-T H.273 has no meaning for, and what libswscale cannot convert from.
RESERVED, UNSPECIFIED = 3, 2
UNKNOWN = {
    8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 12: "derived from the primaries",
    13: "derived from the primaries, with constant luminance", 14: "ICtCp", 15: "IPT-PQ-C2", 16: "YCgCo-Re",
    17: "YCgCo-Ro",
}  # fmt: skip  # a table
SWAPPED = {"rgb565be", "rgb555be", "bgr565be", "bgr555be"}  # some libswscale 9 take their bytes in the wrong order


class Converter:
    """Turns, scales and fits images; keeps the scalers' tables from one image to the next.

    Parameters
    ----------
    size : (width, height) or None
        None keeps an image's own size.
    fit : {"stretch", "crop", "pad"}
    """

    def __init__(self, size: tuple[int, int] | None, fit: str) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self.size = size
        self.fit = fit
        self._orientations: dict[int, tuple[int, bool, tuple[bool, bool]]] = {}
        self._plain = VideoReformatter()
        self._swapped = VideoReformatter()
        self._scaler = VideoReformatter()
        self._planes = [VideoReformatter() for _ in range(3)]
        self._doubled = VideoReformatter()
        self._filter = int(Interpolation.AREA | Interpolation.ACCURATE_RND)
        self._chroma_filter = int(Interpolation.BICUBIC)  # what the ffmpeg program has

    def __call__(self, frame: VideoFrame) -> tuple[int, NDArray[np.uint8]]:
        """Degrees clockwise by which the image was turned, and the image, uint8 (H, W, 3), C-contiguous."""
        turned = frame.rotation
        if turned not in self._orientations:
            # Not for every frame: a frame whose side data was looked at is freed by the garbage collector only, and
            # large frames pile up until then.
            self._orientations[turned] = _orientation(frame)
        rotation, swap, flips = self._orientations[turned]
        from av.error import FFmpegError

        try:
            return rotation, self._fitted(_as_coded(frame), swap, flips)
        except FFmpegError as error:
            raise Stopped(f"a frame of the format {frame.format.name} is not converted ({reason(error)})") from error

    def _fitted(self, frame: VideoFrame, swap: bool, flips: tuple[bool, bool]) -> NDArray[np.uint8]:
        if self.size is None:
            return _turn(self._rgb(frame), swap, flips)
        shown = (frame.height, frame.width) if swap else (frame.width, frame.height)
        width, height = _inner(shown, self.size, self.fit)
        image = _turn(self._scaled(frame, *((height, width) if swap else (width, height))), swap, flips)
        return _place(image, self.size) if (width, height) != self.size else image

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert as the ffmpeg program does to rgb24, bit for bit; the lines may be padded."""
        if frame.format.name in SWAPPED:
            frame = self._swapped.reformat(frame, format=frame.format.name.replace("be", "le"), threads=1)
        return _array(self._plain.reformat(frame, format="rgb24", interpolation=self._chroma_filter, threads=1))

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """Average the frame of native size, in RGB, over areas; or what comes to the same.

        To scale a frame before it becomes RGB gives the same to 46 dB and more, in a third of the time, but for chroma
        that is coarser in other ways, and scaling by less than half.
        """
        if 2 * width <= frame.width and 2 * height <= frame.height:
            if frame.format.name in QUICK:
                return self._scaled_420(frame, width, height)
            if not frame.format.is_rgb and frame.format.chroma_width(4) == frame.format.chroma_height(4) == 4:
                small = self._scale(self._scaler, frame, width, height, "rgb24")
                return _array(small).copy()  # lets go of the decoder's frame, which is larger
        return _average(self._rgb(frame), width, height)

    def _scaled_420(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """Scale each plane of a frame of `QUICK` by itself, and convert it as whole frames of its kind are.

        libswscale's way from 4:2:0 to RGB rounds otherwise than its other ways, by up to two levels, and takes chroma
        as it lies; scaled as one, a frame's chroma would be moved to where its metadata says.
        """
        doubled = type(frame)(2 * width, 2 * height, frame.format.name)
        doubled.colorspace, doubled.color_range = frame.colorspace, frame.color_range
        for plane, to, scaler in zip(frame.planes, doubled.planes, self._planes, strict=True):
            grey = type(frame).from_numpy_buffer(_plane(plane), "gray8")
            _plane(to)[...] = _plane(self._scale(scaler, grey, to.width, to.height, "gray8").planes[0])
        return _average(_array(self._doubled.reformat(doubled, format="rgb24", threads=1)), width, height)

    def _scale(self, scaler: VideoReformatter, frame: VideoFrame, width: int, height: int, name: str) -> VideoFrame:
        return scaler.reformat(frame, width, height, format=name, interpolation=self._filter, threads=1)


def _as_coded(frame: VideoFrame) -> VideoFrame:
    """Leave out what the ffmpeg program does not heed: fields, and where chroma lies."""
    if frame.colorspace in UNKNOWN:
        raise Stopped(f"the matrix of its colours ({UNKNOWN[frame.colorspace]}) is none that FFmpeg converts to RGB")
    if frame.colorspace == RESERVED:
        frame.colorspace = UNSPECIFIED
    kind = frame.format
    even = kind.name in QUICK and frame.height % 2 == 0
    if not frame.interlaced_frame and (even or kind.chroma_width(4) == kind.chroma_height(4) == 4):
        return frame  # it would make no difference
    copy = type(frame)(frame.width, frame.height, kind.name)
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    for plane, to in zip(frame.planes, copy.planes, strict=True):
        lines, own = _lines(plane), _lines(to)
        length = min(lines.shape[1], own.shape[1])
        own[:, :length] = lines[:, :length]
    return copy


def _lines(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return the bytes of a plane by lines, the top one first, with their padding."""
    lines = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    return lines if plane.line_size > 0 else lines[::-1]


def _average(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    import cv2  # takes a tenth of a second, and frames of native size do without

    return cast("NDArray[np.uint8]", cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return the samples of a plane of bytes, without the padding of its lines."""
    return _lines(plane)[: plane.height, : plane.width]


def _array(frame: VideoFrame) -> NDArray[np.uint8]:
    return cast("NDArray[np.uint8]", frame.to_ndarray())


def _inner(shown: tuple[int, int], size: tuple[int, int], fit: str) -> tuple[int, int]:
    """Width and height to scale to before cropping or padding to `size`."""
    if fit == "stretch":
        return size
    ratios = [size[0] / shown[0], size[1] / shown[1]]
    ratio = max(ratios) if fit == "crop" else min(ratios)
    limit = max if fit == "crop" else min
    width, height = (limit(side, max(1, round(ratio * own))) for side, own in zip(size, shown, strict=True))
    return width, height


def _place(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut the middle out of an image that is too large; put one that is too small on black."""
    height, width = image.shape[:2]
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    cut = image[max(top, 0) : max(top, 0) + size[1], max(left, 0) : max(left, 0) + size[0]]
    if cut.shape[:2] == (size[1], size[0]):
        return np.ascontiguousarray(cut)
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    y, x = (size[1] - cut.shape[0]) // 2, (size[0] - cut.shape[1]) // 2
    canvas[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return canvas


def _orientation(frame: VideoFrame) -> tuple[int, bool, tuple[bool, bool]]:
    """Clockwise rotation, whether the axes swap, and whether x and y then flip; of a display matrix to the nearest 90.

    FFmpeg's libavutil/display.h: a pixel (p, q) is shown at (a p + c q, b p + d q), matrix a b u c d v x y w.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, False, (False, False)
    a, b, _, c, d = np.frombuffer(bytes(matrix), "=i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (180 if a < 0 else 0), False, (a < 0, d < 0)
    return (90 if b > 0 else 270), True, (c < 0, b < 0)


def _turn(image: NDArray[np.uint8], swap: bool, flips: tuple[bool, bool]) -> NDArray[np.uint8]:
    if swap:
        image = image.transpose(1, 0, 2)
    if flips[0]:
        image = image[:, ::-1]
    if flips[1]:
        image = image[::-1]
    return np.ascontiguousarray(image)
