"""How much memory there is for large images, and how much an image takes."""

from __future__ import annotations

import contextlib
from pathlib import Path

# Of a decoded image and its copies on the way: a pixel takes 3 to 8 bytes in Pillow, 3 in each of two arrays.
PIXEL_BYTES = 16
# The workers together may decode images of so much of what is free.
SHARE = 0.5
FEWEST_PIXELS, MOST_PIXELS = 1 << 22, 1 << 25
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available() -> int:
    """Bytes that this process and its workers may still take: of the machine, or of its container where less."""
    found = [1 << 40]
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text()
        found.append(int(text.partition("MemAvailable:")[2].split()[0]) << 10)
    for most, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(Path(most).read_text()) - int(Path(used).read_text()))
    return max(min(found), 0)


def ordinary_pixels(workers: int) -> int:
    """Pixels of an image that every worker may decode at any time; larger ones are taken few at a time."""
    fair = int(available() * SHARE) // (PIXEL_BYTES * max(workers, 1))
    return min(max(fair, FEWEST_PIXELS), MOST_PIXELS)


def at_once(pixels: int, workers: int) -> int:
    """Images of so many pixels that may be decoded at the same time; one at least."""
    return min(max(int(available() * SHARE) // (PIXEL_BYTES * pixels), 1), max(workers, 1))
