"""Frames of a video by their exact index: the only file that imports a video library.

Frame k is the k-th frame that a full decode of the video presents. What may be left undecoded on the way to it is
decided in `augcache.video.index`; where that cannot be proven, everything from the start is decoded and counted. Damage
in a frame that no wanted frame needs goes unseen, and such a frame still counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from augcache.errors import SourceError
from augcache.video.convert import Converter
from augcache.video.index import NotIndexed
from augcache.video.routes import Stopped, has_rule, indexed, reason, sequential
from augcache.video.sampling import Picker, Sampling

if TYPE_CHECKING:
    from av.container import InputContainer
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
        0, 90, 180 or 270: degrees clockwise that the image was turned by, because the video says so.
    image : ndarray, uint8, (H, W, 3)
        RGB, turned; C-contiguous.
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
        A video file. Its first video stream that is not a cover image is read.
    sampling : Sampling
        Which frames.
    size : (width, height), optional
        Size of the images as they are shown, that is after turning; their own size if left out.
    fit : {"stretch", "crop", "pad"}
        How an image of another shape is made to fit: ignore the shape, cover the size and crop the middle, or stay
        inside it with black borders.
    progress : callable, optional
        Called after each packet that was decoded, wanted or not.

    Yields
    ------
    Frame
        Scaled as cv2's INTER_AREA scales the frame of native size, to 45 dB and more. Non-square pixels and interlaced
        fields stay as they are coded.

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
            may_skip = first_try and not sampling.wants_all and has_rule(container, stream)
            way = indexed if may_skip else sequential
            try:
                for index, seconds, image in way(container, stream, Picker(sampling), progress):
                    if index > last:
                        yield Frame(index, seconds, *convert(image))
                        given, last = given + 1, index
                return
            except (NotIndexed, av.error.FFmpegError) as error:
                # Frames given so far are proven; the rest is found by a full decode.
                if way is sequential:
                    raise VideoError(f"{path}: {reason(error)}; {_count(given)} read before that", given) from error
            except Stopped as stop:
                raise VideoError(f"{path}: {stop}; {_count(given)} read before that", given) from stop.__cause__


def _count(given: int) -> str:
    return f"{given or 'no'} wanted frame{'s' * (given != 1)} {'was' if given == 1 else 'were'}"


def _open(path: Path) -> InputContainer:
    import av
    import av.error

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise VideoError(f"{path}: not a regular file")
        if status.st_size == 0:
            raise VideoError(f"{path}: the file is empty")
        # "file:" keeps a colon in a name from being read as a protocol, and a playlist away from the network.
        container: InputContainer = av.open(f"file:{path}", **_any_metadata())
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: it cannot be opened as a video ({reason(error)})") from error
    if container.format.name == "tty":  # FFmpeg plays any .txt file as a film of its letters
        container.close()
        raise VideoError(f"{path}: a text file, not a video")
    return container


def _any_metadata() -> dict[str, Any]:
    """Arguments of `av.open` that let metadata be of any bytes; from PyAV 19 on it does so by itself and takes none."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


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
