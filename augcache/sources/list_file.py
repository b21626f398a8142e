"""List files: a path and perhaps a label on each line."""

from __future__ import annotations

import csv
import io
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from augcache.errors import SourceError, SourceWarning
from augcache.sources.annotations import file_item, is_there
from augcache.sources.items import FileItem, Images
from augcache.sources.list_labels import is_bits, is_header, is_integer, label_column, why_not_one
from augcache.sources.regular import open_regular

SUFFIXES = (".txt", ".lst", ".csv", ".tsv")
_LONGEST_LINE = 1 << 16


class ListFile(Images):
    """The images that a text file lists, sorted by name.

    Parameters
    ----------
    file : path-like
        .csv (commas) and .tsv (tabs): path, label and anything after. A first line that starts with "path",
        "filename", "image_id", "img_path" or the like is a header; the label is then the column "label", "class",
        "target" or "category". Any other: a path a line, or a path, spaces and a label of one word; empty lines and
        those that start with # are passed over.
    root : path-like, optional
        What the paths are relative to; default the list's own folder.

    Raises
    ------
    SourceError
        If the file cannot be read, is empty, names nothing that is there, or gives an image two labels.

    Notes
    -----
    Labels that are integers are the targets as they are; else the classes are all labels, sorted. A list with
    several labels for an image, a column for each class, or measures has no targets and no labels, with a warning.
    """

    def __init__(self, file: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
        self.file = Path(file)
        self.root = self.file.parent if root is None else Path(root)
        self._listed, why_none = self._read()
        if not self._listed:
            raise SourceError(f"{self.file}: a file, not a folder; and as a list it is empty: give a path a line")
        # A list of millions is not looked through; one of which nothing is there is no list, or of another folder.
        some = list(itertools.islice(self._listed, 1000))
        if not any(is_there(self.root / name) for name in some):
            raise SourceError(
                f"{self.file}: a file, not a folder; and as a list it names no file that is there, such as {some[0]!r}"
            )
        if why_none:
            self._listed = dict.fromkeys(self._listed, "")
            warnings.warn(
                f"{self.file}: {why_none}: there are no targets; give a list of paths and labels, or for training wrap "
                "a dataset that has the labels (HashedSaliencyDataset), which then pass through",
                SourceWarning,
                stacklevel=2,
            )
        labels = set(self._listed.values()) - {""}
        self._classes = None if not labels or all(map(is_integer, labels)) else tuple(sorted(labels))
        self._numbers = {label: int(label) for label in labels} if self._classes is None else {
            label: number for number, label in enumerate(self._classes)
        }  # fmt: skip  # a line a branch

    @property
    def classes(self) -> tuple[str, ...] | None:
        """All labels, sorted; None where they are integers, which are targets as they are, or there are none."""
        return self._classes

    def _read(self) -> tuple[dict[str, str], str]:
        """Read names and labels; and why the labels are no classes, where they are none."""
        listed: dict[str, str] = {}
        header: list[str] = []
        column: int | None = 1
        bits = True
        for count, (number, cells) in enumerate(self._rows()):
            if count == 0 and is_header(cells):
                header, column = cells, label_column(cells)
                continue
            bits = bits and len(cells) > 2 and is_bits(cells[1:])
            label = "" if column is None or column >= len(cells) else cells[column]
            if listed.setdefault(cells[0], label) != label:
                raise SourceError(
                    f"{self.file}, line {number}: {cells[0]} has two labels, {listed[cells[0]]} and {label}"
                )
        return listed, why_not_one(listed.values(), header, bits=bits and bool(listed))

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        separator = {".csv": ",", ".tsv": "\t"}.get(self.file.suffix.lower())
        try:
            opened = open_regular(self.file)
        except SourceError as error:
            raise SourceError(f"{self.file}: {error}") from error
        try:
            with io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
                if separator is None:
                    yield from (
                        (number, self._split(line.strip()))
                        for number, line in enumerate(_lines_of(file), 1)
                        if line.strip() and not line.startswith("#")
                    )
                    return
                rows = csv.reader(_lines_of(file), delimiter=separator)
                for row in rows:
                    if row and row[0].strip():
                        yield rows.line_num, [cell.strip() for cell in row]
        except OSError as error:
            raise SourceError(f"{self.file}: cannot be read ({error.strerror})") from error
        except (csv.Error, ValueError) as error:
            raise SourceError(f"{self.file}: not a list of images ({error})") from error

    def _split(self, line: str) -> list[str]:
        name, _, label = (part.strip() for part in line.replace("\t", " ").rpartition(" "))
        # A path may have spaces in it, so what is there decides.
        return [line, ""] if not name or is_there(self.root / line) else [name, label]

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[FileItem]:
        return self.some(lambda _: True)

    def names(self) -> Iterator[str]:
        """Names, without a look at the files."""
        return iter(sorted(self._listed, key=os.fsencode))

    def some(self, wanted: Callable[[str], bool]) -> Iterator[FileItem]:
        """Items of the wanted names."""
        for name in filter(wanted, self.names()):
            label = self._listed[name]
            yield replace(file_item(self.root / name, name, label), target=self._numbers.get(label))

    def __repr__(self) -> str:
        return f"ListFile({str(self.file)!r})"


def _lines_of(file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of {_LONGEST_LINE} characters or more")
        yield line
