"""One job, every Nth frame of a video at a size or its own, done with each library; those not installed are left out.

torchcodec needs FFmpeg's shared libraries on the system (on LD_LIBRARY_PATH).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1")

SIZE = (64, 64)
Size = tuple[int, int] | None  # None for the video's own
Frames = list[np.ndarray]


def augcache(path: Path, every: int, size: Size = SIZE) -> Frames:
    from augcache.video.read import Sampling, decode

    return [frame.image for frame in decode(path, Sampling(every=every), size)]


def floor(path: Path, every: int, size: Size = SIZE) -> Frames:
    """Decode only what must be decoded, and convert nothing."""
    from augcache.video import read

    class Nothing:
        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, _: object) -> tuple[int, None]:
            return 0, None

    kept, read.Converter = read.Converter, Nothing
    try:
        return [frame.image for frame in read.decode(path, read.Sampling(every=every), size)]
    finally:
        read.Converter = kept


def pyav(path: Path, every: int, size: Size = SIZE) -> Frames:
    """Decode everything in order, convert every Nth frame, with one kept scaler and PyAV's default filter."""
    return _pyav(path, every, None, size)


def pyav_area(path: Path, every: int, size: Size = SIZE) -> Frames:
    """Do as `pyav`, but average over areas, with whole chroma: what it takes to come near to the full decode."""
    from av.video.reformatter import Interpolation as Filter

    return _pyav(path, every, int(Filter.AREA | Filter.FULL_CHR_H_INT | Filter.ACCURATE_RND), size)


def _pyav(path: Path, every: int, interpolation: int | None, size: Size) -> Frames:
    import av
    from av.video.reformatter import VideoReformatter

    frames, scaler = [], VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for i, frame in enumerate(container.decode(stream)):
            if i % every == 0:
                to = size or (frame.width, frame.height)
                small = scaler.reformat(frame, *to, format="rgb24", interpolation=interpolation, threads=1)
                frames.append(small.to_ndarray())
    return frames


def decord(path: Path, every: int, size: Size = SIZE) -> Frames:
    import decord as library

    width, height = size or (-1, -1)
    reader = library.VideoReader(str(path), width=width, height=height, num_threads=1)
    return list(reader.get_batch(range(0, len(reader), every)).asnumpy())


def torchcodec(path: Path, every: int, size: Size = SIZE) -> Frames:
    return _torchcodec(path, every, "exact", size)


def torchcodec_approximate(path: Path, every: int, size: Size = SIZE) -> Frames:
    return _torchcodec(path, every, "approximate", size)


def _torchcodec(path: Path, every: int, mode: str, size: Size) -> Frames:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    transforms = [Resize(size)] if size else None
    decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode=mode, transforms=transforms)
    return list(decoder.get_frames_in_range(0, len(decoder), step=every).data.numpy())


def opencv(path: Path, every: int, size: Size = SIZE) -> Frames:
    import cv2

    cv2.setNumThreads(1)
    capture, frames, i = cv2.VideoCapture(str(path)), [], 0
    while capture.grab():
        if i % every == 0:
            _, image = capture.retrieve()
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if size else image
            frames.append(small[..., ::-1])
        i += 1
    return frames


def peers() -> dict[str, Callable[..., Frames]]:
    """Peers that can be imported here, by name."""
    found: dict[str, Callable[..., Frames]] = {"augcache": augcache, "floor": floor}
    found |= {"PyAV in order": pyav, "the same, area filter": pyav_area}
    if importlib.util.find_spec("decord"):
        found["decord get_batch"] = decord
    if importlib.util.find_spec("torchcodec"):
        try:
            importlib.import_module("torchcodec.decoders")

            found |= {"torchcodec exact": torchcodec, "torchcodec approximate": torchcodec_approximate}
        except (RuntimeError, OSError) as error:
            print(f"torchcodec is left out: {str(error).splitlines()[0]}")
    if importlib.util.find_spec("cv2"):
        found["OpenCV grab"] = opencv
    return found
