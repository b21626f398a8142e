"""List files: a path and perhaps a label on each line."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from augcache.errors import SourceError
from augcache.sources.annotations import file_item, is_there
from augcache.sources.items import FileItem, Images
from augcache.sources.regular import open_regular

SUFFIXES = (".txt", ".lst", ".csv", ".tsv")
_LONGEST_LINE = 1 << 16
_HEADERS = ("path", "file", "filename", "file_name", "image")


class ListFile(Images):
    """The images that a text file lists, sorted by name.

    Parameters
    ----------
    file : path-like
        .csv (commas) and .tsv (tabs): path, label and anything after; a first line that starts with "path", "file",
        "filename", "file_name" or "image" is a header. Any other: a path a line, or a path, spaces and a label of one
        word; empty lines and those that start with # are passed over.
    root : path-like, optional
        What the paths are relative to; default the list's own folder.

    Raises
    ------
    SourceError
        If the file cannot be read, is empty, names nothing that is there, or gives an image two labels.
    """

    def __init__(self, file: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
        self.file = Path(file)
        self.root = self.file.parent if root is None else Path(root)
        self._listed: dict[str, str] = {}
        for number, name, label in self._lines():
            if self._listed.setdefault(name, label) != label:
                raise SourceError(
                    f"{self.file}, line {number}: {name} has two labels, {self._listed[name]} and {label}"
                )
        if not self._listed:
            raise SourceError(f"{self.file}: a file, not a folder; and as a list it is empty: give a path a line")
        # A list of millions is not looked through; one of which nothing is there is no list, or of another folder.
        some = list(itertools.islice(self._listed, 1000))
        if not any(is_there(self.root / name) for name in some):
            raise SourceError(
                f"{self.file}: a file, not a folder; and as a list it names no file that is there, such as {some[0]!r}"
            )

    def _lines(self) -> Iterator[tuple[int, str, str]]:
        separator = {".csv": ",", ".tsv": "\t"}.get(self.file.suffix.lower())
        try:
            opened = open_regular(self.file)
        except SourceError as error:
            raise SourceError(f"{self.file}: {error}") from error
        try:
            with io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
                if separator is None:
                    yield from (
                        (number, *self._split(line.strip()))
                        for number, line in enumerate(_lines_of(file), 1)
                        if line.strip() and not line.startswith("#")
                    )
                    return
                rows = csv.reader(_lines_of(file), delimiter=separator)
                for row in rows:
                    if row and row[0] and not (rows.line_num == 1 and row[0].strip().lower() in _HEADERS):
                        yield rows.line_num, row[0].strip(), row[1].strip() if len(row) > 1 else ""
        except OSError as error:
            raise SourceError(f"{self.file}: cannot be read ({error.strerror})") from error
        except (csv.Error, ValueError) as error:
            raise SourceError(f"{self.file}: not a list of images ({error})") from error

    def _split(self, line: str) -> tuple[str, str]:
        name, _, label = (part.strip() for part in line.replace("\t", " ").rpartition(" "))
        # A path may have spaces in it, so what is there decides.
        return (line, "") if not name or is_there(self.root / line) else (name, label)

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[FileItem]:
        return self.some(lambda _: True)

    def names(self) -> Iterator[str]:
        """Names, without a look at the files."""
        return iter(sorted(self._listed, key=os.fsencode))

    def some(self, wanted: Callable[[str], bool]) -> Iterator[FileItem]:
        """Items of the wanted names."""
        return (file_item(self.root / name, name, self._listed[name]) for name in self.names() if wanted(name))

    def __repr__(self) -> str:
        return f"ListFile({str(self.file)!r})"


def _lines_of(file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of {_LONGEST_LINE} characters or more")
        yield line
