"""One job, every Nth frame of a video at a size, done with each library; those not installed are left out.

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
Frames = list[np.ndarray]


def augcache(path: Path, every: int) -> Frames:
    from augcache.video import Sampling, decode

    return [frame.image for frame in decode(path, Sampling(every=every), SIZE)]


def floor(path: Path, every: int) -> Frames:
    """Decode only what must be decoded, and convert nothing."""
    from augcache import video

    class Nothing:
        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, _: object) -> tuple[int, None]:
            return 0, None

    kept, video.Converter = video.Converter, Nothing
    try:
        return [frame.image for frame in video.decode(path, video.Sampling(every=every), SIZE)]
    finally:
        video.Converter = kept


def pyav(path: Path, every: int) -> Frames:
    """Decode everything in order, convert every Nth frame, with one kept scaler and PyAV's default filter."""
    return _pyav(path, every, None)


def pyav_area(path: Path, every: int) -> Frames:
    """Do as `pyav`, but average over areas, with whole chroma: what it takes to come near to the full decode."""
    from av.video.reformatter import Interpolation as Filter

    return _pyav(path, every, int(Filter.AREA | Filter.FULL_CHR_H_INT | Filter.ACCURATE_RND))


def _pyav(path: Path, every: int, interpolation: int | None) -> Frames:
    import av
    from av.video.reformatter import VideoReformatter

    frames, scaler = [], VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for i, frame in enumerate(container.decode(stream)):
            if i % every == 0:
                small = scaler.reformat(frame, *SIZE, format="rgb24", interpolation=interpolation, threads=1)
                frames.append(small.to_ndarray())
    return frames


def decord(path: Path, every: int) -> Frames:
    import decord as library

    reader = library.VideoReader(str(path), width=SIZE[0], height=SIZE[1], num_threads=1)
    return list(reader.get_batch(range(0, len(reader), every)).asnumpy())


def torchcodec(path: Path, every: int) -> Frames:
    return _torchcodec(path, every, "exact")


def torchcodec_approximate(path: Path, every: int) -> Frames:
    return _torchcodec(path, every, "approximate")


def _torchcodec(path: Path, every: int, mode: str) -> Frames:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode=mode, transforms=[Resize(SIZE)])
    return list(decoder.get_frames_in_range(0, len(decoder), step=every).data.numpy())


def opencv(path: Path, every: int) -> Frames:
    import cv2

    cv2.setNumThreads(1)
    capture, frames, i = cv2.VideoCapture(str(path)), [], 0
    while capture.grab():
        if i % every == 0:
            _, image = capture.retrieve()
            frames.append(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)[..., ::-1])
        i += 1
    return frames


def peers() -> dict[str, Callable[[Path, int], Frames]]:
    """Peers that can be imported here, by name."""
    found: dict[str, Callable[[Path, int], Frames]] = {"augcache": augcache, "floor": floor}
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
