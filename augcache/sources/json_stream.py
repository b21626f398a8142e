"""Members of a JSON object, one element at a time: an annotation file of gigabytes must not be held whole."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from augcache.errors import SourceError
from augcache.sources.regular import open_regular

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_LARGEST_ELEMENT = 1 << 28  # characters; one element beyond this is no annotation


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ``(key, element)`` for each element of each array that is a member of the file's object.

    Members that are no arrays are passed over.

    Raises
    ------
    SourceError
        If the file cannot be read or is no JSON object.
    """
    try:
        opened = open_regular(path)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    try:
        with io.TextIOWrapper(opened, encoding="utf-8") as file:
            yield from _Reader(file).members()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not a JSON file of annotations ({error})") from error


class _Reader:
    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.at, self.ended = file, "", 0, False
        self.decoder = json.JSONDecoder()

    def members(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        while self._next() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise ValueError("a key that is no text")
            self._expect(":")
            if self._next() == "[":
                for element in self._array():
                    yield key, element
            else:
                self._value()
            self._comma("}")

    def _array(self) -> Iterator[Any]:
        self.at += 1
        while self._next() != "]":
            yield self._value()
            self._comma("]")
        self.at += 1

    def _comma(self, closing: str) -> None:
        if self._next() == ",":
            self.at += 1
        elif self._next() != closing:
            raise ValueError(f"{self._next()!r} where a comma or {closing} belongs")

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(f"{self._next()!r} where {character} belongs")
        self.at += 1

    def _next(self) -> str:
        """Next character that is no space, left where it is."""
        while True:
            match = _SPACE.match(self.text, self.at)
            assert match is not None  # it matches nothing at least
            self.at = match.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read(_CHUNK):
                raise ValueError("it ends too early")

    def _value(self) -> Any:
        self._next()
        step = _CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except ValueError:
                if len(self.text) - self.at > _LARGEST_ELEMENT or not self._read(step):
                    raise
            else:
                # A number at the end of what was read may go on.
                if end < len(self.text) or not self._read(step):
                    self.at = end
                    return value
            step *= 2

    def _read(self, size: int) -> bool:
        chunk = self.file.read(size)
        self.text, self.at = self.text[self.at :] + chunk, 0
        return bool(chunk)
