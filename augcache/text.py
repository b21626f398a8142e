"""Sizes, durations, dates, rates and names as people read them."""

from __future__ import annotations

import os
import time


def printable(text: str) -> str:
    r"""Return a text in one line that any terminal can show; what is printed of a store or source goes through it.

    Line ends, tabs, control characters, characters that turn the direction of writing, and bytes that are no text come
    out as Python writes them: ``\n``, ``\x1b``, ``\udcff``.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def size_text(count: float) -> str:
    """Say a number of bytes: ``3.2 MB``; units are powers of 1000, as disks have them."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """Say a duration: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``5 h 12 min``."""
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def date_text(nanoseconds: int) -> str:
    """Say a time since 1970 as local date and time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds // 10**9))
    except (OverflowError, ValueError, OSError):
        return "at no known time"  # a stranger's store may say anything


def pace_text(done: int, left: int, seconds: float) -> str:
    """Say how fast a run goes and what is left: ``3.2/s, about 5 min 10 s left``; nothing where nothing is done."""
    if done <= 0 or seconds <= 0:
        return ""
    rate = done / seconds
    pace = f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/min"
    return pace + (f", about {duration_text(left / rate)} left" if left > 0 else "")


def short_path(path: str | os.PathLike[str]) -> str:
    """Return a path as one would type it here: relative where it lies below the current folder."""
    full, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(full, here) if full.startswith(here.rstrip(os.sep) + os.sep) else os.fspath(path)
