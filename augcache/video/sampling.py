"""Which frames of a video are wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from augcache.errors import SourceError


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are wanted. Exactly one of `every`, `seconds` and `keyframes` is given.

    Parameters
    ----------
    every : int, optional
        Frames 0, every, 2 * every, ... counted from the first frame of the video, whatever `start` is.
    seconds : float, optional
        The first frame at or after each of 0, seconds, 2 * seconds, ...
    keyframes : bool
        The frames that the decoder reports as key frames.
    start, end : float, optional
        Only frames with start <= time < end, in seconds since the first frame.
    max_frames : int, optional
        Stop after that many frames.
    anchors : int
        With `every`: each of those frames is an anchor, and so many successors of it are wanted too.
    gap : int
        Distance in frames from an anchor to its first successor, and from each to the next.

    Raises
    ------
    SourceError
        A value is out of range, or they contradict each other.
    """

    every: int | None = None
    seconds: float | None = None
    keyframes: bool = False
    start: float | None = None
    end: float | None = None
    max_frames: int | None = None
    anchors: int = 0
    gap: int = 1

    def __post_init__(self) -> None:
        ways = (self.every is not None) + (self.seconds is not None) + bool(self.keyframes)
        if ways != 1:
            raise SourceError("say which frames are wanted by exactly one of every, seconds and keyframes")
        for name, least in (("every", 1), ("max_frames", 1), ("anchors", 0), ("gap", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise SourceError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise SourceError(f"seconds must be above 0, not {self.seconds!r}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SourceError(f"{name} must be a time of at least 0 seconds, not {value!r}")
        if self.end is not None and self.end <= (self.start or 0):
            raise SourceError(f"end ({self.end}) must be after start ({self.start or 0})")
        if self.anchors and self.every is None:
            raise SourceError("anchors need every: an anchor every that many frames")

    @property
    def wants_all(self) -> bool:
        """Whether every frame is wanted from the first on."""
        return self.every == 1 and not self.start


class Picker:
    """Goes through the frames of a video in order and says which are wanted."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.taken = 0
        self.done = False
        step = sampling.seconds
        self.due = math.ceil((sampling.start or 0) / step) * step if step else 0.0

    def wants(self, index: int, seconds: float, key: bool) -> bool:
        """Say whether the next frame, with this index, time and kind, is wanted."""
        s = self.sampling
        if s.end is not None and seconds >= s.end:
            self.done = True
        if self.done or (s.start is not None and seconds < s.start):
            return False
        if s.every is not None:
            hit = index % s.every == 0 or (s.anchors > 0 and self._follows(index))
        elif s.seconds is not None:
            hit = seconds + 1e-6 >= self.due  # time stamps are rounded to the container's time base
            if hit:
                self.due = (math.floor((seconds + 1e-6) / s.seconds) + 1) * s.seconds
        else:
            hit = key
        self.taken += hit
        self.done = self.taken == s.max_frames
        return hit

    def none_of(self, index: int, count: int) -> bool:
        """Whether the next frames, `count` from `index` on, are proven unwanted by their numbers alone."""
        s = self.sampling
        # With an end, the first frame after it has to be noticed, wanted or not: nothing is read beyond that.
        return s.every is not None and not s.anchors and s.end is None and -index % s.every >= count

    def _follows(self, index: int) -> bool:
        s = self.sampling
        assert s.every is not None
        return any(index >= i * s.gap and (index - i * s.gap) % s.every == 0 for i in range(1, s.anchors + 1))
