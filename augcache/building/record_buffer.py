"""Records on their way from a worker: in memory while they are few, in a file when they are many."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping

from augcache.images.keys import ContentKey

IN_MEMORY = 1 << 24  # bytes; a worker's result of more would be held several times over on its way


class RecordBuffer(Mapping[ContentKey, bytes]):
    """Encoded records by key. The worker adds, the parent reads and discards; it pickles as what is in memory.

    Parameters
    ----------
    folder : str or None
        Where the file goes, once there is more than `IN_MEMORY`. None keeps all in memory, for workers elsewhere.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._path: str | None = None
        self._memory: dict[ContentKey, bytes] = {}
        self._places: dict[ContentKey, tuple[int, int]] = {}
        self._bytes = self._end = 0

    def add(self, key: ContentKey, data: bytes) -> None:
        """Add a record; a key that is there already keeps its first."""
        if key in self._memory or key in self._places:
            return
        self._memory[key] = data
        self._bytes += len(data)
        if self._folder is not None and self._bytes > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            handle, self._path = tempfile.mkstemp(dir=self._folder)
            os.close(handle)
        with open(self._path, "ab") as file:
            for key, data in self._memory.items():
                self._places[key] = (self._end, len(data))
                self._end += file.write(data)
        self._memory, self._bytes = {}, 0

    def discard(self) -> None:
        """Delete the file."""
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

    def __getitem__(self, key: ContentKey) -> bytes:
        if key in self._memory:
            return self._memory[key]
        start, length = self._places[key]
        assert self._path is not None  # places are in the file
        with open(self._path, "rb") as file:
            file.seek(start)
            return file.read(length)

    def __iter__(self) -> Iterator[ContentKey]:
        yield from self._places
        yield from self._memory

    def __len__(self) -> int:
        return len(self._places) + len(self._memory)
