"""Exit codes of the command line, and the one way in which it says something."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

from augcache.text import printable

OK, ERROR, USAGE, BUG, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def say(text: str) -> None:
    """Print a message on stderr: in one line, which a terminal shows in as many as it needs."""
    show(text, sys.stderr)


def show(text: str, stream: TextIO) -> None:
    """Print one line; on a terminal, broken between words where it is too long, and never inside one."""
    width = _columns(stream)
    print(printable(text) if width is None else "\n".join(broken(printable(text), width)), file=stream)


def broken(line: str, width: int) -> list[str]:
    """Break a line between words; a word of more columns than there are has a line of its own."""
    words = line.split(" ")
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    lines = [words[0]]
    for word in words[1:]:
        if lines[-1].strip() and _cells(f"{lines[-1]} {word}") > width:
            lines.append(indent + word)
        else:
            lines[-1] += " " + word
    return lines


def _cells(text: str) -> int:
    """Columns that a text takes: wide characters two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _columns(stream: TextIO) -> int | None:
    """Width of a terminal; None for a pipe, a file, and a terminal that does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None
